"""The whole study once, stopped and resumed, with networks that compile at once; and what it makes of wrong input."""

import contextlib
import csv
import io
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import decathlon
import kls
from benchmarks.mnist_zero import __main__ as command
from decathlon.sources.npz import open_npz
from kls.__main__ import main as make_report
from kls.models import registry
from kls.ood import Threshold
from kls.study import run as run_module
from kls.study.methods.registry import METHODS as KNOWN
from kls.study.networks import trained_network
from kls.study.records import read_record
from kls.study.store import RunStore
from kls.study.trial import Trial

METHODS = ["std-1", "classifier"]
FIGURES = ("confidence", "restored", "proxy_ood", "error_by_class", "largest_errors", "roc_validation", "roc_test")


def prepare_bands(directory, of_first):
    """Prepares `bands`: four classes that differ in where a band lies, 128 training and 60 test images.

    Args:
        directory: The data directory.
        of_first: Function of `(N, 8, 8, 1)` images to what stands for those of class 0.
    """
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 128), ("test", 60)):
        labels = np.arange(count) % 4
        images = rng.integers(0, 100, (count, 8, 8, 1), dtype=np.uint8)
        images[np.arange(count), 2 * labels] += 150
        images[labels == 0] = of_first(images[labels == 0])
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(directory / "bands.npz", **arrays)
    decathlon.prepare("bands", open_npz(directory / "bands.npz"), data_dir=directory)
    return directory


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory, prepare_random):
    """`bands`, and OOD `waves`."""
    directory = prepare_bands(tmp_path_factory.mktemp("data"), lambda images: images)
    prepare_random("waves", directory)
    return directory


