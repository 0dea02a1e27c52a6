import keras
import numpy as np
import pytest
from scipy.spatial.distance import pdist

from kls.analysis.projection import project_onto_templates, template_plane

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(16, 10))
FEATURES = RNG.normal(size=(50, 16))
CLASSES = (7, 2, 4)
TEMPLATES = KERNEL[:, CLASSES].T


def in_the_plane(count=20):
    """Points of the plane: mixtures of the three templates with weights that sum to 1, some negative."""
    weights = RNG.normal(size=(count, 3))
    return (weights + (1 - weights.sum(axis=1, keepdims=True)) / 3) @ TEMPLATES


def test_the_basis_is_orthonormal_and_the_plane_crosses_the_templates():
    origin, basis = template_plane(KERNEL, CLASSES)
    np.testing.assert_allclose(basis.T @ basis, np.eye(2), atol=1e-12)
    offsets = TEMPLATES - origin
    np.testing.assert_allclose(offsets @ basis @ basis.T, offsets, atol=1e-12)
    np.testing.assert_allclose(offsets.sum(axis=0), 0, atol=1e-12)


def test_distances_within_the_plane_are_kept():
    points = np.concatenate([TEMPLATES, in_the_plane()])
    np.testing.assert_allclose(pdist(project_onto_templates(points, KERNEL, CLASSES)), pdist(points))


def test_no_distance_grows():
    assert (pdist(project_onto_templates(FEATURES, KERNEL, CLASSES)) <= pdist(FEATURES) + 1e-12).all()


def test_coordinates_are_those_of_the_nearest_point_of_the_plane():
    edges = np.stack([TEMPLATES[1] - TEMPLATES[0], TEMPLATES[2] - TEMPLATES[0]], axis=1)
    mixture = np.linalg.lstsq(edges, (FEATURES - TEMPLATES[0]).T)[0]
    nearest = (edges @ mixture).T + TEMPLATES[0]
    origin, basis = template_plane(KERNEL, CLASSES)
    np.testing.assert_allclose(origin + project_onto_templates(FEATURES, KERNEL, CLASSES) @ basis.T, nearest)


def test_the_first_edge_points_right_and_the_third_template_is_above():
    a, b, c = project_onto_templates(TEMPLATES, KERNEL, CLASSES)
    assert b[0] > a[0]
    assert b[1] == pytest.approx(a[1])
    assert c[1] > a[1]


def test_what_stands_off_the_plane_does_not_tell():
    normal = RNG.normal(size=16)
    _, basis = template_plane(KERNEL, CLASSES)
    normal -= basis @ basis.T @ normal
    expected = project_onto_templates(FEATURES, KERNEL, CLASSES)
    np.testing.assert_allclose(project_onto_templates(FEATURES + 5 * normal, KERNEL, CLASSES), expected, atol=1e-12)


def test_rigid_motions_of_features_and_templates_change_nothing():
    turn, _ = np.linalg.qr(RNG.normal(size=(16, 16)))
    move = RNG.normal(size=16)
    expected = project_onto_templates(FEATURES, KERNEL, CLASSES)
    moved = project_onto_templates(FEATURES @ turn + move, turn.T @ KERNEL + move[:, None], CLASSES)
    np.testing.assert_allclose(moved, expected, atol=1e-12)


@pytest.mark.parametrize("order", [(2, 7, 4), (4, 2, 7), (7, 4, 2)])
def test_the_order_of_the_classes_turns_or_mirrors_the_picture(order):
    found = project_onto_templates(FEATURES, KERNEL, order)
    expected = project_onto_templates(FEATURES, KERNEL, CLASSES)
    np.testing.assert_allclose(pdist(found), pdist(expected))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.linalg.norm(expected, axis=1))


def test_a_dense_layers_kernel_in_single_precision():
    layer = keras.layers.Dense(10)
    layer.build((None, 16))
    layer.kernel.assign(KERNEL)
    found = project_onto_templates(keras.ops.convert_to_tensor(FEATURES, "float32"), layer.kernel, CLASSES)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, project_onto_templates(FEATURES, KERNEL, CLASSES), atol=1e-5)


def test_templates_on_a_line_span_no_plane():
    kernel = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="must not lie on a line"):
        template_plane(kernel, (0, 1, 2))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"`kernel` must be of shape \(D, K\). Received: shape \(10,\)"):
        template_plane(KERNEL[0], CLASSES)
    for features in (FEATURES[:, :-1], FEATURES[0]):
        with pytest.raises(ValueError, match=r"`features` must be of shape \(N, 16\). Received: shape"):
            project_onto_templates(features, KERNEL, CLASSES)
