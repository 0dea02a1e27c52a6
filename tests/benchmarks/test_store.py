import csv
import json

import numpy as np
import pytest

from benchmarks.runner.store import COLUMNS

RECORD = {"accuracy_best": 0.75, "accuracy_last": 0.5, "seconds": 1.0, "images_per_second": 10.0, "train_images": 96}


def rows(store):
    with open(store.out / "results.csv") as file:
        return list(csv.DictReader(file))


def test_columns_begin_as_designed():
    assert COLUMNS[:15] == (
        *("trial", "study", "dataset", "model", "loss", "gamma", "seed", "epochs", "accuracy_best", "accuracy_last"),
        *("ece", "nll", "brier", "seconds", "images_per_second"),
    )


def test_results_have_a_row_per_finished_trial_in_an_order_of_their_own(store, make_trial):
    trials = [make_trial(gamma=gamma, seed=seed) for gamma in (0.5, 1.0) for seed in (1, 0)]
    for trial in trials:
        store.begin(trial)
        store.finish(trial, "study", RECORD)
    store.begin(make_trial(seed=9))
    found = [(row["gamma"], row["seed"], row["accuracy_best"]) for row in rows(store)]
    assert found == [("1.0", "0", "0.75"), ("1.0", "1", "0.75"), ("0.5", "0", "0.75"), ("0.5", "1", "0.75")]
    assert rows(store)[0]["ece"] == ""


def test_a_trial_is_finished_when_its_record_is_there(store, make_trial):
    trial = make_trial()
    assert store.record(trial) is None
    directory = store.begin(trial)
    assert store.record(trial) is None
    assert json.loads((directory / "trial.json").read_text())["gamma"] == 0.9
    store.finish(trial, "study", RECORD)
    assert store.record(trial)["accuracy_best"] == 0.75


def test_a_failure_is_kept_until_the_trial_begins_again(store, make_trial):
    trial = make_trial()
    store.begin(trial)
    store.fail(trial, "loss became nan")
    assert store.failure(trial) == "loss became nan"
    store.begin(trial)
    assert store.failure(trial) is None


def test_logits_come_back_as_float32(store, make_trial):
    trial = make_trial()
    store.begin(trial)
    logits = np.random.default_rng(0).normal(size=(5, 3))
    store.write_outputs(trial, "test", logits, np.arange(5))
    found, labels = store.logits(trial, "test")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, logits.astype(np.float32))
    np.testing.assert_array_equal(labels, np.arange(5))


def test_history_has_a_row_per_epoch(store, make_trial):
    trial = make_trial()
    store.begin(trial)
    store.write_history(trial, [{"loss": 1.5}, {"loss": 0.5, "val_loss": 0.7}])
    text = (store.directory(trial) / "history.csv").read_text()
    assert text == "epoch,loss,val_loss\n1,1.5,\n2,0.5,0.7\n"


def test_a_damaged_record_is_an_unfinished_trial(store, make_trial):
    trial = make_trial()
    store.begin(trial)
    store.finish(trial, "study", RECORD)
    (store.directory(trial) / "record.json").write_text("")
    assert store.record(trial) is None
    assert store.records() == []


class TestArrays:
    @pytest.fixture
    def trial(self, store, make_trial):
        trial = make_trial()
        store.begin(trial)
        return trial

    def test_they_come_back_by_their_names_with_their_dtypes(self, store, trial):
        arrays = {"pictures": np.arange(6, dtype=np.uint8).reshape(2, 3), "logits": np.array([0.1, np.inf])}
        store.write_arrays(trial, "kept", arrays)
        found = store.arrays(trial.id, "kept")
        assert list(found) == ["pictures", "logits"]
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)

    def test_what_was_not_kept_is_none(self, store, trial):
        store.write_arrays(trial, "kept", {"one": np.ones(2)})
        assert store.arrays(trial.id, "other") is None
        assert store.arrays("0123456789ab", "kept") is None
        assert store.class_losses(trial.id) is None

    def test_they_are_there_whole_or_as_before(self, store, trial, monkeypatch):
        def stop(file, **arrays):
            file.write(b"PK")
            raise KeyboardInterrupt

        store.write_arrays(trial, "kept", {"one": np.ones(2)})
        monkeypatch.setattr(np, "savez", stop)
        for name in ("kept", "new"):
            with pytest.raises(KeyboardInterrupt):
                store.write_arrays(trial, name, {"one": np.zeros(2)})
        assert store.arrays(trial.id, "kept")["one"].tolist() == [1, 1]
        assert store.arrays(trial.id, "new") is None

    def test_losses_of_classes_are_kept_beside_them(self, store, trial):
        losses, accuracies = np.random.default_rng(0).random((2, 4, 3))
        store.write_class_losses(trial, losses, accuracies)
        np.testing.assert_array_equal(store.class_losses(trial.id), (losses, accuracies))
        assert (store.directory(trial) / "class_losses.npz").is_file()