@pytest.fixture(scope="module")
def study(prepared_dir, tiny_denoising_classifier):
    """Returns a function that runs the study on `bands` with networks that compile at once."""

    def run(out, *more, data_dir=prepared_dir):
        recipe = ("--datasets", "bands", "--epochs", "2", "--batch-size", "16", "--validation", "16")
        methods = () if "--methods" in more else ("--methods", *METHODS)
        return command.main([*recipe, *methods, *more, "--data-dir", str(data_dir), "--out", str(out)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, "denoising_classifier", tiny_denoising_classifier)
        yield run


class Finished:
    """What a study left that was stopped at its second trial and resumed.

    Attributes:
        out: Its directory.
        codes: The exit codes of both runs.
        trained: The methods that each run was to train.
        printed: What each run printed.
        stopped: The bytes of all files after the first.
    """

    def __init__(self, study, out):
        self.out = out
        self.codes, self.trained, self.printed = [], [], []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(command, "draw_figures", lambda *_: None)
            self._run(study, stop_at="classifier")
        self.stopped = files(out)
        self._run(study)

    def _run(self, study, stop_at=None):
        def train(training, *arguments):
            method = training.trial.method.label
            self.trained[-1].append(method)
            if method == stop_at:
                raise KeyboardInterrupt
            return own(training, *arguments)

        own = run_module.train
        self.trained.append([])
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            patch.setattr(run_module, "train", train)
            self.codes.append(study(self.out))
        self.printed.append(printed.getvalue())


def files(directory):
    """Returns the bytes of all files, but for the one that says where the results are."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != "study.json"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    return Finished(study, tmp_path_factory.mktemp("runs") / "mnist_zero")


@pytest.fixture
def out(finished):
    return finished.out


@pytest.fixture
def copy(out, tmp_path):
    return shutil.copytree(out, tmp_path / "copy")


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(command, "draw_figures", lambda *_: None)


@pytest.fixture
def untrained(monkeypatch):
    """Fails when anything is trained, evaluated or examined."""

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(run_module, "train", never)
    monkeypatch.setattr(run_module, "evaluate_again", never)
    monkeypatch.setattr("benchmarks.mnist_zero.examine.trained_network", never)


def trial_of(out, method):
    """Returns the finished `Trial` of a method."""
    records = [read_record(path.parent) for path in out.glob("trials/*/record.json")]
    (recipe,) = (record["recipe"] for record in records if record["method"] == method)
    parameters = dict(recipe["method"])
    return Trial(**recipe | {"method": KNOWN[parameters.pop("name")](**parameters)})


def unaligned(text):
    """Returns a text without the blanks that align the columns of its tables."""
    return " ".join(text.split())


def confidences(model, images):
    """Returns the maximum softmax of the class output in double precision, and the classes."""
    logits = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False)["class"])
    powers = np.exp(logits.astype(float))
    return (powers / powers.sum(axis=1, keepdims=True)).max(axis=1), logits.argmax(axis=1)


class TestAStudyThatWasStopped:
    def test_exit_codes(self, finished):
        assert finished.codes == [130, 0]

    def test_what_is_finished_is_not_trained_again(self, finished):
        assert finished.trained == [["std-1", "classifier"], ["classifier"]]
        trial = trial_of(finished.out, "std-1")
        now = files(finished.out)
        kept = {name for name in finished.stopped if name.startswith(f"trials/{trial.id}/")}
        assert f"trials/{trial.id}/weights.weights.h5" in kept
        assert all(now[name] == finished.stopped[name] for name in kept)

    def test_what_is_finished_is_reported(self, finished):
        first, second = map(unaligned, finished.printed)
        assert "Stopped in trial 2 of 2" in first
        assert "| bands | std-1 |" in first
        assert "| classifier |" not in first
        assert "| bands | classifier |" in second
        assert {"tables/zero.md", "tables/detectors.md"} <= set(finished.stopped)


class TestAFinishedStudy:
    def test_tables_and_figures_are_written(self, out):
        assert sorted(path.name for path in (out / "tables").iterdir()) == [
            f"{name}.{suffix}" for name in ("detectors", "zero") for suffix in ("csv", "md", "tex")
        ]
        drawn = {path.stem: path.read_bytes() for path in (out / "figures").iterdir()}
        assert set(drawn) == {f"{name}_bands-without-0" for name in FIGURES}
        assert all(content.startswith(b"\x89PNG") for content in drawn.values())

    def test_tables_are_printed_as_written(self, finished):
        for name in ("zero", "detectors"):
            written = (finished.out / "tables" / f"{name}.md").read_text().split()
            assert " ".join(written) in " ".join(finished.printed[1].split())
        assert f"Thresholds: {finished.out / 'trials' / '*' / 'threshold.json'}\n" in finished.printed[1]

    def test_a_stored_threshold_gives_the_printed_accuracies(self, out, prepared_dir):
        trial = trial_of(out, "std-1")
        dataset = decathlon.open("bands-without-0", data_dir=prepared_dir)
        model, _ = trained_network(trial, dataset, RunStore(out))
        threshold = Threshold.load(out / "trials" / trial.id / "threshold.json", kls.models.classifier_of(model))
        (images, labels), (held_out, _) = (dataset.split(name) for name in ("test", "held_out"))
        kept, passed = (threshold.predict(of.astype("float32")) for of in (images, held_out))
        confidence, predicted = confidences(model, images)
        np.testing.assert_array_equal(kept, confidence >= threshold.value)
        frame = pd.read_csv(out / "tables" / "zero.csv").set_index(["method", "criterion"])
        row = frame.loc["std-1", "msp"]
        assert row["threshold"] == threshold.value
        assert row["accuracy"] == pytest.approx(np.mean(predicted == labels))
        assert row["zero_accuracy"] == pytest.approx(np.mean(~passed))
        assert row["else_accuracy"] == pytest.approx(np.mean(kept & (predicted == labels)))
        of_held_out, _ = confidences(model, held_out)
        classes = np.repeat([1, 0], [len(labels), len(held_out)])
        assert row["auroc"] == pytest.approx(roc_auc_score(classes, [*confidence, *of_held_out]))

    def test_held_out_and_validation_images_are_not_trained_on(self, out):
        record = json.loads((out / "trials" / trial_of(out, "std-1").id / "record.json").read_text())
        assert (record["train_images"], record["evaluation_images"], record["classes"]) == (80, 45, 3)

    def test_the_classifier_alone_has_neither_decoder_nor_threshold(self, out):
        alone = {path.name for path in (out / "trials" / trial_of(out, "classifier").id).rglob("*")}
        assert not {"threshold.json", "pictures.npz", "proxy_ood.npz"} & alone
        assert {"weights.weights.h5", "held_out.npz", "id_test.npz", "validation.npz"} <= alone
        frame = pd.read_csv(out / "tables" / "detectors.csv").set_index(["method", "criterion"])
        assert frame.loc["classifier", "threshold"].isna().all()
        assert frame.loc["std-1", "threshold"].notna().all()


class TestTheSameCommandAgain:
    @pytest.mark.usefixtures("untrained", "undrawn")
    def test_it_trains_nothing_and_prints_and_writes_the_same(self, finished, study, copy, capsys):
        before = files(copy)
        assert study(copy) == 0
        printed = capsys.readouterr().out
        assert "2 of 2 trials are finished already" in printed
        report = finished.printed[1].replace(str(finished.out), str(copy))
        assert printed.endswith(report[report.index("Zero accuracy") :])
        assert files(copy) == before

    @pytest.mark.usefixtures("undrawn")
    def test_with_another_ood_set_the_tables_stay_and_the_set_is_judged(self, finished, study, copy, prepared_dir):
        before = files(copy / "tables")
        assert study(copy, "--ood", "waves") == 0
        assert files(copy / "tables") == before
        trial = trial_of(copy, "std-1")
        model, _ = trained_network(trial, decathlon.open("bands-without-0", data_dir=prepared_dir), RunStore(copy))
        pair = [
            confidences(model, decathlon.open(name, data_dir=prepared_dir).split("test")[0])[0]
            for name in ("bands-without-0", "waves")
        ]
        with open(copy / "results.csv") as file:
            (found,) = (row["auroc_waves"] for row in csv.DictReader(file) if row["trial"] == trial.id)
        expected = roc_auc_score(np.repeat([1, 0], [len(of) for of in pair]), np.concatenate(pair))
        assert float(found) == pytest.approx(expected)


@pytest.fixture(scope="module")
def other(study, tmp_path_factory):
    """The data directory and the results of the study of a set whose images of class 0 are noise, all of them."""
    rng = np.random.default_rng(1)
    prepared_dir = prepare_bands(
        tmp_path_factory.mktemp("other"), lambda images: rng.integers(0, 256, images.shape, dtype=np.uint8)
    )
    out = tmp_path_factory.mktemp("runs") / "other"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_figures", lambda *_: None)
        assert study(out, "--methods", "std-1", data_dir=prepared_dir) == 0
    return prepared_dir, out


class TestWhatTheClassLeftOutChanges:
    @pytest.fixture
    def directories(self, out, other):
        return [path / "trials" / trial_of(path, "std-1").id for path in (out, other[1])]

    def test_weights_are_the_same(self, prepared_dir, out, other):
        first, second = (
            trained_network(
                trial_of(results, "std-1"), decathlon.open("bands-without-0", data_dir=data), RunStore(results)
            )[0].get_weights()
            for data, results in ((prepared_dir, out), other)
        )
        assert len(first) >= 8
        for found, expected in zip(first, second, strict=True):
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        "name", ["threshold.json", "logits/id_validation.npz", "logits/proxy_ood.npz", "logits/id_test.npz"]
    )
    def test_all_that_comes_before_the_last_judgement_is_the_same(self, directories, name):
        first, second = ((directory / name).read_bytes() for directory in directories)
        assert first == second

    def test_the_last_judgement_alone_is_another(self, out, other, directories):
        first, second = ((directory / "logits/held_out.npz").read_bytes() for directory in directories)
        assert first != second
        aurocs = [pd.read_csv(path / "tables" / "zero.csv")["auroc"][0] for path in (out, other[1])]
        assert aurocs[0] != aurocs[1]


class TestFailures:
    @pytest.mark.usefixtures("undrawn")
    def test_the_others_are_reported(self, study, copy, monkeypatch, capsys):
        def fail(*_, **__):
            raise MemoryError("no room")

        (copy / "trials" / trial_of(copy, "classifier").id / "record.json").unlink()
        monkeypatch.setattr(run_module, "train", fail)
        assert study(copy) == 1
        printed = unaligned(capsys.readouterr().out)
        reason = "failed: bands-without-0 denoising_classifier classifier seed=0: MemoryError: no room"
        assert reason in printed
        assert "| bands | std-1 |" in printed
        assert "| classifier |" not in printed

    def test_where_all_fail_there_are_no_tables(self, study, tmp_path, monkeypatch, capsys):
        def fail(*_, **__):
            raise MemoryError("no room")

        monkeypatch.setattr(run_module, "train", fail)
        assert study(tmp_path / "out") == 1
        assert not (tmp_path / "out" / "tables").exists()
        assert "2 of 2 trials failed" in capsys.readouterr().err


class TestTheCommand:
    def test_list(self, tmp_path, capsys):
        assert command.main(["--list", "--data-dir", str(tmp_path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("|")[1].strip() for line in lines[2:]] == ["quick", "paper"]

    def test_a_dry_run_lists_all_trials_and_trains_nothing(self, study, tmp_path, capsys):
        assert study(tmp_path / "out", "--dry-run", "--methods", "std-1", "--seeds", "2") == 0
        printed = capsys.readouterr().out
        for seed in range(2):  # two epochs of five whole batches of 16 images
            assert f"bands-without-0 denoising_classifier std-1 seed={seed} | 160 " in printed
        assert "of training in all" in printed
        assert not (tmp_path / "out").exists()

    @pytest.mark.usefixtures("untrained")
    def test_a_dry_run_knows_what_is_finished(self, study, out, capsys):
        assert study(out, "--dry-run") == 0
        assert capsys.readouterr().out.count("finished") == 2

    @pytest.mark.usefixtures("untrained")
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--held-out", "cow"), "--held-out must name classes of bands, or indices below 4: 0, 1, 2, 3."),
            (("--batch-size", "81"), "`batch_size` must be at most 80, the training images of bands-without-0."),
            (("--validation", "96"), "`validation` must be a whole number in 1..95"),
            (("--image-size", "9"), "bands is not prepared at 9 pixels"),
            (("--datasets", "absent"), "absent is not prepared. Run: python -m decathlon prepare absent"),
            (("--ood", "absent"), "absent is not prepared. Run: python -m decathlon prepare absent"),
            (("--ood", "bands"), "--ood bands: its images are not OOD to a network of bands-without-0"),
        ],
    )
    def test_wrong_input_ends_with_a_sentence_before_anything_is_trained(
        self, study, tmp_path, capsys, arguments, message
    ):
        assert study(tmp_path / "out", *arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert "Traceback" not in error
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--methods", "std"), "--methods: must be cross-entropy, classifier or std-W with a number W."),
            (("--validation", "0"), "--validation: must be a whole number of at least 1. Received: 0"),
        ],
    )
    def test_what_cannot_be_parsed_is_named_with_what_is_allowed(self, study, tmp_path, capsys, arguments, message):
        with pytest.raises(SystemExit) as stop:
            study(tmp_path / "out", *arguments)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err


def test_a_report_can_be_made_of_it(out, tmp_path):
    assert make_report(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert all(f"<h3>{part}</h3>" in page for part in ("Verdict", "Reliability", "Classes", "Recipe", "Model card"))
    assert page.count("<article") == 1
