"""The whole study once, with networks that compile at once, and what it makes of wrong input."""

import csv

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, log_loss, top_k_accuracy_score

from benchmarks.ldl import __main__ as command
from benchmarks.ldl.tables import with_configuration
from kls.__main__ import main as make_report
from kls.calibration.samples import softmax
from kls.models import registry
from kls.study.records import read_record
from kls.study.store import RunStore, read_outputs

METHODS = ("vanilla", "ls", "kd", "off-ldl", "off-en-ldl", "off-mt-ldl", "on-ldl", "crd+kd", "mcdo", "ogr")


@pytest.fixture(scope="module")
def study(data_dir, tiny_builder):
    """Returns a function that runs the study on `stripes` with `tiny` networks."""

    def run(out, *more):
        arguments = (
            *("--datasets", "stripes", "--students", "tiny", "--teacher", "small"),
            *(() if "human" in more else ("--ensemble", "tiny", "small")),
            *("--epochs", "2", "--batch-size", "16", "--data-dir", str(data_dir), "--out", str(out)),
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(registry._BUILDERS, "tiny", tiny_builder)
            patch.setitem(registry._BUILDERS, "small", tiny_builder)
            return command.main([*arguments, *more])

    return run


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "ldl"
    assert study(out, "--methods", *METHODS) == 0
    return out


@pytest.fixture(scope="module")
def records(finished):
    """`{configuration: record}` of the student."""
    found = [with_configuration(read_record(path.parent)) for path in finished.glob("trials/*/record.json")]
    return {record["configuration"]: record for record in found if record["model"] == "tiny"}


class TestWhatItTrains:
    def test_every_method(self, records):
        assert set(records) == set(METHODS)

    def test_results_name_the_methods(self, finished):
        with open(finished / "results.csv") as file:
            methods = {row["method"] for row in csv.DictReader(file)}
        assert {"vanilla", "kd of small", "off-mt-ldl of 2 teachers", "crd+kd of small", "ogr"} <= methods

    def test_a_sum_over_teachers_is_not_their_mean(self, finished, records):
        """With weight decay in the loss, a step is larger by more than a factor of the learning rate."""
        first = {name: history(finished, records[name])[0]["loss"] for name in ("off-en-ldl", "off-mt-ldl")}
        assert float(first["off-mt-ldl"]) > 1.5 * float(first["off-en-ldl"])

    def test_logits_of_offline_teachers_are_kept_once_per_group(self, finished, records):
        stored = {path.stem for path in (finished / "teacher_logits").glob("*.npy")}
        assert stored == {"-".join(records[name]["parents"]) for name in ("off-ldl", "off-en-ldl")}

    def test_losses_of_the_classes_end_at_those_of_the_final_network(self, finished, records):
        for name in ("vanilla", "on-ldl"):
            losses, accuracies = RunStore(finished).class_losses(records[name]["trial"])
            found = read_outputs(finished / "trials" / records[name]["trial"] / "logits" / "test.npz")
            assert losses.shape == accuracies.shape == (2, 3)
            for k in range(3):
                rows = found["labels"] == k
                expected = log_loss(found["labels"][rows], softmax(found["logits"][rows]), labels=range(3))
                assert losses[-1, k] == pytest.approx(expected, rel=1e-4)

    def test_a_finished_study_is_not_trained_again(self, study, finished, monkeypatch, capsys):
        monkeypatch.setattr(command, "draw_figures", lambda *_: None)
        before = {path: path.stat().st_mtime_ns for path in finished.glob("trials/*/weights.weights.h5")}
        assert study(finished, "--methods", *METHODS) == 0
        assert f"{len(before)} of {len(before)} trials are finished already" in capsys.readouterr().out
        assert before == {path: path.stat().st_mtime_ns for path in before}


def history(out, record):
    with open(out / "trials" / record["trial"] / "history.csv") as file:
        return list(csv.DictReader(file))


class TestTables:
    def test_metrics_are_those_of_the_stored_logits(self, finished, records):
        frame = pd.read_csv(finished / "tables" / "metrics.csv").set_index(["model", "method"])
        for name, record in records.items():
            found = read_outputs(finished / "trials" / record["trial"] / "logits" / "test.npz")
            row = frame.loc["tiny", name]
            probabilities = softmax(found["logits"])
            assert row["accuracy_mean"] == pytest.approx(top_k_accuracy_score(found["labels"], probabilities, k=1))
            assert row["nll_mean"] == pytest.approx(log_loss(found["labels"], probabilities), rel=1e-5)
        scaled = frame.loc["tiny", "temperature-scaling"]
        assert scaled["accuracy_mean"] == frame.loc["tiny", "vanilla"]["accuracy_mean"]
        assert "accuracy_top5_mean" not in frame

    def test_f1_per_class_is_that_of_scikit_learn(self, finished, records):
        frame = pd.read_csv(finished / "tables" / "f1.csv")
        frame = frame[(frame["model"] == "tiny") & (frame["configuration"] == "kd")]
        found = read_outputs(finished / "trials" / records["kd"]["trial"] / "logits" / "test.npz")
        expected = f1_score(found["labels"], found["logits"].argmax(axis=1), average=None)
        np.testing.assert_allclose(frame["f1"], expected)

    def test_figures(self, finished):
        assert {path.name for path in (finished / "figures").iterdir()} == {
            "accuracy_against_ece.png",
            *(f"{kind}_stripes_{model}.png" for kind in FIGURES for model in ("tiny", "small")),
        }


FIGURES = ("reliability", "class_confidence", "class_losses", "projection")


class TestHumanLabels:
    def test_the_study(self, study, tmp_path, capsys):
        counts = np.random.default_rng(0).multinomial(50, [0.9, 0.06, 0.04], size=96)
        np.savez(tmp_path / "counts.npz", counts=counts)
        labels = ("--teacher", "human", "--labels", str(tmp_path / "counts.npz"))
        assert study(tmp_path / "out", *labels) == 0
        printed = capsys.readouterr().out
        assert f"| stripes | {'vanilla':19} | 1 |" in printed
        assert all(f"| {method} " in printed for method in ("ls", "human"))

    def test_a_wrong_file(self, study, tmp_path, capsys):
        np.savez(tmp_path / "counts.npz", counts=np.ones((3, 96)))
        labels = ("--teacher", "human", "--labels", str(tmp_path / "counts.npz"))
        assert study(tmp_path / "out", *labels) == 2
        assert "must hold counts of shape (96, 3)" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


class TestTheCommand:
    def test_list(self, data_dir, capsys):
        assert command.main(["--list", "--data-dir", str(data_dir)]) == 0
        assert "on-mt-ldl+" in capsys.readouterr().out

    def test_dry_run(self, study, tmp_path, capsys):
        assert study(tmp_path / "out", "--dry-run", "--methods", "off-mt-ldl", "crd", "ogr") == 0
        printed = capsys.readouterr().out
        assert "off-mt-ldl of 2 teachers" in printed
        assert not (tmp_path / "out").exists()

    def test_wrong_input(self, study, tmp_path, capsys):
        assert study(tmp_path / "out", "--methods", "on-lld") == 2
        assert "error: --methods must be among vanilla, ls" in capsys.readouterr().err

    def test_contrastive_distillation_keeps_the_memory_of_one_replica(self, study, tmp_path, capsys):
        assert study(tmp_path / "out", "--methods", "crd", "--strategy", "mirrored") == 2
        assert "crd of small seed=0 keeps the memory of one replica" in capsys.readouterr().err
        assert not (tmp_path / "out" / "trials").exists()

    @pytest.mark.parametrize("asked", [["--features"], ["--scores", "knn"]])
    def test_dropout_leaves_no_one_set_of_features(self, study, asked, tmp_path, capsys):
        assert study(tmp_path / "out", "--methods", "mcdo", *asked) == 2
        assert "scores of features, cannot be had of stripes tiny mcdo seed=0" in capsys.readouterr().err


def test_a_report_can_be_made_of_it(finished, tmp_path):
    assert make_report(["report", str(finished), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert all(f"<h3>{part}</h3>" in page for part in ("Verdict", "Reliability", "Classes", "Recipe", "Model card"))
    assert page.count("<article") == 2
