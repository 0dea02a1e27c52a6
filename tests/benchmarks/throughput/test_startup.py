import keras
import numpy as np
import pandas as pd
import pytest

from benchmarks.runner import command
from benchmarks.runner.store import RunStore
from benchmarks.throughput import startup
from benchmarks.throughput.watched_study import watch

WATCHED = {
    "start": 100.0,
    "imported": 104.0,
    "trials": [
        {"begin": 104.5, "fit": 105.0, "first": 108.0, "last": 110.0},
        {"begin": 110.1, "fit": 110.2, "first": 110.5, "last": 111.0},
        {"begin": 111.25, "fit": 111.5, "first": 113.0, "last": 120.0},
    ],
}


def test_phases_add_up():
    assert startup.phases(WATCHED) == {"import": 4.0, "prepare": 1.0, "first_step": 3.0, "total": 8.0}


def test_tables_show_medians(monkeypatch, tmp_path, capsys):
    calls = []

    def study(network, gammas, options):
        calls.append((network, gammas))
        return WATCHED

    monkeypatch.setattr(startup, "run_study", study)
    options = type("Options", (), {"networks": ("resnet20v1", "wrn40-2"), "repeats": 2, "out": tmp_path})
    startup.measure_startup(options)
    startup.measure_sweep(options)
    assert (
        calls
        == [("resnet20v1", ("1",)), ("wrn40-2", ("1",))] * 2
        + [
            ("resnet20v1", startup.SWEEP_GAMMAS),
            ("wrn40-2", startup.SWEEP_GAMMAS),
        ]
        * 2
    )
    (row, _) = startup.startup_table(pd.read_csv(tmp_path / "tables" / "startup.csv")).rows
    assert row == ("resnet20v1", "4.0", "1.0", "3.0", "8.0", "2")
    (row, _) = startup.sweep_table(pd.read_csv(tmp_path / "tables" / "sweep.csv")).rows
    assert row == ("resnet20v1", "8.0", "2", "1.25", "2.00", "1.08", "1.75", "4")  # later: 0.5 of 0.4, 2 of 1.75, twice
    assert "Seconds from the command" in capsys.readouterr().out


def test_the_watch_notes_begin_first_and_last_step_of_each_trial(monkeypatch, make_trial, tmp_path):
    monkeypatch.setattr(command, "run_study", lambda: None)  # restored afterwards, as the others
    monkeypatch.setattr(RunStore, "begin", RunStore.begin)
    monkeypatch.setattr(keras.Model, "fit", keras.Model.fit)
    monkeypatch.setattr(
        keras.callbacks.CallbackList, "on_train_batch_end", keras.callbacks.CallbackList.on_train_batch_end
    )
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    watched = watch()
    command.run_study()
    for samples in (1, 3):
        RunStore(tmp_path).begin(make_trial(seed=samples))
        model.fit(np.ones((samples, 1)), np.ones((samples, 1)), batch_size=1, verbose=0)
    assert [sorted(trial) for trial in watched["trials"]] == [["begin", "first", "fit", "last"]] * 2
    first, second = watched["trials"]
    assert watched["imported"] <= first["begin"] < first["fit"] < first["first"] == first["last"] < second["begin"]
    assert second["first"] < second["last"]


def test_a_study_that_fails_is_reported_with_its_log(monkeypatch, tmp_path):
    monkeypatch.setattr(startup.sys, "executable", "false")
    options = type("Options", (), {"out": tmp_path, "data_dir": tmp_path})
    with pytest.raises(
        startup.RaceError, match=r"gamma study of wrn10-1 ended with exit code 1; see .*study-wrn10-1\.log"
    ):
        startup.run_study("wrn10-1", ("1",), options)
