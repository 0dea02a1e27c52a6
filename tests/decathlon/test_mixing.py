"""Mixing: every pixel counted, keras-cv as the oracle, texts read and written."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from decathlon import mixing_named
from decathlon.mixing import RICAP, CutMix, CutOut, KerasLayer, MixUp

MIXINGS = (MixUp(), CutMix(), RICAP(), CutOut(size=5))


def rng(seed=0):
    return np.random.default_rng(seed)


class Fixed(np.random.Generator):
    """A generator that draws what it is told."""

    def __init__(self, beta=(), permutation=(), integers=()):
        super().__init__(np.random.PCG64(0))
        self.draws = {"beta": list(beta), "permutation": list(permutation), "integers": list(integers)}

    def beta(self, *_):
        return self.draws["beta"].pop(0)

    def permutation(self, _):
        return np.array(self.draws["permutation"].pop(0))

    def integers(self, *_):
        return self.draws["integers"].pop(0)


def mapped(count=6, height=13, width=18):
    """Returns images whose three channels tell image, row and column of each pixel, and one-hot labels."""
    places = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    return np.stack(places, axis=-1).astype(np.float32), np.eye(count, dtype=np.float32)


def shares(images, count):
    """Returns the share of its pixels that each image has from each source, by counting."""
    return np.stack([(images[..., 0] == source).mean(axis=(1, 2)) for source in range(count)], axis=1)


def random_batch(seed=0, count=6, height=20, width=30, channels=3, classes=4):
    generator = rng(seed)
    images = generator.standard_normal((count, height, width, channels), dtype=np.float32)
    return images, generator.dirichlet(np.ones(classes), count).astype(np.float32)


@pytest.mark.parametrize("mixing", [CutMix(), CutMix(0.2), RICAP(), RICAP(2.0)], ids=str)
def test_labels_are_exactly_the_shares_of_the_pixels(mixing):
    images, labels = mapped()
    drawn = [mixing(images, labels, rng(seed)) for seed in range(300)]
    for mixed, mixed_labels in drawn:
        np.testing.assert_allclose(mixed_labels, shares(mixed, 6), atol=2e-7)
    assert len({mixed.tobytes() for mixed, _ in drawn}) > 200


def test_cutmix_pastes_one_box_of_one_permutation_in_its_own_place():
    images, labels = mapped()
    for seed in range(100):
        mixed, _ = CutMix()(images, labels, rng(seed))
        np.testing.assert_array_equal(mixed[..., 1:], images[..., 1:])
        pasted = mixed[..., 0] != images[..., 0]
        if not pasted.any():
            continue
        box = pasted.any(axis=0)
        rows, columns = box.any(axis=1), box.any(axis=0)
        np.testing.assert_array_equal(box, rows[:, None] & columns)
        assert all((np.diff(np.flatnonzero(side)) == 1).all() for side in (rows, columns))
        sources = mixed[:, rows][:, :, columns][..., 0]
        assert (sources == sources[:, :1, :1]).all()
        assert sorted(sources[:, 0, 0]) == list(range(6))


@pytest.mark.parametrize("share", np.linspace(0, 1, 23).tolist())
def test_unclipped_cutmix_box_has_area_one_minus_lambda_rounded_down(share):
    images, labels = mapped(2, 80, 60)
    _, mixed_labels = CutMix()(images, labels, Fixed([1 - share], [[1, 0]], [40, 30]))
    assert share - 1 / 80 - 1 / 60 <= mixed_labels[0, 1] <= share + 1e-6
    assert mixed_labels[0, 1] == pytest.approx(int(np.sqrt(share) * 80) * int(np.sqrt(share) * 60) / 4800)


def test_boxes_are_clipped_as_those_of_uniform_centres():
    """A side s keeps s - s^2 / 4 on average; with s^2 uniform the mean area is 1/2 - 1/5 + 1/48."""
    images, labels = np.zeros((2, 256, 256, 1), np.float32), np.eye(2, dtype=np.float32)
    generator = rng(1)
    draws = SimpleNamespace(beta=generator.beta, permutation=lambda _: [1, 0], integers=generator.integers)
    pasted = [CutMix().mix(images, labels, draws, None)[1][0, 1] for _ in range(1500)]
    assert np.mean(pasted) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)


@pytest.mark.parametrize(
    ("centre", "rows", "columns"),
    [
        ((10, 15), (4, 16), (6, 24)),
        ((0, 0), (0, 6), (0, 9)),
        ((19, 29), (13, 20), (20, 30)),
        ((3, 29), (0, 9), (20, 30)),
    ],
)
def test_cutmix_box_known_by_hand(centre, rows, columns):
    """Lambda 0.64 leaves 0.6 of each side of 20 x 30: a box of 12 x 18."""
    images, labels = mapped(2, 20, 30)
    mixed, mixed_labels = CutMix()(images, labels, Fixed([0.64 - 1e-9], [[1, 0]], centre))
    expected = np.zeros((20, 30))
    expected[slice(*rows), slice(*columns)] = 1
    np.testing.assert_array_equal(mixed[0, ..., 0], expected)
    assert mixed_labels[0, 1] == pytest.approx(expected.mean())


def test_ricap_puts_four_crops_together_at_one_point():
    images, labels = mapped()
    for seed in range(100):
        mixed, _ = RICAP(1.0)(images, labels, rng(seed))
        moved = mixed - images
        moved[..., 0] = mixed[..., 0]
        cuts = [
            [0, *(np.flatnonzero((np.diff(moved, axis=axis) != 0).any(axis=(0, 3 - axis, 3))) + 1), side]
            for axis, side in ((1, 13), (2, 18))
        ]
        assert all(len(cut) <= 3 for cut in cuts)
        for top, bottom in zip(cuts[0], cuts[0][1:], strict=False):
            for left, right in zip(cuts[1], cuts[1][1:], strict=False):
                patch = moved[:, top:bottom, left:right]
                assert (patch == patch[:, :1, :1]).all()
                assert (patch[..., 1:] == patch[:1, :, :, 1:]).all()
                assert sorted(patch[:, 0, 0, 0]) == list(range(6))


def test_ricap_known_by_hand():
    """Height 8 and width 4 at u = 0.25 and 0.5 meet at row 2 and column 2."""
    images, labels = mapped(4, 8, 4)
    partners = [[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]]
    mixed, mixed_labels = RICAP()(images, labels, Fixed([0.25, 0.5], partners, [6, 0, 1, 2, 2, 1, 0, 0]))
    np.testing.assert_allclose(mixed_labels[0], [1 / 8, 1 / 8, 3 / 8, 3 / 8])
    np.testing.assert_array_equal(mixed[0, :2, :2], images[0, 6:8, 0:2])
    np.testing.assert_array_equal(mixed[0, :2, 2:], images[1, 1:3, 2:4])
    np.testing.assert_array_equal(mixed[0, 2:, :2], images[2, 2:8, 1:3])
    np.testing.assert_array_equal(mixed[0, 2:, 2:], images[3, 0:6, 0:2])


def test_ricap_crops_from_every_place():
    images, labels = mapped(1, 1, 9)
    generator = rng(1)
    draws = SimpleNamespace(beta=lambda *_: 0.45, permutation=generator.permutation, integers=generator.integers)
    first = [RICAP().mix(images, labels, draws, None)[0][0, 0, 0, 2] for _ in range(600)]
    counts = np.bincount(np.array(first, int))
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("mixing", [RICAP(), RICAP(1.5)], ids=str)
def test_ricap_draws_its_point_from_the_beta_distribution(mixing):
    """The share of the first row's patches tells how far left the point lies."""
    images, labels = mapped(2, 1, 400)
    generator = rng(2)
    points = []
    for _ in range(600):
        mixed, _ = mixing(images, labels, generator)
        jumps = np.flatnonzero(np.diff(mixed[0, 0, :, 2]) != 1)
        points.append((jumps[0] + 1) / 400 if len(jumps) else np.nan)
    inner = np.array(points)[~np.isnan(points)]
    beta = stats.beta(mixing.beta, mixing.beta)
    low, high = beta.cdf([0.02, 0.98])
    within = inner[(inner > 0.02) & (inner < 0.98)]
    assert stats.kstest(within, lambda x: (beta.cdf(x) - low) / (high - low)).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_blends_images_and_labels_by_one_beta_lambda(alpha):
    images, labels = np.eye(8, dtype=np.float32).reshape(8, 2, 2, 2), np.eye(8, dtype=np.float32)
    generator = rng(0)
    weights = []
    for _ in range(400):
        mixed, mixed_labels = MixUp(alpha)(images, labels, generator)
        np.testing.assert_array_equal(mixed.reshape(8, 8), mixed_labels)
        own = mixed_labels.diagonal()
        weights.append(own.min())
        assert np.isin(own, [weights[-1], 1]).all()
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("size", [1, 4, 5, 11, 40])
def test_cutout_clears_one_square_per_image_as_slices_do(size):
    images, labels = random_batch(count=64)
    mixed, mixed_labels = CutOut(size)(images, labels, rng(4))
    generator = rng(4)
    rows, columns = generator.integers(20, size=64), generator.integers(30, size=64)
    expected = images.copy()
    for image, row, column in zip(expected, rows, columns, strict=True):
        top, left = row - size // 2, column - size // 2
        image[max(top, 0) : top + size, max(left, 0) : left + size] = 0
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_array_equal(mixed_labels, labels)
    whole = (mixed == 0).all(axis=3).sum(axis=(1, 2))
    assert whole.max() == min(size, 20) * min(size, 30)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_holes_of_cutout_show_the_blank_image_in_place(dtype):
    images, labels = np.full((64, 20, 30, 3), 255, dtype), np.eye(64, dtype=np.float32)
    blank = rng(1).integers(0, 255, (20, 30, 3), np.uint8)
    mixed, _ = CutOut(5)(images, labels, rng(4), blank)
    assert mixed.dtype == dtype
    holes = (CutOut(5)(images, labels, rng(4))[0] == 0).all(axis=3, keepdims=True)
    assert 9 <= holes.sum(axis=(1, 2)).min() < 25 == holes.sum(axis=(1, 2)).max()
    np.testing.assert_array_equal(mixed, np.where(holes, blank, images))


