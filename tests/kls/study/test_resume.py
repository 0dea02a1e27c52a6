"""A run that is really killed, and one without TensorFlow: both in processes of their own."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SIGNALLED = """
import os, signal, sys
from kls.__main__ import main
from decathlon.batches import Batches

signal.signal(signal.SIGINT, signal.default_int_handler)  # children of a shell's background jobs ignore it
batch = Batches.batch

def signalling_batch(self, epoch, index):
    if self.training and (epoch, index) == ({epoch}, 5):
        os.kill(os.getpid(), signal.{name})
    return batch(self, epoch, index)

Batches.batch = signalling_batch
sys.exit(main(sys.argv[1:]))
"""
WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from kls.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
AS_ON_AN_ACCELERATOR = """
import sys
from kls.__main__ import main
from kls.study import networks
networks.has_accelerator = lambda: True
sys.exit(main(sys.argv[1:]))
"""
MODELS = Path(__file__).with_name("my_models.py")
TIMES = {"seconds", "images_per_second"}


def run_study(out, data_dir, *program, epochs=4, backend="tensorflow"):
    options = {"--model": f"{MODELS}:with_state", "--gamma": "1", "--epochs": str(epochs), "--batch-size": "16"}
    options |= {"--seeds": "1", "--data-dir": data_dir, "--out": out}
    return subprocess.run(
        [sys.executable, *(program or ("-m", "kls")), "study", "stripes", *itertools.chain(*options.items())],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )


def results(out):
    with open(out / "results.csv") as file:
        return [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]


def trial_directory(out):
    return next((out / "trials").iterdir())


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory, data_dir):
    out = tmp_path_factory.mktemp("killed")
    killed = run_study(out, data_dir, "-c", SIGNALLED.format(name="SIGKILL", epoch=2))
    with np.load(trial_directory(out) / "checkpoint" / "state.npz", allow_pickle=False) as file:
        epochs = json.loads(str(file["state"]))["epoch"]
    left = {path.name for path in trial_directory(out).iterdir()}
    resumed = run_study(out, data_dir)
    return out, killed, epochs, left, resumed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, data_dir):
    out = tmp_path_factory.mktemp("whole")
    assert run_study(out, data_dir).returncode == 0
    return out


def test_the_kill_comes_in_the_middle_of_the_third_epoch(killed_and_resumed):
    _, killed, epochs, left, _ = killed_and_resumed
    assert killed.returncode == -signal.SIGKILL
    assert epochs == 2
    assert left == {"trial.json", "checkpoint"}


def test_the_same_command_goes_on_with_the_third_epoch(killed_and_resumed):
    *_, resumed = killed_and_resumed
    assert resumed.returncode == 0
    lines = [line for line in resumed.stdout.splitlines() if "  epoch " in line]
    assert ["epoch 3/4" in lines[0], "epoch 4/4" in lines[1], len(lines)] == [True, True, 2]


def test_all_files_are_bit_identical_to_an_uninterrupted_run(killed_and_resumed, uninterrupted):
    out = killed_and_resumed[0]
    assert results(out) == results(uninterrupted)
    resumed, whole = trial_directory(out), trial_directory(uninterrupted)
    for name in ("weights.weights.h5", "history.csv", "trial.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    with np.load(resumed / "logits" / "test.npz") as a, np.load(whole / "logits" / "test.npz") as b:
        assert all(np.array_equal(a[key], b[key]) for key in b)


def test_the_screen_is_free_of_start_up_messages(killed_and_resumed):
    *_, resumed = killed_and_resumed
    assert resumed.stderr == ""


def test_ctrl_c_ends_with_a_sentence(tmp_path, data_dir):
    stopped = run_study(tmp_path, data_dir, "-c", SIGNALLED.format(name="SIGINT", epoch=1))
    assert stopped.returncode == 130
    assert "Stopped in trial 1 of 1. Finished epochs are kept: run the same command again to go on." in stopped.stdout
    assert "Traceback" not in stopped.stdout + stopped.stderr
    assert not (tmp_path / "results.csv").exists()


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory, data_dir):
    pytest.importorskip("jax")
    out = tmp_path_factory.mktemp("jax")
    run = run_study(out, data_dir, "-c", WITHOUT_TENSORFLOW, epochs=1, backend="jax")
    assert run.returncode == 0, run.stderr[-2000:]
    return out


def test_it_runs_on_jax_where_there_is_no_tensorflow(on_jax):
    assert len(results(on_jax)) == 1
    assert json.loads((trial_directory(on_jax) / "record.json").read_text())["recipe"]["backend"] == "jax"
    assert (on_jax / "tables" / "calibration.md").exists()


def test_steps_that_no_callback_interrupts_are_the_same(on_jax, tmp_path, data_dir):
    run = run_study(tmp_path, data_dir, "-c", AS_ON_AN_ACCELERATOR, epochs=1, backend="jax")
    assert run.returncode == 0, run.stderr[-2000:]
    for name in ("weights.weights.h5", "history.csv"):
        assert (trial_directory(tmp_path) / name).read_bytes() == (trial_directory(on_jax) / name).read_bytes(), name
