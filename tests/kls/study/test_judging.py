from itertools import product
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import kls
from kls.study.judging import verdict_of
from kls.study.methods import CrossEntropy, DisturbLabel, LabelSmoothing
from kls.study.plan import Plan, PlanError
from kls.study.results import Results
from kls.study.verdict import AS_TRAINED, NORMALISED, TEMPERATURE

SIZE = 1200
LABELS = np.arange(SIZE) % 3


def logits(seed, signal=2.0, scale=1.0, size=SIZE):
    """Returns logits of which the true class is ahead; images are alike in all networks, but for what a seed adds."""
    shared, own = np.random.default_rng(size).normal(0, 1, (size, 3)), np.random.default_rng(seed)
    return scale * signal * (signal * np.eye(3)[np.arange(size) % 3] + shared + own.normal(0, 0.05, (size, 3)))


def outliers(seed, scale=1.0):
    return scale * np.random.default_rng([seed, 1]).normal(0, 1, (400, 3))


@pytest.fixture
def judge(store, finish_as, make_trial):
    """Returns a function that gives the verdict on methods, each a function of the seed that returns what it has."""

    def give(methods, seeds=3, **options):
        for method, outputs in methods.items():
            for seed in range(seeds):
                found = outputs(seed)
                finish_as(make_trial(method=method, seed=seed), *(found if isinstance(found, tuple) else (found,)))
        return verdict_of(store.records(), store, **options)

    return give


def smoothing(outputs, baseline=logits):
    return {CrossEntropy(): baseline, LabelSmoothing(0.9): outputs}


class TestOfLogits:
    """What stored logits end in."""

    def test_a_method_that_is_right_more_often_is_recommended(self, judge):
        found = judge(smoothing(lambda seed: logits(seed, signal=2.3)))
        assert (found.answer, found.method) == ("Yes", "gamma=0.9")
        assert str(found).startswith("Should you smooth the labels? Yes: gamma=0.9 is better in accuracy, ")

    def test_one_that_is_wrong_more_often_is_not(self, judge):
        found = judge(smoothing(lambda seed: logits(seed, signal=1.7)))
        assert (found.answer, found.method) == ("No", "gamma=1")

    def test_softer_logits_are_repaired_and_still_named(self, judge):
        found = judge(smoothing(lambda seed: logits(seed, scale=0.3)))
        assert (found.answer, found.method) == ("It makes no difference", "gamma=1")
        text = " ".join(str(found).split())
        assert "As trained gamma=0.9 is worse in NLL and ECE; after temperature scaling: practically the same." in text

    def test_gain_on_one_side_and_loss_on_the_other_depend(self, judge):
        methods = smoothing(
            lambda seed: (logits(seed, signal=2.3), {"far": logits(seed, signal=2.5, size=400)}),
            lambda seed: (logits(seed), {"far": outliers(seed)}),
        )
        found = judge(methods)
        assert (found.answer, found.method) == ("It depends", "gamma=0.9")
        assert judge({}, prefer="auroc").method == "gamma=1"

    def test_few_images_cannot_tell(self, judge):
        found = judge(smoothing(lambda seed: logits(seed + 100, size=30), lambda seed: logits(seed, size=30)))
        assert (found.answer, found.method) == ("Cannot tell", None)

    def test_scaled_numbers_are_those_of_evaluate(self, judge):
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
        network.layers[-1].set_weights([np.eye(3)])
        smoothed = {seed: logits(seed, scale=0.3).astype(np.float32) for seed in range(2)}
        found = judge(smoothing(smoothed.get), seeds=2)
        compared = {(line.metric, line.correction): line.comparison for line in found.lines}
        evaluations = [kls.evaluate(network, (values, LABELS), scaling="temperature") for values in smoothed.values()]
        for metric in ("nll", "ece"):
            for correction, scaling in ((AS_TRAINED, "none"), (TEMPERATURE, "temperature")):
                expected = np.mean([one.value(metric, scaling) for one in evaluations])
                assert compared[metric, correction].value == pytest.approx(expected, abs=1e-5)

    def test_normalised_numbers_are_those_of_a_plain_loop(self, judge):
        lengths = np.random.default_rng(5).choice([0.1, 3], (SIZE, 1))  # which tell nothing, and normalising takes away
        smoothed = lengths * logits(0), lengths[:400] * outliers(0, 2.0)
        found = judge(
            smoothing(lambda seed: (smoothed[0], {"far": smoothed[1]}), lambda s: (logits(s), {"far": outliers(s)}))
        )
        largest = []
        for values in smoothed:
            centred = values.astype(np.float32).astype(np.float64)
            centred -= centred.mean(axis=1, keepdims=True)
            unit = np.exp(centred / np.sqrt((centred**2).sum(axis=1, keepdims=True)))
            largest.append((unit / unit.sum(axis=1, keepdims=True)).max(axis=1))
        compared = {(line.metric, line.correction): line.comparison for line in found.lines}
        area = roc_auc_score(np.arange(SIZE + 400) < SIZE, np.concatenate(largest))
        assert compared["auroc_far", NORMALISED].value == pytest.approx(area, abs=1e-6)
        wrong = (smoothed[0].argmax(axis=1) != LABELS)[np.argsort(-largest[0])]
        risks = np.mean(np.cumsum(wrong) / np.arange(1, SIZE + 1))
        assert compared["aurc", NORMALISED].value == pytest.approx(risks, abs=1e-6)

    def test_what_a_correction_makes_worse_is_taken_as_trained(self, judge):
        def sure_by_length(seed):
            values = logits(seed)
            wrong = values.argmax(axis=1) != LABELS
            return np.where(wrong[:, None], 0.01, 1) * values  # short where it is wrong, which normalising hides

        found = judge(smoothing(sure_by_length))
        assert found.uncorrected == {(method, NORMALISED): ["aurc"] for method in ("gamma=1", "gamma=0.9")}
        text = " ".join(str(found).split())
        for method in ("gamma=1", "gamma=0.9"):
            worse = f"{method} is worse in AURC with normalised logits than as trained, and taken as trained there."
            assert worse in text
        trained, corrected = (line.comparison for line in found.lines if line.metric == "aurc")
        assert (corrected.baseline, corrected.value) == (trained.baseline, trained.value)

    def test_the_one_is_corrected_where_the_other_is_not(self, judge):
        lengths = np.random.default_rng(5).choice([0.1, 3], (SIZE, 1))
        found = judge(smoothing(lambda seed: lengths * logits(seed)))
        assert found.uncorrected == {("gamma=1", NORMALISED): ["aurc"]}
        trained, corrected = (line.comparison for line in found.lines if line.metric == "aurc")
        assert corrected.baseline == trained.baseline
        assert corrected.value != trained.value

    def test_several_ood_sets_have_a_line_each_and_their_mean(self, judge):
        def both(seed):
            return logits(seed), {"far": outliers(seed), "near": outliers(seed + 50)}

        found = judge(smoothing(both, both), prefer="auroc")
        lines = [line.metric for line in found.lines if line.correction == NORMALISED]
        assert lines == ["aurc", "auroc", "auroc_far", "auroc_near"]
        assert "  mean AUROC  " in str(found)


