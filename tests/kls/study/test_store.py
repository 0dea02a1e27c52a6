import csv
import json
import math
import threading

import numpy as np
import pytest

from kls.study import store as store_module
from kls.study.records import seal
from kls.study.store import COLUMNS, StoreError


def rows(store):
    with open(store.out / "results.csv") as file:
        return list(csv.DictReader(file))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_columns_begin_as_designed():
    assert COLUMNS[:15] == (
        *("trial", "study", "dataset", "model", "loss", "gamma", "seed", "epochs", "accuracy_best", "accuracy_last"),
        *("ece", "nll", "brier", "seconds", "images_per_second"),
    )


def test_results_have_a_sorted_row_per_finished_trial(store, make_trial, finish):
    trials = [make_trial(gamma=gamma, seed=seed) for gamma in (0.5, 1.0) for seed in (1, 0)]
    finish(*trials)
    store.begin(make_trial(seed=9))
    found = [(row["gamma"], row["seed"]) for row in rows(store)]
    assert found == [("1.0", "0"), ("1.0", "1"), ("0.5", "0"), ("0.5", "1")]
    records = [store.record(trial) for trial in (trials[3], trials[2], trials[1], trials[0])]
    assert [float(row["ece"]) for row in rows(store)] == [record["ece"] for record in records]


def test_a_trial_is_finished_when_its_record_is_there(store, make_trial, finish):
    trial = make_trial()
    assert store.record(trial) is None
    directory = store.begin(trial)
    assert store.record(trial) is None
    assert json.loads((directory / "trial.json").read_text())["method"] == {"name": "label_smoothing", "gamma": 0.9}
    finish(trial)
    assert store.record(trial)["images_per_second"] == 10.0


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


def test_a_failure_beside_a_record_means_nothing(store, make_trial, finish):
    trial = make_trial()
    store.begin(trial)
    store.fail(trial, "no room")
    finish(trial)
    assert not (store.directory(trial) / "failure.txt").exists()
    store.fail(trial, "no room for results.csv")
    assert store.failure(trial) is None


class TestADamagedRecord:
    @pytest.fixture
    def trial(self, make_trial, finish):
        trial, other = make_trial(), make_trial(gamma=1.0)
        finish(trial, other, ood=["noise"])
        return trial

    def change(self, store, trial, /, **changes):
        path = store.directory(trial) / "record.json"
        path.write_text(json.dumps(seal(json.loads(path.read_text()) | changes)))

    def assert_left_out(self, store, trial, reason, capsys):
        """It is named with its reason and its directory, and left out of the records; the other trial is not."""
        directory = store.directory(trial)
        with pytest.raises(StoreError, match=rf"{directory}/record.json is damaged \({reason}"):
            store.record(trial)
        for _ in range(2):
            assert [record["gamma"] for record in store.records()] == [1.0]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"left out: {directory}/record.json is damaged")
        assert line.endswith(f"To train it again, delete {directory}.")
        assert store.is_finished(trial)

    @pytest.mark.parametrize("content", ["", "{", "null", "[" * 100_000, '{"a": 1}', "\x00"])
    def test_without_a_record_in_it(self, store, trial, content, capsys):
        (store.directory(trial) / "record.json").write_text(content)
        self.assert_left_out(store, trial, "", capsys)

    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("accuracy_best", 1.5, r"`accuracy_best` must be a number in \[0, 1\]"),
            ("accuracy_last", "0.9", r"`accuracy_last` must be a number"),
            ("auroc_noise", None, r"`auroc_noise` must be a number"),
            ("nll", math.nan, r"`nll` must be a number"),
            ("classes", 3.0, r"`classes` must be a whole number"),
            ("ood", ["noise"], "ood must be texts by name"),
            ("scores", {"knn": 1}, "scores must be lists of texts by name"),
            ("evaluation", 5, "evaluation must be a text"),
        ],
    )
    def test_with_a_field_of_another_kind(self, store, trial, name, value, reason, capsys):
        self.change(store, trial, **{name: value})
        self.assert_left_out(store, trial, reason, capsys)

    @pytest.mark.parametrize("changes", [{"method": {"name": "mine"}}, {"seed": 1}, {"epochs": "2"}])
    def test_with_another_recipe(self, store, trial, changes, capsys):
        self.change(store, trial, recipe={**trial.recipe, **changes})
        self.assert_left_out(store, trial, "its recipe is that of the trial", capsys)

    @pytest.mark.parametrize("name", ["accuracy_best", "ece", "ood", "sha256", "checksum", "gamma"])
    def test_without_a_field(self, store, trial, name, capsys):
        path = store.directory(trial) / "record.json"
        record = json.loads(path.read_text())
        del record[name]
        path.write_text(json.dumps(record))
        self.assert_left_out(store, trial, f"{name} missing", capsys)

    @pytest.mark.parametrize(("name", "value"), [("accuracy_best", 0.99), ("ece", 0.0), ("seconds", 1.0)])
    def test_with_a_number_that_was_edited(self, store, trial, name, value, capsys):
        path = store.directory(trial) / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
        self.assert_left_out(store, trial, "it was changed after it was written", capsys)

    def test_in_the_directory_of_another_trial(self, store, trial, make_trial, capsys):
        other = store.directory(make_trial(gamma=1.0)) / "record.json"
        (store.directory(trial) / "record.json").write_text(other.read_text())
        self.assert_left_out(store, trial, "its recipe is that of the trial", capsys)


