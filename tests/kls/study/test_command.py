import json
import os
import shutil
import signal

import numpy as np
import pytest

from kls.__main__ import main
from kls.study import store as store_module
from kls.study import study as study_module
from kls.study.manifest import read_manifest
from kls.study.store import RunStore

from ..pages.helpers import parsed


@pytest.fixture
def study(store, data_dir, monkeypatch):
    """Returns a function that gives the command of a study of two trials, without figures."""
    monkeypatch.setattr(RunStore, "write_figure", lambda *_, **__: None)

    def give(*more, prepared_dir=data_dir):
        arguments = ["stripes", "--model", "resnet8v1", "--epochs", "1", "--batch-size", "16"]
        arguments += ["--methods", "cross_entropy", "label_smoothing", "--seeds", "1"]
        return main(["study", *arguments, "--data-dir", str(prepared_dir), "--out", str(store.out), *more])

    return give


def records(store):
    return sorted((store.out / "trials").glob("*/record.json"))


class TestAnotherCommandIsWriting:
    def test_it_is_told_so_and_trains_nothing(self, study, store, trainer, hold, capsys):
        asked = trainer()
        hold("writer")
        assert study() == 2
        assert capsys.readouterr().err == (
            f"error: Another command is writing in {store.out}. Wait until it has ended, or give another --out.\n"
        )
        assert asked == []

    def test_a_dry_run_is_not_kept_from_looking(self, study, trainer, hold, monkeypatch, capsys):
        trainer()
        assert study() == 0
        hold("writer")
        assert study("--dry-run") == 0
        assert capsys.readouterr().out.count("finished") == 2


class TestADamagedTrial:
    def test_it_is_named_left_out_and_not_trained_over(self, study, store, trainer, capsys):
        trainer()
        assert study() == 0
        first, second = records(store)
        first.write_text(first.read_text()[:-5])
        damaged = first.read_bytes()
        whole = json.loads(second.read_text())["gamma"]
        (left_out,) = {1.0, 0.9} - {whole}
        asked = trainer()
        capsys.readouterr()
        assert study() == 1
        out, err = capsys.readouterr()
        assert err.startswith(f"left out: {first} is damaged (")
        assert err.endswith(f"To train it again, delete {first.parent}.\n")
        assert len(err.splitlines()) == 1
        assert f"| gamma={whole:g} " in out
        assert f"| gamma={left_out:g} " not in out
        assert (asked, first.read_bytes()) == ([], damaged)
        shutil.rmtree(first.parent)
        assert study() == 0
        assert asked == [left_out]

    def test_damaged_logits_are_left_out_of_the_tables(self, study, store, trainer, capsys):
        trainer()
        assert study() == 0
        path = records(store)[0].parent / "logits" / "test.npz"
        path.write_bytes(path.read_bytes()[:-1])
        assert study() == 1
        assert f"left out: {path} is damaged: it was changed" in capsys.readouterr().err


class TestDataThatHaveChanged:
    @pytest.fixture
    def prepared_dir(self, data_dir, tmp_path):
        return shutil.copytree(data_dir, tmp_path / "prepared_dir")

    def change(self, prepared_dir):
        path = prepared_dir / "stripes-8" / "train.images.npy"
        images = np.load(path)
        images[5, 0, 0, 0] ^= 1
        np.save(path, images)

    def test_nothing_is_trained_on_them(self, study, prepared_dir, trainer, capsys):
        asked = trainer()
        self.change(prepared_dir)
        assert study(prepared_dir=prepared_dir) == 2
        assert (
            f"{prepared_dir / 'stripes-8'} is damaged: train.images.npy missing or changed" in capsys.readouterr().err
        )
        assert asked == []

    def test_what_is_finished_is_shown_without_them(self, study, prepared_dir, trainer):
        trainer()
        assert study(prepared_dir=prepared_dir) == 0
        self.change(prepared_dir)
        assert study(prepared_dir=prepared_dir) == 0


class TestWhatCannotBeWritten:
    def test_a_finished_run_is_printed(self, study, store, trainer, capsys):
        trainer()
        assert study() == 0
        printed = capsys.readouterr().out
        for name in ("tables", ".locks"):
            shutil.rmtree(store.out / name)
            (store.out / name).write_text("in the way")
        (store.out / "results.csv").unlink()
        (store.out / "results.csv").mkdir()
        assert study() == 2
        out, err = capsys.readouterr()
        assert out.endswith(printed[printed.index("\nCalibration of the last") :])
        for name in ("tables", ".locks", "results.csv"):
            assert str(store.out / name) in err
        assert all(line.startswith("error: cannot write: ") for line in err.splitlines())

    def test_on_a_full_disk_the_trial_fails_and_names_the_file(self, study, store, trainer, monkeypatch, capsys):
        trainer()
        write = store_module.write_atomically

        def full(path, text):
            if path.name == "record.json":
                raise OSError(28, "No space left on device", str(path))
            write(path, text)

        monkeypatch.setattr(store_module, "write_atomically", full)
        assert study() == 1
        out = capsys.readouterr().out
        assert out.count("FAILED  OSError: [Errno 28] No space left on device: ") == 2
        assert "record.json" in out

    def test_a_file_in_the_place_of_the_directory(self, study, store, trainer, capsys):
        trainer()
        store.out.write_text("in the way")
        assert study() == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_the_verdict_is_written_and_printed_above_the_comparison(study, store, trainer, capsys):
    trainer()
    assert study() == 0
    text = (store.out / "verdict.txt").read_text()
    assert text.startswith("Should you smooth the labels? Cannot tell. One seed does not tell")
    assert f"\n{text}\nDifferences from gamma=1 of the last epoch's networks" in capsys.readouterr().out


@pytest.mark.usefixtures("with_reports")
class TestItsReport:
    def test_it_is_written_last_and_named_and_the_command_is_kept(self, study, store, trainer, capsys):
        trainer()
        assert study("--gamma", "1", "0.9") == 0
        assert capsys.readouterr().out.endswith(f"Report: {store.out / 'report.html'}\n")
        found = parsed(store.out / "report.html")
        command = read_manifest(store.out).command
        assert command.startswith("kls study stripes --model resnet8v1 --epochs 1 ")
        assert command.endswith(f"--out {store.out} --gamma 1 0.9")
        assert command in found.texts("pre")
        assert list(read_manifest(store.out).asked.values()) == ["gamma=1", "gamma=0.9"]

    def test_what_keeps_it_from_being_written_is_said(self, study, store, trainer, capsys):
        trainer()
        (store.out / "report.html").mkdir(parents=True)
        assert study() == 2
        out, err = capsys.readouterr()
        assert err.startswith(f"error: cannot write: [Errno 21] Is a directory: '{store.out / 'report.html'}'")
        assert "Report: " not in out


@pytest.mark.parametrize("option", ["--out", "--data-dir"])
def test_a_directory_without_a_name_is_refused(study, option, capsys):
    with pytest.raises(SystemExit) as stop:
        study(option, "")
    assert stop.value.code == 2
    assert f"argument {option}: must name a directory. Received: ''" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
def test_a_number_that_is_no_count_is_refused(study, value, capsys):
    with pytest.raises(SystemExit) as stop:
        study("--seeds", value)
    assert stop.value.code == 2
    assert f"argument --seeds: must be a whole number of at least 1. Received: {value}\n" in capsys.readouterr().err


def test_termination_is_an_interrupt_while_a_study_runs(study, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(study_module, "find", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert study() == 130
    assert capsys.readouterr().err == "Stopped.\n"
    assert signal.getsignal(signal.SIGTERM) == before