THREE = {
    CrossEntropy(): logits,
    LabelSmoothing(0.9): lambda seed: logits(seed, signal=2.3),
    LabelSmoothing(0.6): lambda seed: logits(seed, signal=2.1, scale=0.3),
}


class TestSeveralMethods:
    def test_the_best_is_chosen_and_judged_on_other_images(self, judge, store):
        found = judge(THREE)
        assert found.candidate == found.method == "gamma=0.9"
        assert "Chosen of 2 methods by accuracy, on images that it is not judged on;" in " ".join(str(found).split())
        accuracy, nll = found.lines[0].comparison, found.lines[1].comparison
        assert accuracy.single == 0.95 < nll.single  # those of the other metrics hold for all methods at once

    def test_where_there_are_validation_images_these_choose(self, store, finish_as, make_trial):
        favoured = {1.0: 2.0, 0.9: 2.0, 0.6: 2.5}
        for (gamma, signal), seed in product(favoured.items(), range(3)):
            test, validation = logits(seed, signal=2.0), logits(seed, signal=signal, size=300)
            finish_as(make_trial(gamma=gamma, seed=seed), test, {"far": outliers(seed)}, validation=validation)
        found = verdict_of(store.records(), store)
        assert found.candidate == "gamma=0.6"
        assert "by accuracy, on 300 validation images that it is not judged on;" in " ".join(str(found).split())
        assert found.lines[0].comparison.difference == 0  # on the test images
        assert "validation" not in verdict_of(store.records(), store, prefer="auroc").chosen

    def test_another_metric_prefers_another_method(self, judge):
        found = judge({**THREE, LabelSmoothing(0.6): lambda seed: logits(seed, signal=2.5)}, prefer="nll")
        assert found.candidate == "gamma=0.6"
        assert [line.correction for line in found.lines if line.comparison.single == 0.95] == [TEMPERATURE]

    def test_one_that_lacks_what_is_required_is_passed_over(self, judge):
        found = judge(THREE, require={"accuracy": 2}, prefer="nll")
        assert found.candidate == "gamma=0.9"
        assert list(found.shortfalls) == ["gamma=0.6"]
        text = " ".join(str(found).split())
        assert "gamma=0.6 is not sure to do what is required: accuracy may change by " in text
        assert "points, where at least +2.00 is required." in text
        assert "among those that are sure to do what is required" in text

    def test_where_all_lack_it_none_is_recommended(self, judge):
        found = judge(smoothing(lambda seed: logits(seed, signal=1.9)), require={"accuracy": -0.3, "ece": -50})
        assert (found.answer, found.method) == ("No", "gamma=1")
        text = " ".join(str(found).split())
        assert "No: no method is sure to do what is required. gamma=0.9 is worse in accuracy" in text
        assert "points, where at least -0.30 is required." in text
        assert "ECE" not in found.shortfalls["gamma=0.9"]

    def test_a_requirement_of_an_error_is_on_its_upper_end(self, judge):
        found = judge(smoothing(lambda seed: logits(seed, signal=1.8)), require={"nll": -0.001})
        (one,) = [line.comparison for line in found.lines if (line.metric, line.correction) == ("nll", TEMPERATURE)]
        assert found.shortfalls["gamma=0.9"] == (
            f"NLL after temperature scaling may change by +{one.high:.4f} nats, where at most +0.0010 is required"
        )

    def test_other_methods_are_called_by_their_names(self, judge):
        found = judge({CrossEntropy(): logits, DisturbLabel(0.1): lambda seed: logits(seed, signal=2.3)})
        assert str(found).startswith(f"Should you train with {DisturbLabel(0.1).label}? Yes: ")