def test_cutout_centres_are_uniform():
    images, labels = np.ones((20000, 4, 5, 1), np.float32), np.ones((20000, 1), np.float32)
    mixed, _ = CutOut(1)(images, labels, rng(5))
    assert stats.chisquare((mixed == 0).sum(axis=0).ravel()).pvalue > 0.01


@settings(max_examples=80)
@given(
    st.sampled_from(MIXINGS),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.integers(1, 5),
    st.integers(0, 2**32),
)
def test_distributions_stay_distributions_and_inputs_stay_untouched(mixing, count, height, width, channels, k, seed):
    images, labels = random_batch(seed, count, height, width, channels, k)
    before = images.copy(), labels.copy()
    mixed, mixed_labels = mixing(images, labels, rng(seed))
    assert (mixed.shape, mixed.dtype) == (images.shape, np.float32)
    assert (mixed_labels.shape, mixed_labels.dtype) == (labels.shape, np.float32)
    np.testing.assert_allclose(mixed_labels.sum(axis=1), labels.sum(axis=1), atol=1e-6)
    assert (mixed_labels >= 0).all()
    assert mixed is not images
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])
    again = mixing(images, labels, rng(seed))
    np.testing.assert_array_equal(mixed, again[0])
    np.testing.assert_array_equal(mixed_labels, again[1])
    if count == 1:
        np.testing.assert_allclose(mixed_labels, labels, atol=1e-6)


