from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import kls
from kls.study.methods import CrossEntropy, DisturbLabel, LabelSmoothing
from kls.study.plan import Plan, PlanError
from kls.study.results import Results
from kls.study.statistics import BETTER, SAME, UNKNOWN, WORSE, Comparison, Uncertainty
from kls.study.verdict import AS_TRAINED, NORMALISED, TEMPERATURE, Line, Verdict, answer_of, verdict_of

SIZE = 1200
LABELS = np.arange(SIZE) % 3
AGREE, TOLD, OPEN = 1e-8, 1e-6, 1e-3  # variances


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


def line(metric, difference, variance=TOLD, correction=AS_TRAINED, n=3):
    name = metric.partition("_")[0]
    spread = Uncertainty(n, SIZE, variance if n > 1 else 0.0, 1e-9, 0.0)
    return Line(metric, correction, Comparison(name, 0.5, 0.5 + difference, spread, 0.95, 0.95, 0.0025))


def verdict(*lines, **changes):
    given = Verdict("digits, resnet8v1", "Should you?", "gamma=0.9", lines, "360 test images", "accuracy", "", {}, {})
    return replace(given, **changes)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((BETTER, SAME), "Yes"),
        ((BETTER, UNKNOWN), "Yes"),
        ((WORSE, SAME), "No"),
        ((WORSE, UNKNOWN), "No"),
        ((BETTER, WORSE, UNKNOWN), "It depends"),
        ((SAME, SAME), "It makes no difference"),
        ((SAME, UNKNOWN), "Cannot tell"),
    ],
)
def test_the_answer_is_that_of_the_words(words, answer):
    assert answer_of(words) == answer