def test_the_table_has_a_row_per_line(judge):
    found = judge(smoothing(lambda seed: logits(seed, scale=0.3)))
    table, frame = found.table()
    assert table.header == ("metric", "correction", "n", "difference", "verdict")
    assert [row[:2] for row in table.rows] == [
        ("accuracy", AS_TRAINED),
        ("NLL", AS_TRAINED),
        ("NLL", TEMPERATURE),
        ("ECE", AS_TRAINED),
        ("ECE", TEMPERATURE),
        ("AURC", AS_TRAINED),
        ("AURC", NORMALISED),
    ]
    assert list(frame["correction"]) == [row[1] for row in table.rows]
    assert [row[-1].partition(";")[0] for row in table.rows] == list(frame["word"])
    assert table.caption.startswith("Should you smooth the labels?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefer": "auroc"}, r"`prefer` must be one of 'accuracy', 'nll', 'ece', 'aurc'. Received: prefer='auroc'"),
        ({"require": {"speed": 1}}, r"`require` must be one of 'accuracy', .* Received: require='speed'"),
        ({"require": {"nll": "x"}}, r"`require\['nll'\]` must be"),
        ({"require": [1]}, r"`require` must be \{metric: least gain\}. Received: require=\[1\]"),
        ({"level": 95}, r"`level` must be"),
    ],
)
def test_wrong_arguments_are_named(judge, options, message):
    with pytest.raises(ValueError, match=message):
        judge(smoothing(logits), **options)


class TestResults:
    @pytest.fixture
    def results(self, store, finish_as, make_trial):
        def give(*places, seeds=2, gammas=(1.0, 0.9), shared=True):
            trials = [
                finish_as(
                    make_trial(gamma=gamma, seed=seed + (gamma < 1 and not shared) * seeds, model=model),
                    logits(seed, size=60),
                )
                for model in places
                for gamma in gammas
                for seed in range(seeds)
            ]
            return Results(SimpleNamespace(plan=Plan("study", tuple(trials)), store=store))

        return give

    def test_there_is_one_of_one_dataset_and_network(self, results, store):
        found = results("resnet8v1")
        assert str(found.verdict()) == str(verdict_of(store.records(), store))
        assert [str(one) for one in found.verdicts()] == [str(found.verdict())]

    def test_of_several_networks_there_is_one_each(self, results, store, capsys):
        found = results("resnet8v1", "resnet20v1")
        with pytest.raises(PlanError, match=r"one dataset and network: .* Received: stripes, resnet20v1; stripes, res"):
            found.verdict()
        assert [one.place for one in found.verdicts()] == ["stripes, resnet8v1", "stripes, resnet20v1"]
        found.show_verdicts()
        text = (store.out / "verdict.txt").read_text()
        assert text == "\n\n".join(map(str, found.verdicts())) + "\n"
        assert capsys.readouterr().out == f"\n{text}"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gammas": (0.9, 0.6)}, r"`baseline` must be a method with finished trials"),
            ({"gammas": (1.0,)}, r"`baseline` must be a method with finished trials, beside another"),
            ({"shared": False}, r"Methods must share a seed to be compared"),
            ({"seeds": 0}, r"Received: baseline='gamma=1' of none"),
        ],
    )
    def test_without_a_pair_of_methods_there_is_none(self, results, store, capsys, options, message):
        found = results("resnet8v1", **options)
        with pytest.raises(PlanError, match=message):
            found.verdict()
        found.show_verdicts()
        assert capsys.readouterr().out == ""
        assert not (store.out / "verdict.txt").exists()