@pytest.mark.parametrize("mixing", [MixUp(), CutMix()], ids=str)
def test_an_image_mixed_with_itself_stays_as_it_is(mixing):
    images, labels = random_batch(count=1)
    mixed, _ = mixing(images, labels, rng())
    np.testing.assert_allclose(mixed, images, atol=1e-6)


@pytest.mark.parametrize("mixing", [*MIXINGS, KerasLayer("keras.RandomFlip", mode="horizontal")], ids=str)
def test_bytes_mix_as_floats_and_stay_bytes_if_pixels_only_move(mixing):
    images, labels = rng().integers(0, 256, (6, 20, 30, 3), np.uint8), np.eye(6, dtype=np.float32)
    (of_bytes, first), (of_floats, second) = (mixing(x, labels, rng(1)) for x in (images, images.astype(np.float32)))
    np.testing.assert_array_equal(of_bytes, of_floats)
    np.testing.assert_array_equal(first, second)
    assert of_floats.dtype == np.float32
    assert of_bytes.dtype == (np.uint8 if type(mixing) in (CutMix, RICAP, CutOut) else np.float32)


@pytest.mark.parametrize("mixing", MIXINGS, ids=str)
def test_another_draw_gives_other_images(mixing):
    images, labels = random_batch()
    assert len({mixing(images, labels, rng(seed))[0].tobytes() for seed in range(20)}) > 15


