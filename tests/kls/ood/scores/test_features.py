import keras
import numpy as np
import pytest
from keras import layers

from kls.ood import scores
from kls.ood.scores import (
    ASH,
    KNN,
    Energy,
    KLMatching,
    Mahalanobis,
    ReAct,
    ViM,
)
from kls.utils.feature_extractor import Network, Outputs

from .given import BIAS, IMAGES, KERNEL, LABELS, LOGITS, TEST, TRAIN, softmax


def outputs_of(features, labels=None):
    """Returns `Outputs` of these features."""
    classes = 3 if labels is None else max(labels) + 1
    return Outputs(np.zeros((len(features), classes)), labels, np.asarray(features, "float32"))


def scored(score, train, test, labels=None):
    """Returns the scores of features by a score fitted to others, without a model."""
    score.fit_outputs(outputs_of(train, labels=labels))
    return score.of_outputs(outputs_of(test))


class TestNamedFeatures:
    def convolutional(self):
        return keras.Sequential(
            [
                layers.Input((8, 8, 1)),
                layers.Conv2D(3, 3, activation="relu", name="conv"),
                layers.Flatten(),
                layers.Dense(4, activation="softmax"),
            ]
        )

    @pytest.mark.parametrize("name", ["mahalanobis", "knn"])
    def test_are_averaged_over_height_and_width(self, name):
        model, rng = self.convolutional(), np.random.default_rng(0)
        train, test = (rng.random((count, 8, 8, 1)).astype("float32") for count in (40, 6))
        labels = np.arange(40) % 4
        kind = {"mahalanobis": Mahalanobis, "knn": lambda **settings: KNN(k=3, **settings)}[name]
        maps = keras.Model(model.inputs, model.get_layer("conv").output)
        means = [maps.predict(x, verbose=0).mean(axis=(1, 2)) for x in (train, test)]
        found = kind(features="conv").fit(model, (train, labels))(model, test)
        np.testing.assert_allclose(found, scored(kind(), *means, labels), rtol=1e-3, atol=1e-5)
        assert not np.allclose(found, kind().fit(model, (train, labels))(model, test))

    def test_a_wrong_name(self):
        with pytest.raises(ValueError, match=r"`features` must name a layer.*conv.*'cnov'"):
            KNN(k=1, features="cnov").fit(self.convolutional(), np.zeros((2, 8, 8, 1), "float32"))

    @pytest.mark.parametrize("name", ["vim", "react", "ash"])
    def test_scores_of_the_head_refuse_other_features(self, deep, name):
        network = Network(deep, features="hidden")
        with pytest.raises(ValueError, match="needs the last layer and its own input as features"):
            scores.get(name).fit(network, IMAGES)(network, IMAGES)


class TestMahalanobisCorners:
    def test_without_labels(self, head):
        for score in (Mahalanobis(), Mahalanobis(relative=True)):
            with pytest.raises(
                ValueError, match=r"`training_data` must have labels for Mahalanobis: \(images, labels\)"
            ):
                score.fit(head, TRAIN)

    @pytest.mark.parametrize("labels", [LABELS[:, None], np.eye(5)[LABELS], LABELS.astype("float32")])
    def test_labels_of_every_form(self, head, labels):
        expected = Mahalanobis().fit(head, (TRAIN, LABELS))(head, TEST)
        np.testing.assert_allclose(Mahalanobis().fit(head, (TRAIN, labels))(head, TEST), expected, rtol=1e-12)

    @pytest.mark.parametrize("wrong", [-1, 5, 1.5])
    def test_labels_outside(self, head, wrong):
        with pytest.raises(ValueError, match=rf"whole numbers in 0\.\.4.*{wrong}"):
            Mahalanobis().fit(head, (TRAIN, np.r_[LABELS[:-1], wrong]))

    def test_a_class_without_training_data_is_no_cluster(self, head):
        some = np.isin(LABELS, [0, 2, 4])
        found = Mahalanobis().fit(head, (TRAIN[some], LABELS[some]))(head, TEST)
        _, renumbered = np.unique(LABELS[some], return_inverse=True)
        np.testing.assert_allclose(found, scored(Mahalanobis(), TRAIN[some], TEST, renumbered), rtol=1e-9)

    @pytest.mark.parametrize(("count", "size"), [(60, 8), (20, 64), (30, 300), (4, 8), (3, 2)])
    @pytest.mark.parametrize("relative", [False, True])
    def test_is_the_distance_by_the_pseudo_inverse(self, count, size, relative):
        rng = np.random.default_rng(count)
        labels = np.arange(count) % 3
        train = (rng.normal(size=(count, size)) + labels[:, None]).astype("float32")
        train[:, 0] = 0.1  # a constant feature
        train[:, -1] = -7 * train[:, 0]  # and a multiple of it
        test = rng.normal(size=(10, size)).astype("float32")
        found = scored(Mahalanobis(relative=relative), train, test, labels)
        train, test = train.astype(float), test.astype(float)
        means = np.stack([train[labels == k].mean(axis=0) for k in range(3)])

        def distance(centred, x):
            precision = np.linalg.pinv(centred.T @ centred / count, rcond=1e-10, hermitian=True)
            return np.einsum("nd,de,ne->n", x, precision, x)

        expected = np.min([distance(train - means[labels], test - mean) for mean in means], axis=0)
        if relative:
            expected = expected - distance(train - train.mean(axis=0), test - train.mean(axis=0))
        np.testing.assert_allclose(found, -expected, rtol=1e-6, atol=1e-6)

    def test_nearly_constant_features_far_from_the_origin(self):
        # a few units in the last place around 1000; moved to the origin, which is exact, nothing else changes
        rng = np.random.default_rng(0)
        labels = np.arange(90) % 3
        train, test = ((1000 + 2e-4 * rng.normal(size=(n, 5))).astype("float32") for n in (90, 10))
        near = scored(Mahalanobis(), train.astype(float) - 1000, test.astype(float) - 1000, labels)
        np.testing.assert_allclose(scored(Mahalanobis(), train, test, labels), near, rtol=1e-5)

    def test_of_one_class_relative_to_the_same_gaussian_is_zero(self):
        rng = np.random.default_rng(0)
        train, test = rng.normal(size=(50, 6)), 10 * rng.normal(size=(10, 6))
        found = scored(Mahalanobis(relative=True), train, test, np.zeros(50, int))
        np.testing.assert_allclose(found, 0, atol=1e-9)

    def test_linear_maps_of_the_features_change_nothing(self):
        rng = np.random.default_rng(0)
        labels, mixing = np.arange(60) % 3, rng.normal(size=(6, 6))
        train, test = rng.normal(size=(60, 6)) + labels[:, None], rng.normal(size=(10, 6))
        expected = scored(Mahalanobis(), train, test, labels)
        np.testing.assert_allclose(scored(Mahalanobis(), train @ mixing + 3, test @ mixing + 3, labels), expected, 1e-3)

    def test_one_sample_and_constant_features_are_finite(self):
        for count in (1, 5):
            for relative in (False, True):
                found = scored(Mahalanobis(relative), np.ones((count, 4)), np.zeros((2, 4)), np.zeros(count, int))
                assert np.isfinite(found).all()


