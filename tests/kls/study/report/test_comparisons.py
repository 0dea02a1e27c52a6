import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kls.study.plan import PlanError
from kls.study.report.comparisons import better_cells, compare_methods, comparison_table

HITS = {1.0: (40, 44, 42), 0.9: (46, 47, 48)}  # right images of each seed


@pytest.fixture
def records(store, finish_with):
    for gamma, hits in HITS.items():
        for seed, right in enumerate(hits):
            finish_with(gamma, seed, right)
    return store.records()


def test_differences_are_those_of_the_records(records, store):
    frame = pd.DataFrame(records).groupby("gamma")[["accuracy_last", "nll", "ece", "auroc_far"]].mean()
    for metric, column in (("accuracy", "accuracy_last"), ("nll", "nll"), ("ece", "ece"), ("auroc_far", "auroc_far")):
        found = compare_methods(records, store, metric)["gamma=0.9"]
        assert found.difference == pytest.approx(frame[column][0.9] - frame[column][1.0], abs=1e-6)
        assert found.uncertainty.n == 3


def test_without_a_name_auroc_is_the_mean_over_ood_datasets(store, finish_with, make_trial):
    for gamma in HITS:
        finish_with(gamma, 0, 40)
        trial = make_trial(gamma=gamma, seed=0)
        store.write_outputs(trial, "near", np.random.default_rng(7).normal(0, 2, (50, 3)), np.full(50, -1))
        record = store.record(trial)
        store.finish(trial, "study", {**record, "ood": {"far": "", "near": ""}, "auroc_near": 0.5})
    found = compare_methods(store.records(), store, "auroc")["gamma=0.9"]
    largest = {}
    for name in ("test", "far", "near"):
        logits, _ = store.logits(make_trial(gamma=0.9, seed=0), name)
        largest[name] = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max(axis=1)
    areas = [
        roc_auc_score(np.arange(110) < 60, np.concatenate([largest["test"], largest[name]])) for name in ("far", "near")
    ]
    assert found.value == pytest.approx(np.mean(areas), abs=1e-6)


def test_seeds_that_one_method_lacks_do_not_count(records, store, finish_with):
    finish_with(1.0, 3, 10)
    assert compare_methods(store.records(), store, "accuracy") == compare_methods(records, store, "accuracy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "accuracy", "baseline": "gamma=0.7"}, r"Received: baseline='gamma=0.7' of 'gamma=1', 'gamma=0.9'"),
        ({"metric": "auroc_near"}, r"`metric` must be of OOD datasets of the study: far. Received: near"),
        ({"metric": "nothing"}, r"`metric` must be one of 'accuracy', .* Received: metric='nothing'"),
    ],
)
def test_what_is_not_there_is_refused(records, store, options, message):
    with pytest.raises(ValueError, match=message):
        compare_methods(records, store, **options)


def test_methods_without_a_common_seed_are_refused(store, finish_with):
    finish_with(1.0, 0, 40)
    finish_with(0.9, 1, 40)
    with pytest.raises(PlanError, match=r"must share a seed to be compared. Received: none of 'gamma=1', 'gamma=0.9'"):
        compare_methods(store.records(), store, "accuracy")
    assert comparison_table(pd.DataFrame(store.records()), store) is None


class TestTable:
    def test_it_has_a_row_per_metric_with_interval_and_verdict(self, records, store):
        table, frame = comparison_table(pd.DataFrame(records), store)
        assert list(frame["metric"]) == ["accuracy", "nll", "brier", "ece", "auroc_far"]
        assert [row[0] for row in table.rows] == ["stripes", "resnet8v1", "gamma=0.9", "n = 3", ""]
        assert [row[1] for row in table.rows] == ["accuracy", "NLL", "Brier score", "ECE", "AUROC far"]
        accuracy = frame.iloc[0]
        assert table.rows[0][2] == f"+8.33 [{100 * accuracy['low']:+.2f}, {100 * accuracy['high']:+.2f}]"
        assert table.rows[0][3].startswith(accuracy["word"])
        *_, longest = sorted(len(line) for line in table.markdown().splitlines() if line.startswith("|"))
        assert longest <= 100
        margins = "accuracy, 0.01 nats of NLL, 0.005 of Brier score, 0.5 points of ECE, 1 points of AUROC"
        assert f"0.25 points of {margins}" in table.caption
        assert table.notes == ()

    def test_one_seed_never_names_a_winner(self, store, finish_with):
        finish_with(1.0, 0, 10)
        finish_with(0.9, 0, 60)
        table, frame = comparison_table(pd.DataFrame(store.records()), store)
        assert set(frame["word"]) == {"cannot tell"}
        assert table.notes == ("One seed cannot tell between trainings: its intervals are for new images alone.",)

    def test_cells_that_are_better_are_found_and_no_others(self, records, store):
        _, frame = comparison_table(pd.DataFrame(records), store)
        frame["word"] = ["better", "worse", "cannot tell", "better", "practically the same"]
        of = ("stripes", "resnet8v1", "gamma=0.9")
        assert better_cells(frame) == {(*of, "accuracy"), (*of, "ece")}
        assert better_cells(None) == set()

    def test_without_a_baseline_or_a_shared_seed_there_is_none(self, store, finish_with):
        finish_with(0.9, 0, 40)
        assert comparison_table(pd.DataFrame(store.records()), store) is None
        finish_with(1.0, 1, 40)
        assert comparison_table(pd.DataFrame(store.records()), store) is None
