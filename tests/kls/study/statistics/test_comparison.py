from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kls.calibration import summarize
from kls.study.statistics import METRICS, Comparison, Predictions, Uncertainty, compare, mcnemar

from .helpers import predictions, scores


def comparison(difference, half, metric="accuracy", n=3, margin=0.0025):
    """Returns a `Comparison` whose 95 % interval has a half-width, all of it from images without end."""
    images = (half / stats.norm.isf(0.025)) ** 2
    found = Uncertainty(n, 10**8, 0.0, images, 0.0)
    return Comparison(metric, 0.9, 0.9 + difference, found, 0.95, 0.95, margin)


class TestWord:
    @pytest.mark.parametrize(
        ("difference", "half", "word"),
        [
            (0.01, 0.009, "better"),
            (0.01, 0.011, "cannot tell"),
            (-0.01, 0.009, "worse"),
            (-0.01, 0.011, "cannot tell"),
            (0.0, 0.0024, "practically the same"),
            (0.0, 0.0029, "practically the same"),  # the 90 % interval is inside: 0.0029 * 1.645 / 1.96 < 0.0025
            (0.0, 0.0031, "cannot tell"),
            (0.002, 0.0001, "practically the same"),
            (-0.003, 0.0001, "worse"),
        ],
    )
    def test_it_follows_interval_and_margin(self, difference, half, word):
        found = comparison(difference, half)
        assert found.word == word
        assert found.low == pytest.approx(difference - half)
        assert found.high == pytest.approx(difference + half)

    @pytest.mark.parametrize("name", METRICS)
    def test_better_is_the_metrics_own_way(self, name):
        up = METRICS[name].larger_is_better
        assert comparison(0.1, 0.05, metric=name).word == ("better" if up else "worse")
        assert comparison(-0.1, 0.05, metric=name).word == ("worse" if up else "better")

    def test_one_seed_never_names_a_winner(self):
        found = comparison(0.1, 0.001, n=1)
        assert found.images_only
        assert found.word == "cannot tell"
        assert "one seed" in str(found)

    def test_the_interval_reaches_to_what_all_images_would_have(self):
        found = comparison(0.02, 0.004, "ece")
        biased = replace(found, uncertainty=replace(found.uncertainty, bias=-0.01))
        assert (biased.difference, biased.low) == (found.difference, found.low)
        assert biased.high == pytest.approx(found.high + 0.01)
        same = comparison(0.0, 0.002, "ece", margin=0.005)
        assert same.word == "practically the same"
        assert replace(same, uncertainty=replace(same.uncertainty, bias=0.004)).word == "cannot tell"

    def test_what_is_needed_ends_in_another_word(self):
        rng = np.random.default_rng(0)
        found = compare("accuracy", predictions(rng, 20), {"a": predictions(rng, 20)})["a"]
        assert found.word == "cannot tell"
        uncertainty = found.uncertainty.with_others(found.uncertainty.n, found.images_needed)
        for value in np.linspace(0.85, 0.95, 200):
            assert replace(found, baseline=0.9, value=value, uncertainty=uncertainty).word != "cannot tell"

    def test_text_says_difference_interval_word_and_need(self):
        assert str(comparison(0.01, 0.005)) == "accuracy +1.00 points [+0.50, +1.50]: better"
        assert str(comparison(0.1, 0.05, "nll")) == "NLL +0.1000 nats [+0.0500, +0.1500]: worse"
        found = replace(comparison(0.0, 0.01), uncertainty=Uncertainty(3, 1000, 0.0, 1e-5, 0.0))
        images = found.images_needed
        assert str(found).endswith(f"cannot tell; with {images:,} images one could")
        found = replace(found, uncertainty=Uncertainty(3, 1000, 1e-5, 1e-5, 0.0))
        assert str(found).endswith("cannot tell; it takes both more seeds and more images")