class TestSentences:
    """What is said of comparisons that are made up."""

    @pytest.mark.parametrize(
        ("lines", "said", "method"),
        [
            (
                [line("accuracy", 0.02), line("auroc_far", 0.001, OPEN)],
                "Yes: gamma=0.9 is better in accuracy, and worse in nothing after correction. Cannot tell: AUROC far.",
                "gamma=0.9",
            ),
            (
                [line("accuracy", 0.0, AGREE), line("ece", 0.05), line("ece", 0.02, correction=TEMPERATURE)],
                "No: gamma=0.9 is worse in ECE, and better in nothing after correction.",
                "gamma=1",
            ),
            (
                [line("accuracy", 0.0, AGREE), line("ece", 0.0, AGREE), line("ece", 0.02, correction=TEMPERATURE)],
                "No: gamma=0.9 is worse in ECE after temperature scaling, and better in nothing after correction.",
                "gamma=1",
            ),
            (
                [line("accuracy", 0.02), line("nll", 0.5), line("nll", 0.0, OPEN, TEMPERATURE)],
                "Yes: gamma=0.9 is better in accuracy, and worse in nothing after correction. As trained gamma=0.9 is "
                "worse in NLL; after temperature scaling: cannot tell.",
                "gamma=0.9",
            ),
            (
                [line("accuracy", 0.02), line("auroc_far", -0.1), line("auroc_far", -0.05, correction=NORMALISED)],
                "It depends: gamma=0.9 is better in accuracy, but worse in AUROC far. By accuracy, take gamma=0.9.",
                "gamma=0.9",
            ),
            (
                [line("accuracy", 0.0, OPEN), line("ece", -0.1), line("aurc", 0.1)],
                "It depends: gamma=0.9 is better in ECE, but worse in AURC. By accuracy, one cannot decide: stay with "
                "gamma=1. Cannot tell: accuracy.",
                "gamma=1",
            ),
            (
                [line("accuracy", 0.0, AGREE), line("ece", 0.05), line("ece", 0.0, AGREE, TEMPERATURE)],
                "It makes no difference: gamma=0.9 is practically the same in all metrics after correction. As trained "
                "gamma=0.9 is worse in ECE; after temperature scaling: practically the same.",
                "gamma=1",
            ),
        ],
    )
    def test_each_answer_names_the_metrics_it_stands_on(self, lines, said, method):
        found = verdict(*lines)
        assert " ".join(str(found).split("\n  digits")[0].split()) == f"Should you? {said}"
        assert found.method == method

    def test_it_says_what_it_would_take_to_tell(self):
        accuracy = line("accuracy", 0.01, 1e-4)
        found = verdict(accuracy, line("ece", 0.0, OPEN))
        seeds, images = accuracy.comparison.seeds_needed, accuracy.comparison.images_needed
        assert images is None
        assert f"Should you? Cannot tell. To tell by accuracy it takes {seeds:,} seeds." in str(found)
        assert found.method is None

    def test_by_another_metric_if_the_preferred_one_is_told(self):
        found = verdict(line("accuracy", 0.0, AGREE), line("ece", 0.0, OPEN))
        assert "Cannot tell. To tell by ECE it takes " in str(found)

    def test_with_neither_seeds_nor_images_it_takes_both(self):
        spread = Uncertainty(3, SIZE, OPEN, OPEN, 0.0)
        accuracy = line("accuracy", 0.0)
        found = verdict(replace(accuracy, comparison=replace(accuracy.comparison, uncertainty=spread)))
        assert " ".join(str(found).split()).count("it takes both more seeds and more images.") == 1

    def test_the_last_line_says_which_difference_could_not_be_seen(self):
        accuracy = line("accuracy", 0.0, 1e-5)
        one = accuracy.comparison
        text = " ".join(str(verdict(accuracy, line("ece", 0.2))).split())
        assert f"An accuracy difference under {100 * one.high:.2f} points could not have been seen with 3 seeds" in text
        needed = one.uncertainty.seeds_needed(0.0025, 0.95)
        assert text.endswith(f"and 360 test images; for one of 0.25 points it takes {needed:,} seeds.")
        assert str(verdict(line("accuracy", 0.02, AGREE))).endswith("and 360 test images.")

    def test_one_seed_never_names_a_winner(self):
        found = verdict(line("accuracy", 0.2, n=1), line("ece", 0.2, n=1), shortfalls={"gamma=0.9": "ECE rises"})
        assert found.method is None
        assert str(found).startswith("Should you? Cannot tell. One seed does not tell one way to train from another.\n")
        assert "One seed cannot tell between trainings" in " ".join(str(found).split())
        assert "Train 3 seeds at least." in " ".join(str(found).split())
        assert {line.word for line in found.lines} == {UNKNOWN}

    def test_lines_are_aligned_within_80_columns(self):
        far = "auroc_of_a_very_long_name_of_images"
        found = verdict(
            line("accuracy", -0.6612, OPEN),
            line("nll", 12.3456),
            line("nll", -0.1, AGREE, TEMPERATURE),
            line(far, 0.0, AGREE),
            candidate="my_method " + "strength=0.123456 " * 5,
        )
        rows = str(found).splitlines()
        assert max(map(len, rows)) <= 80
        numbers = [row for row in rows if "[" in row]
        assert len(numbers) == 4
        assert len({row.index("[") for row in numbers}) == 1
        first, last = (rows.index(row) for row in numbers[2:])
        width = numbers[3].index("+0.00")
        heading = "".join(row[:width].replace(" ", "") for row in rows[first + 1 : last + 1])
        assert heading == f"AUROC{far.removeprefix('auroc_')}"


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
        smoothed = logits(0, scale=0.3), outliers(0, 2.0)
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

    def test_a_correction_that_harms_the_baseline_is_named(self, judge):
        def sure_by_length(seed):
            values = logits(seed)
            wrong = values.argmax(axis=1) != LABELS
            return np.where(wrong[:, None], 0.01, 1) * values  # short where it is wrong, which normalising hides

        found = judge(smoothing(sure_by_length, sure_by_length))
        assert found.harmful == {NORMALISED: ["aurc"]}
        assert "gamma=1 itself is worse in AURC with normalised logits.\n" in str(found)

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