@pytest.mark.parametrize("mixing", MIXINGS, ids=str)
@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 4, 4, 1), complex), np.eye(3), r"`images` must be real .* complex128, shape \(3, 4, 4, 1\)"),
        (np.zeros((3, 4, 4)), np.eye(3), r"`images` must be real numbers .* float64, shape \(3, 4, 4\)"),
        (np.zeros((3, 4, 4, 1)), np.arange(3), r"`labels` must be .* \(3, K\). Received: int64 of shape \(3,\)"),
        (np.zeros((3, 4, 4, 1)), np.eye(3, dtype=int), r"`labels` must be .* int64 of shape \(3, 3\)"),
        (np.zeros((3, 4, 4, 1)), np.eye(4), r"`labels` must be .* float64 of shape \(4, 4\)"),
    ],
)
def test_bad_arrays_are_refused_by_name_and_value(mixing, images, labels, message):
    with pytest.raises(ValueError, match=message):
        mixing(images, labels, rng())


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        ("mixup", MixUp(1.0), "mixup"),
        ("mixup:0.2", MixUp(0.2), "mixup:0.2"),
        ("mixup:1", MixUp(1.0), "mixup"),
        ("cutmix", CutMix(1.0), "cutmix"),
        ("cutmix:2", CutMix(2.0), "cutmix:2.0"),
        ("ricap", RICAP(0.3), "ricap"),
        ("ricap:1.0", RICAP(1.0), "ricap:1.0"),
        ("cutout", CutOut(16), "cutout"),
        ("cutout:8", CutOut(8), "cutout:8"),
    ],
)
def test_texts_name_mixings_and_mixings_tell_their_text(text, expected, canonical):
    assert mixing_named(text) == expected
    assert str(expected) == canonical
    assert mixing_named(canonical) == expected


