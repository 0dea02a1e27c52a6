import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kls import calibration, ood
from kls.study.statistics import METRICS, Predictions, Scores, networks
from kls.study.statistics.networks import Areas, Sampled
from kls.utils.bootstrap import resample

from .helpers import predictions, scores

CALIBRATION = {
    "accuracy": calibration.accuracy,
    "nll": calibration.negative_log_likelihood,
    "brier": calibration.brier_score,
    "ece": calibration.expected_calibration_error,
    "classwise": calibration.classwise_calibration_error,
    "aurc": calibration.area_under_risk_coverage,
}
DETECTION = {"auroc": ood.auroc, "fpr95": ood.fpr_at_tpr}


def with_ties(name):
    """Returns what two networks say, rounded so that they tie, and their metric."""
    rng = np.random.default_rng(0)
    if name in CALIBRATION:
        found = predictions(rng, n=2, size=150, signal=1.0)
        found = Predictions(found.labels, found.logits.round(0))
    else:
        found = scores(rng, n=2, size=150)
        rounded = {name: array.round(1) for name, array in found.ood_scores.items()}
        found = Scores(found.id_scores.round(1), rounded)
    return found, METRICS[name].sampled([found])


def resamples(sizes, count=20, seed=0):
    rng = np.random.default_rng(seed)
    return [resample(rng, count, size).T for size in sizes]


def derivatives(sampled, which, step=1e-6):
    """Returns by how much each metric moves per further copy of each image of a set, shape `(G, N)`."""
    ones = [np.ones((size, sampled.sizes[which])) for size in sampled.sizes]
    at = sampled.values(ones)
    ones[which] = ones[which] + step * np.eye(sampled.sizes[which])
    return (sampled.values(ones) - at) / step