class TestOtherCorners:
    def test_more_neighbours_than_training_samples(self, head):
        with pytest.raises(ValueError, match=r"`k` must be at most 60, the number of training samples.*k=61"):
            KNN(k=61).fit(head, TRAIN)

    def test_knn_of_a_vanishing_feature(self, head):
        found = KNN(k=1).fit(head, np.r_[TRAIN, np.zeros((1, 8), "float32")])(head, np.zeros((2, 8), "float32"))
        np.testing.assert_array_equal(found, 0)

    def test_knn_of_a_tiny_feature_is_still_its_direction(self, head):
        score = KNN(k=1).fit(head, TRAIN)
        np.testing.assert_allclose(score(head, TEST * np.float32(2**-60)), score(head, TEST), rtol=1e-5)

    def test_a_dimension_of_all_features(self, head):
        with pytest.raises(ValueError, match=r"`dimension` must be below 8.*8"):
            ViM(dimension=8).fit(head, TRAIN)

    def test_vim_of_training_data_within_the_principal_space(self):
        score, head = ViM(dimension=2), (np.ones((4, 3)), np.zeros(3))
        inside = Outputs(np.ones((3, 3)), None, np.eye(4)[[0, 1, 0]] * 2.0, head=head)
        with pytest.raises(ValueError, match="all training features lie in the principal space"):
            score.fit_outputs(inside)

    def test_react_at_the_largest_activation_is_the_energy_of_id_samples(self, head):
        found = ReAct(percentile=100).fit(head, TRAIN)
        np.testing.assert_allclose(found(head, TRAIN), Energy()(head, TRAIN), rtol=1e-5)

    def test_ash_of_negative_features_that_leave_no_score_says_so(self):
        # s1 / s2 is 900.1: its exponential is beyond any float
        features = np.r_[np.full(90, -1.0), np.full(10, -0.01)][None]
        kernel = np.random.default_rng(0).normal(size=(100, 3))
        with pytest.raises(ValueError, match="ASH has no score"):
            ASH().of_outputs(Outputs(np.zeros((1, 3)), None, features, head=(kernel, np.zeros(3))))

    def test_kl_matching_skips_classes_that_are_never_predicted(self, head):
        predicted = (TRAIN @ KERNEL + BIAS).argmax(axis=1)
        some = predicted == np.bincount(predicted).argmax()
        score = KLMatching().fit(head, TRAIN[some])
        p, template = softmax(LOGITS), softmax(TRAIN[some] @ KERNEL + BIAS).mean(axis=0)
        np.testing.assert_allclose(score(head, TEST), -(p * np.log(p / template)).sum(axis=1), rtol=1e-4)

    def test_kl_matching_of_certainties_is_finite(self):
        score = KLMatching()
        certain = Outputs(np.array([[0.0, -1e6, -1e6], [-1e6, 0.0, -np.inf]]))
        score.fit_outputs(certain)
        np.testing.assert_allclose(score.of_outputs(certain), 0, atol=1e-12)
        third = score.of_outputs(Outputs(np.array([[-1e6, -1e6, 0.0]])))
        assert np.isfinite(third).all()
        assert third[0] < -100
