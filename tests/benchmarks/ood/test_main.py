"""The whole study once, on eight-pixel images and for two epochs, and what it makes of wrong input."""

import csv
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import decathlon
from benchmarks.ood.__main__ import main
from benchmarks.tables.__main__ import main as show_tables
from kls.__main__ import main as make_report
from kls.models import registry
from kls.study import estimate
from kls.study import run as run_module
from kls.study.networks import build_network
from kls.study.records import read_record
from kls.study.training import Training

SCORES = ("msp", "energy", "odin", "knn")
METHODS = [
    ("wrn10-1", "gamma=1"),
    ("wrn10-1", "gamma=0.933333"),
    ("wrn10-1", "student of wrn10-1 gamma=1"),
    ("wrn10-1", "exposed to specks"),
    ("wrn10-1", "student of wrn10-1 exposed to specks"),
    ("densenet10-12", "student of wrn10-1 exposed to specks"),
]
EXPOSED = 3  # its place


@pytest.fixture(scope="module", autouse=True)
def _networks_that_compile_at_once(tiny_builder):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("wrn10-1", "densenet10-12"):
            patch.setitem(registry._BUILDERS, name, tiny_builder)
        yield


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory, data_dir, prepare_random):
    """`stripes`; outliers `specks`; OOD `waves` and, of other size and channels, `hues`."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "stripes-8").symlink_to(data_dir / "stripes-8")
    prepare_random("specks", directory, train=40)
    prepare_random("waves", directory, test=30)
    prepare_random("hues", directory, test=25, shape=(12, 12, 3))
    return directory


@pytest.fixture(scope="module")
def study(prepared_dir):
    """Returns a function that runs the study; of an option given twice the last counts."""

    def run(out, *more):
        arguments = (
            *("--datasets", "stripes", "--alpha", "0.1", "--model", "wrn10-1", "--other-student", "densenet10-12"),
            *("--outliers", "specks", "--ood", "waves", "hues", "--scores", *SCORES),
            *("--epochs", "2", "--tuning-epochs", "1", "--batch-size", "32"),
        )
        return main([*arguments, *more, "--data-dir", str(prepared_dir), "--out", str(out)])

    return run


def weights_of(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """The exit code, the directory, and `{trial id: (parents, weights of the networks that it starts from)}`."""
    out = tmp_path_factory.mktemp("runs") / "ood"
    origins = {}

    def parents(training):
        networks = load(training)
        origins[training.trial.id] = training.parent_trials, [weights_of(network) for network in networks]
        return networks

    load = Training.parents
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "parents", parents)
        code = study(out)
    return code, out, origins


@pytest.fixture
def out(finished):
    return finished[1]


@pytest.fixture
def copy(out, tmp_path):
    return shutil.copytree(out, tmp_path / "copy")


@pytest.fixture
def untrained(monkeypatch):
    """Fails when anything is trained or evaluated."""

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(run_module, "train", never)
    monkeypatch.setattr(run_module, "evaluate_again", never)


def records(out):
    """Returns the records in the order of `METHODS`."""
    found = [read_record(path.parent) for path in out.glob("trials/*/record.json")]
    return sorted(found, key=lambda record: METHODS.index((record["model"], record["method"])))


def stored(out, record, name):
    with np.load(out / "trials" / record["trial"] / "logits" / f"{name}.npz") as file:
        return dict(file)


def files(directory):
    return sorted(path.name for path in directory.iterdir())


class TestFinishedRun:
    def test_all_went_well(self, finished):
        assert finished[0] == 0

    def test_trials_are_as_planned(self, out):
        found = records(out)
        assert [(record["model"], record["method"]) for record in found] == METHODS
        assert [record["epochs"] for record in found] == [2, 2, 2, 1, 2, 2]
        histories = [pd.read_csv(out / "trials" / record["trial"] / "history.csv") for record in found]
        assert [len(history) for history in histories] == [record["epochs"] for record in found]
        ids = [record["trial"] for record in found]
        assert [record["parents"] for record in found] == [[], [], [ids[0]], [ids[0]], [ids[3]], [ids[3]]]
        assert {(record["study"], record["seed"], record["batch_size"]) for record in found} == {("ood", 0, 32)}

    def test_each_starts_from_what_its_parent_ended_with(self, finished, prepared_dir):
        _, out, origins = finished
        stripes = decathlon.open("stripes", data_dir=prepared_dir)
        for record in records(out):
            if not record["parents"]:
                assert record["trial"] not in origins
                continue
            (parent,), (weights,) = origins[record["trial"]]
            assert [parent.id] == record["parents"]
            model, _ = build_network(parent, stripes)
            model.load_weights(out / "trials" / parent.id / "weights.weights.h5")
            for found, expected in zip(weights, weights_of(model), strict=True):
                np.testing.assert_array_equal(found, expected)

    def test_exposure_changes_the_network(self, out):
        baseline, exposed = (stored(out, records(out)[place], "test")["logits"] for place in (0, EXPOSED))
        assert np.abs(baseline - exposed).max() > 1e-3

    def test_results_hold_every_trial(self, out):
        with open(out / "results.csv") as file:
            rows = list(csv.DictReader(file))
        assert sorted((row["model"], row["method"]) for row in rows) == sorted(METHODS)
        assert {"auroc_waves", "auroc_hues"} <= set(rows[0])

    def test_tables_and_figures_are_written(self, out):
        corrections = ("corrections", "corrections_hues", "corrections_waves")
        names = ("accuracy", "calibration", "comparison", *corrections, "detection")
        assert files(out / "tables") == [f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex")]
        assert files(out / "figures") == ["smoothing.png", "teacher_and_student.png"]
        text = " ".join((out / "verdict.txt").read_text().split())
        assert text.startswith("Should you smooth the labels? ")
        assert "exposed" not in text  # to outliers, which some of the OOD datasets here are
        for path in (out / "figures").iterdir():
            assert path.read_bytes().startswith(b"\x89PNG")

    def test_table_1_is_that_of_the_records(self, out):
        frame = pd.read_csv(out / "tables" / "accuracy.csv").set_index(["method", "metric"])["mean"]
        for method, place in (("Baseline", 0), ("'+OE", EXPOSED), ("'+OD", 4)):
            record = records(out)[place]
            assert frame[method, "accuracy"] == pytest.approx(record["accuracy_last"])
            assert frame[method, "ece"] == pytest.approx(record["ece"])

    def test_table_2_is_that_of_scikit_learn_on_the_stored_logits(self, out):
        frame = pd.read_csv(out / "tables" / "detection.csv").set_index(["ood", "method", "model"])["mean"]
        assert len(frame) == 2 * 4
        places = {
            ("baseline", "wrn10-1"): 0,
            ("oe", "wrn10-1"): EXPOSED,
            ("od", "wrn10-1"): 4,
            ("od", "densenet10-12"): 5,
        }
        for (method, model), place in places.items():
            for name in ("waves", "hues"):
                confidences = []
                for part in ("test", name):
                    powers = np.exp(stored(out, records(out)[place], part)["logits"].astype(float))
                    confidences.append((powers / powers.sum(axis=1, keepdims=True)).max(axis=1))
                labels = np.repeat([1, 0], [len(part) for part in confidences])
                expected = roc_auc_score(labels, np.concatenate(confidences))
                assert frame[name, method, model] == pytest.approx(expected, abs=1e-9)

    def test_the_corrections_table_is_of_the_sweep_and_of_all_scores(self, out):
        frame = pd.read_csv(out / "tables" / "corrections.csv")
        assert frame["score"].unique().tolist() == list(SCORES)
        assert frame["gamma"].unique().tolist() == pytest.approx([1.0, 1 - 0.2 / 3])
        assert len(frame) == 2 * (3 * 3 + 1)
        assert frame[frame["gamma"] < 1]["difference"].notna().all()
        knn = frame[(frame["score"] == "knn") & (frame["gamma"] == 1.0)]["auroc"].item()
        sides = [[stored(out, records(out)[0], part)["knn"] for part in ("test", name)] for name in ("waves", "hues")]
        expected = [
            roc_auc_score(np.repeat([1, 0], [len(part) for part in pair]), np.concatenate(pair)) for pair in sides
        ]
        assert knn == pytest.approx(np.mean(expected), abs=1e-9)

    def test_scores_that_need_the_network_are_stored(self, out):
        for record in records(out):
            assert record["scores"] == {name: ["hues", "test", "waves"] for name in ("odin", "knn")}
            for name, count in (("test", 41), ("waves", 30), ("hues", 25)):
                arrays = stored(out, record, name)
                assert arrays["odin"].shape == arrays["logits"].shape == (count, 3)
                assert arrays["knn"].shape == (count,)
                assert not np.array_equal(arrays["odin"], arrays["logits"])
                assert np.abs(arrays["odin"] - arrays["logits"]).max() < 1  # a step of 0.0014


class TestAnotherRun:
    @pytest.mark.usefixtures("untrained")
    def test_a_second_run_trains_nothing_and_writes_the_same(self, study, copy, capsys):
        before = {path: path.read_bytes() for path in (copy / "tables").iterdir()}
        assert study(copy) == 0
        assert {path: path.read_bytes() for path in (copy / "tables").iterdir()} == before
        printed = capsys.readouterr().out
        assert "6 of 6 trials are finished already" in printed
        for text in ("Table 1 of Lee & Cheon 2020", "Table 2 of Lee & Cheon 2020", "normalised logits", str(copy)):
            assert text in printed

    @pytest.mark.usefixtures("untrained")
    def test_without_smoothing_there_are_no_differences(self, study, copy):
        assert study(copy, "--alpha") == 0
        frame = pd.read_csv(copy / "tables" / "corrections.csv")
        assert frame["gamma"].unique().tolist() == [1.0]
        assert frame["difference"].isna().all()

    @pytest.mark.usefixtures("untrained")
    def test_a_parent_without_weights_stops_it_before_training(self, study, copy, capsys):
        baseline, exposed = (copy / "trials" / records(copy)[place]["trial"] for place in (0, EXPOSED))
        (baseline / "weights.weights.h5").unlink()
        assert study(copy) == 0  # nobody needs them
        (exposed / "record.json").unlink()
        capsys.readouterr()
        for more in ((), ("--dry-run",)):
            assert study(copy, *more) == 2
            error = capsys.readouterr().err
            assert "stripes wrn10-1 exposed to specks seed=0 cannot start from stripes wrn10-1 gamma=1 seed=0" in error
            assert "weights.weights.h5 is missing" in error
            assert f"delete {baseline}" in error
        assert not (exposed / "record.json").exists()

    @pytest.mark.usefixtures("untrained")
    def test_a_dry_run_knows_what_is_finished(self, study, copy, monkeypatch, capsys):
        monkeypatch.setattr(estimate, "measure_rate", lambda *_: 96.0)
        (copy / "trials" / records(copy)[5]["trial"] / "record.json").unlink()
        assert study(copy, "--dry-run") == 0
        printed = capsys.readouterr().out
        assert printed.count("finished") == 5
        assert "About 0:02 of training" in printed  # two epochs of 96 images

    @pytest.mark.usefixtures("untrained")
    def test_a_dry_run_lists_all_trials_and_trains_nothing(self, study, tmp_path, monkeypatch, capsys):
        measured = []

        def measure_rate(rehearsals, compile_function):
            (rehearsal,) = rehearsals
            trial, parents = rehearsal.trial, [parent.method.label for parent in rehearsal.parent_trials]
            measured.append((trial.model, trial.method.label, parents, [other.name for other in rehearsal.others]))
            return 48.0

        monkeypatch.setattr(estimate, "measure_rate", measure_rate)
        assert study(tmp_path / "fresh", "--dry-run") == 0
        printed = capsys.readouterr().out
        for model, method in METHODS:
            assert f" stripes {model} {method} seed=0 " in printed
        assert "About 0:22 of training" in printed  # 5 trials of two epochs, one of one, at half an epoch a second
        assert not (tmp_path / "fresh").exists()
        assert measured == [
            ("wrn10-1", "gamma=1", [], []),
            ("wrn10-1", "student of wrn10-1 gamma=1", ["gamma=1"], []),
            ("wrn10-1", "exposed to specks", ["gamma=1"], ["specks"]),
            ("densenet10-12", "student of wrn10-1 exposed to specks", ["exposed to specks"], []),
        ]


class TestMeasureTables:
    def test_auroc_by_a_stored_score(self, copy, capsys):
        assert show_tables([str(copy), "--metric", "auroc", "--score", "knn"]) == 0
        assert "OOD metrics by knn" in capsys.readouterr().out
        frame = pd.read_csv(copy / "tables" / "metrics.csv").set_index("trial")
        assert len(frame) == len(METHODS)
        for record in records(copy):
            pair = [stored(copy, record, part)["knn"] for part in ("test", "waves")]
            expected = roc_auc_score(np.repeat([1, 0], [41, 30]), np.concatenate(pair))
            assert frame.loc[record["trial"], "auroc_waves"] == pytest.approx(expected, abs=1e-9)

    def test_a_score_that_is_not_stored_says_what_to_do(self, copy, capsys):
        assert show_tables([str(copy), "--metric", "auroc", "--score", "vim"]) == 2
        assert "has not stored vim of" in (error := capsys.readouterr().err)
        assert "`--scores vim`" in error


class TestWrongInput:
    @pytest.mark.usefixtures("untrained")
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--ood", "stripes"), "--ood stripes: its images are not OOD to a network of stripes"),
            (("--ood", "absent"), "absent is not prepared. Run: python -m decathlon prepare absent"),
            (("--outliers", "stripes"), "--outliers stripes: its images are not OOD to a network of stripes"),
            (("--outliers", "specks+absent"), "absent is not prepared. Run: python -m decathlon prepare absent"),
            (("--alpha", "2"), "--alpha must be in [0, 1). Received: 2.0"),
            (("--batch-size", "97"), "`batch_size` must be at most 96, the training images of stripes. Received: 97."),
            (("--image-size", "9"), "stripes is not prepared at 9 pixels"),
        ],
    )
    def test_ends_with_a_sentence_before_anything_is_trained(self, study, tmp_path, capsys, arguments, message):
        assert study(tmp_path / "out", *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()

    def test_a_gamma_that_leaves_another_class_the_likeliest(self, prepared_dir, tmp_path, capsys):
        arguments = ["--datasets", "stripes", "--gamma", "0.1", "--outliers", "specks", "--ood", "waves"]
        assert (
            main([*arguments, "--batch-size", "32", "--data-dir", str(prepared_dir), "--out", str(tmp_path / "out")])
            == 2
        )
        assert "stripes: `gamma` must be in (1/K, 1]" in capsys.readouterr().err

    def test_a_score_that_is_none(self, study, tmp_path, capsys):
        with pytest.raises(SystemExit) as stop:
            study(tmp_path / "out", "--scores", "msp", "softmax")
        assert stop.value.code == 2
        assert "--scores: invalid choice: 'softmax'" in capsys.readouterr().err


def test_the_list_shows_both_presets(prepared_dir, capsys):
    assert main(["--list", "--data-dir", str(prepared_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["digits", "svhn_cropped", "cifar10", "cifar100_full"]
    assert "missing: cifar10 tiny_imagenet" in lines[4]


def test_a_report_can_be_made_of_it(finished, tmp_path):
    assert make_report(["report", str(finished[1]), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert all(f"<h3>{part}</h3>" in page for part in ("Verdict", "Reliability", "Classes", "Recipe", "Model card"))
    assert page.count("<article") == 2
