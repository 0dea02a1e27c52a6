import numpy as np
import pytest
from scipy import stats

from kls.study.statistics import Predictions, compare, select

from .helpers import predictions, scores


def candidates(rng, signals, **options):
    return {f"{signal}": predictions(rng, signal=signal, **options) for signal in signals}


@pytest.mark.parametrize("name", ["accuracy", "nll", "ece", "aurc"])
def test_a_method_that_always_wins_is_judged_as_in_a_comparison(name):
    rng = np.random.default_rng(0)
    baseline, methods = predictions(rng), candidates(rng, (0.5, 4.0))
    found = select(name, baseline, methods, repeats=5, resamples=20)
    assert found.method == "4.0"
    assert found.shares == {"0.5": 0.0, "4.0": 1.0}
    alone = compare(name, baseline, {"4.0": methods["4.0"]}, resamples=20)["4.0"]
    assert found.comparison.uncertainty.images == pytest.approx(alone.uncertainty.images)
    assert found.comparison.word == alone.word == "better"
    if name in ("accuracy", "nll"):  # means of halves are means of all; binned errors are larger on half the images
        assert found.comparison.difference == pytest.approx(alone.difference)


def test_the_direction_of_the_metric_counts():
    rng = np.random.default_rng(0)
    methods = {f"{distance}": scores(rng, distance=distance) for distance in (1.0, 3.0)}
    for name in ("auroc", "fpr95"):
        assert select(name, scores(rng), methods, repeats=3, resamples=10).method == "3.0"


def test_validation_images_choose_and_the_others_judge():
    rng = np.random.default_rng(0)
    baseline, methods = predictions(rng), candidates(rng, (1.0, 3.0))
    swapped = {"1.0": predictions(rng, signal=3.0), "3.0": predictions(rng, signal=1.0)}
    found = select("accuracy", baseline, methods, validation=(predictions(rng), swapped))
    assert found.method == "1.0"
    assert found.how == "chosen on validation images"
    alone = compare("accuracy", baseline, {"1.0": methods["1.0"]})["1.0"]
    assert found.comparison.difference == pytest.approx(alone.difference)
    assert found.comparison.word == "worse"


@pytest.mark.parametrize("n", [1, 3])
def test_the_best_of_equals_is_not_flattered(n):
    rng, judged, flattered, told = np.random.default_rng(0), [], [], 0
    for _ in range(60):
        baseline, methods = predictions(rng, n, 100), candidates(rng, (2.0, 2.0 + 1e-9, 2.0 + 2e-9), n=n, size=100)
        found = select("accuracy", baseline, methods, repeats=4)
        judged.append(found.comparison.difference)
        told += found.comparison.word in ("better", "worse")
        flattered.append(max(one.difference for one in compare("accuracy", baseline, methods).values()))
    error = np.std(judged) / np.sqrt(60)
    assert abs(np.mean(judged)) < 3 * error < 3 * np.mean(flattered)
    assert np.mean(flattered) > 4 * np.std(flattered) / np.sqrt(60)
    assert told <= stats.binom.isf(1e-3, 60, 0.05)


def test_each_seed_is_judged_as_what_the_other_seeds_choose():
    labels = np.zeros(40, int)
    right, wrong = np.tile([5.0, 0.0], (40, 1)), np.tile([0.0, 5.0], (40, 1))
    lucky = {"a": [right, wrong, wrong], "b": [wrong, right, wrong], "c": [wrong, wrong, right]}
    methods = {name: Predictions(labels, np.stack(logits)) for name, logits in lucky.items()}
    found = select("accuracy", Predictions(labels, np.stack([wrong] * 3)), methods, repeats=2)
    assert found.comparison.value == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda methods: {"x": methods["1.0"]}, r"`validation` must be of the methods \['1.0', '3.0'\] with 3 seeds"),
        (lambda methods: {**methods, "1.0": None}, r"`methods\['1.0'\]` must be Predictions"),
    ],
)
def test_validation_of_other_methods_is_refused(change, message):
    rng = np.random.default_rng(0)
    baseline, methods = predictions(rng), candidates(rng, (1.0, 3.0))
    with pytest.raises(ValueError, match=message):
        select("accuracy", baseline, methods, validation=(baseline, change(methods)))


def test_halves_are_drawn_from_the_seed():
    rng = np.random.default_rng(0)
    baseline, methods = predictions(rng), candidates(rng, (2.0, 2.01))
    first, again, other = (select("nll", baseline, methods, repeats=1, seed=seed) for seed in (0, 0, 5))
    assert first == again
    assert first.comparison.difference != other.comparison.difference or first.shares != other.shares
    with pytest.raises(ValueError, match=r"`repeats` must be a whole number of at least 1. Received: repeats=0"):
        select("nll", baseline, methods, repeats=0)