class TestCompare:
    @pytest.mark.parametrize("name", ["accuracy", "ece", "nll", "brier", "aurc"])
    def test_values_are_those_that_tables_show(self, name):
        rng = np.random.default_rng(0)
        baseline, method = predictions(rng), predictions(rng, signal=3.0)
        found = compare(name, baseline, {"method": method}, resamples=2)["method"]
        for value, one in ((found.baseline, baseline), (found.value, method)):
            shown = [summarize(one.labels, logits, from_logits=True)[name] for logits in one.logits]
            assert value == pytest.approx(np.mean(shown))

    @pytest.mark.parametrize("name", METRICS)
    def test_a_large_difference_is_found_and_its_direction(self, name):
        rng = np.random.default_rng(0)
        if name in ("auroc", "fpr95"):
            found = compare(name, scores(rng), {"method": scores(rng, distance=4.0)}, resamples=50)["method"]
        else:
            baseline = predictions(rng, signal=3.0)
            confused = Predictions(baseline.labels, 3 * predictions(rng, signal=1.0).logits)
            found = compare(name, confused, {"method": baseline}, resamples=50)["method"]
        assert found.word == "better"

    def test_networks_that_agree_are_the_same_if_images_suffice(self):
        few, many = (predictions(np.random.default_rng(0), n=2, size=size) for size in (200, 4000))
        assert compare("accuracy", few, {"itself": few})["itself"].word == "cannot tell"
        assert compare("accuracy", many, {"itself": many})["itself"].word == "practically the same"
        assert compare("nll", few, {"itself": few})["itself"].word == "practically the same"

    def test_pairing_takes_off_what_images_share(self):
        rng = np.random.default_rng(0)
        shared = rng.normal(0, 2, (400, 4))
        paired = compare("nll", predictions(rng, shared=shared), {"a": predictions(rng, shared=shared)})["a"]
        apart = compare("nll", predictions(rng, shared=shared), {"a": predictions(rng, shared=shared[::-1])})["a"]
        assert paired.uncertainty.images < apart.uncertainty.images / 2

    def test_several_methods_have_wider_intervals(self):
        rng = np.random.default_rng(0)
        baseline, methods = predictions(rng), {name: predictions(rng) for name in "abc"}
        together = compare("nll", baseline, methods)
        alone = compare("nll", baseline, {"b": methods["b"]})["b"]
        assert alone.single == 0.95
        assert 0.95 < together["b"].single <= 1 - 0.05 / 3
        assert together["b"].low < alone.low < alone.high < together["b"].high
        assert together["b"].value == alone.value

    @pytest.mark.parametrize("name", ["ece", "fpr95"])
    def test_it_is_made_again_from_its_seed(self, name):
        rng = np.random.default_rng(0)
        one, other = (scores(rng), scores(rng)) if name == "fpr95" else (predictions(rng), predictions(rng))
        first, again, another = (compare(name, one, {"a": other}, resamples=20, seed=seed)["a"] for seed in (0, 0, 1))
        assert first == again
        assert first.low != another.low

    @pytest.mark.parametrize(("name", "repetitions"), [("accuracy", 300), ("nll", 300), ("ece", 200)])
    def test_methods_that_are_the_same_are_seldom_told_apart(self, name, repetitions):
        rng, told = np.random.default_rng(0), 0
        for _ in range(repetitions):
            shared = rng.normal(0, 1, (150, 3))
            pair = [predictions(rng, 3, 150, 3, of_seeds=0.1, shared=shared) for _ in range(2)]
            found = compare(name, pair[0], {"same": pair[1]}, resamples=40, margin=1e-9)["same"]
            told += found.word in ("better", "worse")
        assert told <= stats.binom.isf(1e-3, repetitions, 0.05)

    def test_of_several_methods_seldom_one_is_told_apart(self):
        rng, told, repetitions = np.random.default_rng(0), 0, 120
        for _ in range(repetitions):
            baseline, *others = (predictions(rng, 3, 100, 2, of_seeds=0.1) for _ in range(6))
            found = compare("nll", baseline, dict(enumerate(others)), margin=1e-9)
            told += any(one.word in ("better", "worse") for one in found.values())
        assert told <= stats.binom.isf(1e-3, repetitions, 0.05)