class TestValues:
    @pytest.mark.parametrize("name", CALIBRATION)
    def test_they_are_those_of_the_calibration_metrics(self, name):
        found, sampled = with_ties(name)
        (weights,) = resamples(sampled.sizes)
        expected = [
            CALIBRATION[name](found.labels, logits, from_logits=True, sample_weight=weights.T)
            for logits in found.logits
        ]
        np.testing.assert_allclose(sampled.values([weights]), expected, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("name", DETECTION)
    def test_they_are_those_of_the_ood_metrics(self, name):
        found, sampled = with_ties(name)
        first, *others = resamples(sampled.sizes)
        expected = [
            np.mean(
                [
                    DETECTION[name](found.id_scores[i], array[i], sample_weight=(first.T, weights.T))
                    for array, weights in zip(found.ood_scores.values(), others, strict=True)
                ],
                axis=0,
            )
            for i in range(2)
        ]
        np.testing.assert_allclose(sampled.values([first, *others]), expected, rtol=1e-12)

    def test_area_is_scikit_learns_with_sample_weights(self):
        found, sampled = with_ties("auroc")
        weights = resamples(sampled.sizes, count=1)
        expected = [
            np.mean(
                [
                    roc_auc_score(
                        np.repeat([1, 0], [150, 200]),
                        np.concatenate([found.id_scores[i], array[i]]),
                        sample_weight=np.concatenate([weights[0][:, 0], others[:, 0]]),
                    )
                    for array, others in zip(found.ood_scores.values(), weights[1:], strict=True)
                ]
            )
            for i in range(2)
        ]
        np.testing.assert_allclose(sampled.values(weights)[:, 0], expected)

    def test_a_threshold_far_from_where_it_is_expected_is_found(self):
        found, sampled = with_ties("fpr95")
        weights = [np.ones((size, 1)) for size in sampled.sizes]
        lowest = np.argsort(found.id_scores[0])[:100]
        weights[0][lowest] = 1e-3  # two thirds of the images hardly count
        first, second = (
            ood.fpr_at_tpr(found.id_scores[0], array[0], sample_weight=(weights[0].T, np.ones((1, 200))))
            for array in found.ood_scores.values()
        )
        assert sampled.values(weights)[0] == pytest.approx((first + second) / 2)


class TestCovariance:
    def test_bootstrap_is_that_of_a_plain_loop(self):
        found, sampled = with_ties("ece")
        rng, drawn = np.random.default_rng(3), []
        for counts in resample(rng, 30, sampled.sizes[0]).astype(int):
            images = np.repeat(np.arange(sampled.sizes[0]), counts)
            drawn.append(
                [
                    calibration.expected_calibration_error(found.labels[images], logits[images], from_logits=True)
                    for logits in found.logits
                ]
            )
        np.testing.assert_allclose(sampled.moments(30, 3)[1], np.cov(np.transpose(drawn)), rtol=1e-9)

    @pytest.mark.parametrize("name", ["ece", "classwise"])
    def test_memory_is_bounded_at_the_same_result(self, name, monkeypatch):
        _, sampled = with_ties(name)
        at_once = sampled.moments(25, 0)
        monkeypatch.setattr(networks, "CHUNK", 7 * sampled.sizes[0])
        for found, expected in zip(sampled.moments(25, 0), at_once, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)

    @pytest.mark.parametrize("name", ["accuracy", "aurc", "auroc"])
    def test_it_is_that_of_the_images_influences(self, name):
        """The infinitesimal jackknife, with the derivatives by finite differences."""
        _, sampled = with_ties(name)
        expected = 0
        for which, size in enumerate(sampled.sizes):
            influences = size * derivatives(sampled, which)
            expected = expected + np.cov(influences) / size
        np.testing.assert_allclose(sampled.covariance(), expected, rtol=1e-3)

    @pytest.mark.parametrize("name", ["nll", "aurc", "auroc"])
    def test_it_is_nearly_the_bootstraps(self, name):
        _, sampled = with_ties(name)
        found, (_, bootstrap) = sampled.covariance(), Sampled.moments(sampled, 2000, 0)
        np.testing.assert_allclose(np.diagonal(found), np.diagonal(bootstrap), rtol=0.12)
        assert np.corrcoef(found.ravel(), bootstrap.ravel())[0, 1] > 0.98

    def test_area_of_one_set_is_delongs(self):
        """The variance that Sun & Xu (2014) compute by midranks."""
        rng = np.random.default_rng(0)
        id_scores, ood_scores = rng.normal(1, 1, (1, 30)).round(1), rng.normal(0, 1, (1, 20)).round(1)
        beats = (id_scores[0][:, None] > ood_scores[0]) + 0.5 * (id_scores[0][:, None] == ood_scores[0])
        expected = beats.mean(axis=1).var(ddof=1) / 30 + beats.mean(axis=0).var(ddof=1) / 20
        assert Areas(id_scores, [ood_scores]).covariance() == pytest.approx(expected)


class TestBias:
    @pytest.mark.parametrize(("temperature", "true"), [(1.0, 0.0), (0.25, 0.19)])
    def test_calibration_errors_without_it_are_true_on_average(self, temperature, true):
        """Labels drawn from the probabilities of logits, which are then multiplied: calibrated where by 1."""
        rng, measured, biases = np.random.default_rng(0), [], []
        for _ in range(30):
            logits = rng.normal(0, 2, 400)
            labels = (rng.random(400) < 1 / (1 + np.exp(-logits))).astype(int)
            found = Predictions(labels, temperature * np.stack([0 * logits, logits], axis=-1)[None])
            sampled = METRICS["ece"].sampled([found])
            measured.append(sampled.on_all()[0, 0])
            biases.append(sampled.moments(60, 0)[0][0])
        assert np.mean(measured) - np.mean(biases) == pytest.approx(true, abs=0.012)
        assert np.mean(measured) - true > 0.02 if true == 0 else abs(np.mean(measured) - true) < 0.012

    @pytest.mark.parametrize("name", ["accuracy", "aurc", "auroc", "fpr95"])
    def test_others_have_none(self, name):
        _, sampled = with_ties(name)
        assert sampled.moments(3, 0)[0].tolist() == [0.0, 0.0]