def test_texts_name_layers_with_arguments_in_any_order():
    text = "keras.RandomTranslation:width_factor=(-0.2,0.1),fill_mode='constant',height_factor=0.3"
    layer = mixing_named(text)
    assert layer.arguments == {"width_factor": (-0.2, 0.1), "fill_mode": "constant", "height_factor": 0.3}
    canonical = "keras.RandomTranslation:fill_mode='constant',height_factor=0.3,width_factor=(-0.2, 0.1)"
    assert str(layer) == str(mixing_named(canonical)) == canonical
    assert str(mixing_named("keras.RandomFlip")) == "keras.RandomFlip"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixpu", "`text` must be mixup, mixup:ALPHA, cutmix, .*cutout:SIZE, keras.LAYER.* Received: text='mixpu'"),
        ("", "`text` must be .* Received: text=''"),
        ("mixup:1,2", "`text` must be .* Received: text='mixup:1,2'"),
        ("mixup:alpha=1", "`text` must be .* Received: text='mixup:alpha=1'"),
        ("keras.RandomFlip:3", "`text` must be .* Received: text='keras.RandomFlip:3'"),
        ("mixup:x", "must be numbers, strings or tuples of them. Received: text='mixup:x'"),
        ("mixup:1)(2", r"must be numbers, strings or tuples of them. Received: text='mixup:1\)\(2'"),
        ("keras.RandomFlip:mode=open('x')", 'must be numbers, strings or tuples of them. Received: text="keras.Ran'),
        ("keras.RandomFlip:**{}", "must be numbers, strings or tuples of them. Received: text='keras.RandomFlip"),
        ("mixup:0", r"`alpha` must be a number in \(0, inf\). Received: alpha=0"),
        ("mixup:True", r"`alpha` must be a number in \(0, inf\). Received: alpha=True"),
        ("mixup:'a'", r"`alpha` must be a number in \(0, inf\). Received: alpha='a'"),
        ("ricap:(1,2)", r"`beta` must be a number in \(0, inf\). Received: beta=\(1, 2\)"),
        ("keras_cv.GridMask:ratio_factor='x'", r"`keras_cv.GridMask` cannot be made with \{'ratio_factor': 'x'\}: "),
        ("cutout:8.0", "`size` must be a whole number of at least 1. Received: size=8.0"),
        ("torch.Flip", "`name` must begin with keras. or keras_cv. Received: name='torch.Flip'"),
        ("keras.RandomRotatoin", "Received: name='keras.RandomRotatoin'. Did you mean keras.RandomRotation or "),
        ("keras.Dense", "`name` must be an augmentation layer of keras: keras.AugMix, .*name='keras.Dense'. Did you"),
        ("keras.RandomRotation", r"needs the arguments \['factor'\] and may have .*'fill_mode'.* Received: \[\]"),
        ("keras.RandomFlip:moed='x'", r"needs the arguments \[\] and may have \['data_format', 'mode'\].*\['moed'\]"),
        ("keras.RandomFlip:seed=1", r"`keras.RandomFlip` needs .* Received: \['seed'\]"),
    ],
)
def test_bad_texts_are_refused_with_what_is_allowed(text, message):
    with pytest.raises(ValueError, match=message):
        mixing_named(text)


def test_mixup_is_that_of_keras_cv_with_its_draws_fed_in(keras_cv, monkeypatch):
    import tensorflow as tf

    images, labels = random_batch()
    partners = [3, 0, 5, 1, 4, 2]
    layer = keras_cv.layers.MixUp()
    monkeypatch.setattr(layer, "_sample_from_beta", lambda *_: tf.fill((6,), 0.3))
    monkeypatch.setattr(tf.random, "shuffle", lambda *_, **__: tf.constant(partners))
    expected = layer({"images": tf.constant(images), "labels": tf.constant(labels)})
    mixed, mixed_labels = MixUp()(images, labels, Fixed([0.3], [partners]))
    np.testing.assert_allclose(mixed, expected["images"], atol=1e-6)
    np.testing.assert_allclose(mixed_labels, expected["labels"], atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "centre", "clipped"),
    [
        (0.64, (10, 15), False),
        (0.5, (9, 14), False),
        (0.9, (4, 25), False),
        (0.3, (2, 28), True),
        (0.0, (0, 0), True),
    ],
)
def test_cutmix_is_that_of_keras_cv_with_its_draws_fed_in(keras_cv, monkeypatch, weight, centre, clipped):
    """Where the box is clipped, keras-cv goes on to weigh labels by the whole box."""
    import tensorflow as tf

    images, labels = random_batch()
    partners, centres = [3, 0, 5, 1, 4, 2], iter(centre)
    layer = keras_cv.layers.CutMix()
    monkeypatch.setattr(layer, "_sample_from_beta", lambda *_: tf.fill((6,), weight - 1e-5))
    monkeypatch.setattr(tf.random, "shuffle", lambda *_, **__: tf.constant(partners))
    monkeypatch.setattr(tf.random, "uniform", lambda **_: tf.fill((6,), next(centres)))
    expected = layer({"images": tf.constant(images), "labels": tf.constant(labels)})
    mixed, mixed_labels = CutMix()(images, labels, Fixed([weight - 1e-5], [partners], centre))
    np.testing.assert_array_equal(mixed, expected["images"])
    apart = np.abs(mixed_labels - expected["labels"]).max()
    assert apart > 0.1 if clipped else apart < 1e-6