class TestDamagedFiles:
    @pytest.fixture
    def trial(self, make_trial, finish):
        trial = make_trial()
        finish(trial, ood=["noise"])
        return trial

    def test_whole_ones_are_believed(self, store, trial):
        assert store.believed(store.records()) == store.records()
        assert store.left_out == []

    @pytest.mark.parametrize("name", ["history.csv", "logits/test.npz", "logits/noise.npz"])
    @pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: flip_a_bit(path)])
    def test_outputs_are_named(self, store, trial, name, damage, capsys):
        path = store.directory(trial) / name
        damage(path)
        for _ in range(2):
            assert store.believed(store.records()) == []
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"left out: {path} is ")
        assert line.endswith(f"To train it again, delete {store.directory(trial)}.")

    @pytest.mark.parametrize("name", ["accuracy_best", "accuracy_last"])
    def test_another_accuracy_than_that_of_the_files(self, store, trial, name, capsys):
        path = store.directory(trial) / "record.json"
        path.write_text(json.dumps(seal(json.loads(path.read_text()) | {name: 0.99})))
        assert store.believed(store.records()) == []
        assert f"its {name} is 0.99, that of the files beside it 0." in capsys.readouterr().err

    def test_weights_are_named_where_they_are_asked_for(self, store, trial):
        path = store.weights(trial)
        flip_a_bit(path)
        assert len(store.believed(store.records())) == 1
        with pytest.raises(StoreError, match=rf"{path} is damaged: it was changed .* delete {path.parent}\."):
            store.weights(trial)
        path.unlink()
        with pytest.raises(StoreError, match=f"{path} is missing"):
            store.weights(trial)

    def test_weights_without_a_record_are_not_those_of_a_trained_network(self, store, trial):
        (store.directory(trial) / "record.json").unlink()
        with pytest.raises(StoreError, match="has to be trained first"):
            store.weights(trial)


class TestNewOutputsOfAFinishedTrial:
    @pytest.fixture
    def trial(self, make_trial, finish):
        trial = make_trial()
        finish(trial, ood=["noise"])
        return trial

    @pytest.mark.parametrize("name", ["test", "noise"])
    def test_logits_that_agree_stay_and_scores_are_added(self, store, trial, name):
        logits, labels = store.logits(trial, name)
        store.write_outputs(trial, name, logits * 1.001, labels, scores={"knn": np.ones(len(logits))})
        found = store.outputs(trial, name)
        np.testing.assert_array_equal(found["logits"], logits)
        assert found["knn"].tolist() == [1] * len(logits)

    @pytest.mark.parametrize("change", [lambda x: x * 1.02, lambda x: x[:-1], lambda x: x * np.nan])
    def test_others_are_refused_and_nothing_is_written(self, store, trial, change):
        directory = store.directory(trial)
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        logits, labels = store.logits(trial, "test")
        with pytest.raises(StoreError, match=r"test\.npz holds other logits .* nothing was stored"):
            store.write_outputs(trial, "test", change(logits), labels)
        assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}

    def test_a_kill_between_outputs_and_record_damages_nothing(self, store, trial):
        record = store.record(trial)
        logits, labels = store.logits(trial, "test")
        store.write_outputs(trial, "test", logits, labels, scores={"knn": np.ones(len(logits))})
        assert len(store.believed(store.records())) == 1
        store.finish(trial, "study", record)
        assert set(store.record(trial)["sha256"]) == set(record["sha256"])

    def test_a_reader_meanwhile_takes_the_latest_record(self, store, trial):
        record = store.record(trial)
        logits, labels = store.logits(trial, "test")
        store.write_outputs(trial, "test", logits, labels, scores={"knn": np.ones(len(logits))})
        (found,) = store.believed([record])
        assert found == store.record(trial) != record

    def test_data_that_are_others_now_are_forgotten(self, store, trial):
        store.forget(trial, ["noise"])
        record = store.record(trial)
        assert (record["ood"], "auroc_noise" in record) == ({}, False)
        store.write_outputs(trial, "noise", np.zeros((5, 3)), np.full(5, -1))
        assert store.logits(trial, "noise")[0].tolist() == np.zeros((5, 3)).tolist()


class TestOneWriter:
    def test_a_second_one_is_told_and_the_lock_dies_with_the_first(self, store, hold):
        first = hold("writer")
        with pytest.raises(StoreError, match=f"Another command is writing in {store.out}"), store.writing():
            pass
        assert store.records() == []
        first.kill()
        first.wait()
        with store.writing():
            pass
        with store.writing():
            pass

    def test_a_trial_that_another_process_is_at_is_waited_for(self, store, make_trial, hold, monkeypatch):
        trial = make_trial()
        other = hold(trial.id)
        monkeypatch.setattr(store_module, "PATIENCE", 0.2)
        with pytest.raises(StoreError, match="Another process is still writing in"), store.claim(trial):
            pass
        monkeypatch.setattr(store_module, "PATIENCE", 60)
        threading.Timer(0.5, other.kill).start()
        with store.claim(trial):
            pass

    def test_what_a_killed_process_left_half_written_is_removed(self, store, make_trial):
        trial = make_trial()
        left = store.begin(trial) / "logits" / ".partial-1-a-test.npz"
        left.parent.mkdir()
        left.write_bytes(b"PK")
        with store.claim(trial):
            assert not left.exists()

    def test_where_nothing_can_be_written_one_may_still_read(self, store, capsys):
        (store.out / ".locks" / "writer").mkdir(parents=True)
        with store.writing():
            assert store.records() == []
        assert len(store.unwritten) == 1
        assert str(store.out) in capsys.readouterr().err


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
