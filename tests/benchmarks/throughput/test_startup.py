import keras
import numpy as np
import pandas as pd
import pytest

from benchmarks.throughput import startup
from benchmarks.throughput.watched_study import watch

TRAININGS = [
    {"fit": 105.0, "first": 108.0, "last": 110.0},
    {"fit": 110.2, "first": 110.5, "last": 111.0},
    {"fit": 111.5, "first": 113.0, "last": 120.0},
]


def test_tables_show_medians_of_alternated_studies(monkeypatch, tmp_path):
    calls = []

    def study(network, gammas, options):
        calls.append((network, gammas))
        return 100.0, TRAININGS[: len(gammas)]

    monkeypatch.setattr(startup, "run_study", study)
    options = type("Options", (), {"networks": ("resnet20v1", "wrn40-2"), "repeats": 2, "out": tmp_path})
    startup.measure_startup(options)
    startup.measure_sweep(options)
    networks = ["resnet20v1", "wrn40-2"] * 2
    assert calls == [(network, gammas) for gammas in (("1",), startup.SWEEP_GAMMAS) for network in networks]
    (row, _) = startup.startup_table(pd.read_csv(tmp_path / "tables" / "startup.csv")).rows
    assert row == ("resnet20v1", "5.0", "3.0", "8.0", "2")
    (row, _) = startup.sweep_table(pd.read_csv(tmp_path / "tables" / "sweep.csv")).rows
    assert row == ("resnet20v1", "8.0", "2", "1.25", "2.00", "4")  # later: 0.5 and 2, twice


def test_the_watch_notes_first_and_last_step_of_each_training(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", keras.Model.fit)  # restored afterwards, as the other
    calls = keras.callbacks.CallbackList
    monkeypatch.setattr(calls, "on_train_batch_end", calls.on_train_batch_end)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    trainings = watch()
    for samples in (1, 3):
        model.fit(np.ones((samples, 1)), np.ones((samples, 1)), batch_size=1, verbose=0)
    first, second = trainings
    assert first["fit"] < first["first"] == first["last"] < second["fit"] < second["first"] < second["last"]


def test_a_study_that_fails_is_reported_with_its_log(monkeypatch, tmp_path):
    monkeypatch.setattr(startup.sys, "executable", "false")
    options = type("Options", (), {"out": tmp_path, "data_dir": tmp_path})
    message = r"gamma study of wrn10-1 ended with exit code 1; see .*study-wrn10-1\.log"
    with pytest.raises(startup.WorkerError, match=message):
        startup.run_study("wrn10-1", ("1",), options)
