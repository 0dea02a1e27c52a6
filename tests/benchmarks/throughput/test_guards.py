import numpy as np
import pandas as pd
import pytest

from benchmarks.throughput import guards

OUTPUTS = {
    "probabilities": np.array([[0.9, 0.1], [0.4, 0.6]]),
    "score": np.array([2.0, -4.0], np.float32),
    "in_distribution": np.array([True, False]),
    "label": np.array([0, 1]),
}


def test_differences_are_the_largest_and_counts_of_images():
    other = {
        "probabilities": np.array([[0.9, 0.1], [0.7, 0.3]]),
        "score": np.array([2.0, -3.0], np.float32),
        "in_distribution": np.array([True, True]),
        "label": np.array([0, 0]),
    }
    assert guards.differences_of(OUTPUTS, OUTPUTS) == {
        **{"images": 2, "probabilities": 0.0, "scores": 0.0, "relative_scores": 0.0, "decisions": 0, "labels": 0}
    }
    found = guards.differences_of(other, OUTPUTS)
    assert (found["decisions"], found["labels"]) == (1, 1)
    assert found["probabilities"] == pytest.approx(0.3)
    assert (found["scores"], found["relative_scores"]) == (1.0, 0.25)


def test_formats_run_in_turn_and_the_first_round_does_not_count():
    happened = []
    runs = {name: lambda image, name=name: happened.append(name) for name in ("keras", "onnx")}
    found = guards.times(runs, np.zeros((1, 2, 2, 1)), rounds=2)
    assert found.keys() == {"keras", "onnx"}
    assert all(of["n"] == 2 and of["milliseconds"] >= 0 for of in found.values())
    assert happened == 3 * (["keras"] * guards.TIMED + ["onnx"] * guards.TIMED)


def test_the_table_has_a_row_per_score_and_the_largest_differences():
    shared = {"images": 7, "relative_scores": 0.0, "decisions": 0, "labels": 0, "n": 5}
    frame = pd.DataFrame(
        [
            {**shared, "score": "msp", "format": "keras", "probabilities": 0.0, "scores": 0.0, "kilobytes": 10.0},
            {**shared, "score": "msp", "format": "onnx", "probabilities": 1e-6, "scores": 2e-5, "kilobytes": 2000.0},
        ]
    ).assign(milliseconds=[1.234, 0.5])
    table = guards.guards_table(frame, "digits", "resnet8v1")
    assert table.rows == (("msp", "1.0e-06", "2.0e-05", "0.0e+00", "0", "0", "10 / 2,000", "1.23 / 0.50"),)
    assert "in keras, onnx:" in table.caption
    assert "medians of n = 5 alternated rounds" in table.caption


def test_a_network_is_trained_guarded_exported_and_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(guards, "EPOCHS", 1)
    monkeypatch.setattr(guards, "TIMED", 2)
    monkeypatch.setattr(guards, "SCORES", {"energy": guards.SCORES["energy"], "odin": guards.SCORES["odin"]})
    frame = guards.compare("digits", "resnet8v1", 1, tmp_path, tmp_path)
    assert set(frame["score"]) == {"energy"}
    assert {"keras", "tf_saved_model"} <= set(frame["format"])
    assert (frame["decisions"] == 0).all()
    assert (frame["labels"] == 0).all()
    assert (frame[["probabilities", "scores"]] <= 1e-4).all(axis=None)
    assert (frame["kilobytes"] > 100).all()