class TestWrongUse:
    one = predictions(np.random.default_rng(0), n=2, size=12)

    def check(self, message, metric="accuracy", baseline=one, methods=None, **options):
        with pytest.raises(ValueError, match=message):
            compare(metric, baseline, {"a": self.one} if methods is None else methods, **options)

    def test_no_baseline(self):
        self.check(r"`baseline` must be Predictions for 'accuracy'. Received: None", baseline=None)

    def test_scores_where_predictions_are_due(self):
        self.check(
            r"`methods\['a'\]` must be Predictions for 'nll'. Received: Scores",
            "nll",
            methods={"a": scores(np.random.default_rng(0))},
        )
        self.check(r"`baseline` must be Scores for 'auroc'. Received: Predictions", "auroc")

    def test_no_method(self):
        self.check(r"`methods` must be a dictionary with a method at least. Received: \{\}", methods={})
        self.check("`methods` must be a dictionary", methods=self.one)

    def test_unpaired_seeds(self):
        three = Predictions(self.one.labels, np.zeros((3, 12, 4)))
        self.check(
            r"`methods\['a'\]` must have the baseline's logits of shape \(2, 12, 4\) \(seeds, images, classes\). "
            r"Received: shape \(3, 12, 4\)",
            methods={"a": three},
        )

    def test_other_images(self):
        other = Predictions(np.roll(self.one.labels, 1), self.one.logits)
        self.check(
            r"the baseline's labels, of the same images. Received: another label of image 0", methods={"a": other}
        )

    def test_other_ood_images(self):
        baseline, other = scores(np.random.default_rng(0)), scores(np.random.default_rng(0), sets=("near",))
        self.check(r"the baseline's scores of shapes \{.*'far'", "auroc", baseline, {"a": other})

    def test_an_infinite_loss(self):
        logits = self.one.logits.copy()
        logits[0, 3, self.one.labels[3]] = -np.inf
        ruled_out = {"a": Predictions(self.one.labels, logits)}
        self.check("`logits` must give no true class a probability of 0", "nll", methods=ruled_out)
        assert compare("accuracy", self.one, ruled_out)["a"].word == "cannot tell"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"metric": "auc"}, "`metric` must be one of 'accuracy', .* Received: metric='auc'"),
            ({"level": 95}, r"`level` must be a number in \(0.5, 1\). Received: level=95"),
            ({"margin": 0}, r"`margin` must be a number in \(0, inf\). Received: margin=0"),
            ({"resamples": 1}, "`resamples` must be a whole number of at least 2"),
            ({"seed": -1}, "`seed` must be a whole number of at least 0"),
        ],
    )
    def test_options(self, options, message):
        self.check(message, **options)


class TestMcnemar:
    @staticmethod
    def pair(gained, lost, both=20):
        """Returns two networks of which the second alone is right `gained` times, the first alone `lost` times."""
        first, second = (np.repeat(right, [gained, lost, both]) for right in ([0, 1, 1], [1, 0, 1]))
        return [
            Predictions(np.ones(len(right), int), np.stack([1 - right, right], axis=-1)[None] * 1.0)
            for right in (first, second)
        ]

    @pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (6, 0), (9, 2), (5, 5)])
    def test_it_is_the_binomial_test_of_what_one_alone_has_right(self, gained, lost):
        tail = stats.binom.cdf(min(gained, lost), gained + lost, 0.5)
        assert mcnemar(*self.pair(gained, lost)) == pytest.approx(min(1.0, 2 * tail))

    def test_it_agrees_with_the_interval_of_one_seed(self):
        for gained, certain in ((30, True), (3, False)):
            baseline, method = self.pair(gained, 2, both=400)
            found = compare("accuracy", baseline, {"a": method})["a"]
            assert (found.low > 0) == certain == (mcnemar(baseline, method) < 0.05)

    def test_it_is_for_one_seed(self):
        two = predictions(np.random.default_rng(0), n=2)
        with pytest.raises(ValueError, match=r"`baseline` must be of one seed for McNemar's test. Received: 2"):
            mcnemar(two, two)
