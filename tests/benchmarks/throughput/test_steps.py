import json
import sys

import keras
import pandas as pd
import pytest

from benchmarks.throughput import steps
from benchmarks.throughput.__main__ import main

RATES = {  # by round
    ("float32", "kls"): (200, 300, 100),
    ("float32", "kls-fit"): (150, 150, 150),
    ("float32", "keras"): (100, 100, 100),
    ("float32", "keras-fit"): (50, 30, 75),
    ("mixed_bfloat16", "kls"): (400, 500, 300),
    ("mixed_bfloat16", "torch"): (200, 200, 200),
    ("mixed_bfloat16", "torch-compile"): (100, 100, 600),
}


@pytest.fixture
def frame():
    place = {"network": "resnet20v1", "batch_size": 64, "memory": 3 * 2**20, "prepare_seconds": 1.5}
    return pd.DataFrame(
        {**place, "precision": precision, "form": form, "round": number, "training": rate, "inference": 2 * rate}
        for (precision, form), rates in RATES.items()
        for number, rate in enumerate(rates, start=1)
    )


def test_ratios_are_medians_of_the_rounds_ratios(frame):
    found = steps.summary(frame).set_index(["precision", "form"])
    assert found["n"].eq(3).all()
    assert found["training"].to_dict() == {key: sorted(rates)[1] for key, rates in RATES.items()}
    ratios = found["ratio"]
    assert ratios["float32", "kls"] == 1
    assert ratios["float32", "keras"] == 2
    assert ratios["float32", "keras-fit"] == 3  # of 150/50, 150/30 and 150/75: calls against calls
    assert ratios["mixed_bfloat16", "torch"] == 2  # of 2, 2.5 and 1.5: within a precision
    assert found["to_torch"]["mixed_bfloat16", "kls"] == 2  # of 400/200, 500/200 and 300/600
    assert found["to_torch"]["mixed_bfloat16", "torch"] == 1
    assert found["to_stock"]["mixed_bfloat16", "kls"] == 4
    assert found["to_stock"]["float32", "kls-fit"] == 3


def test_what_was_not_measured_is_a_dash(frame, stripes):
    (row,) = steps.steps_table(frame[frame["form"] == "torch"], stripes).rows
    assert row == ("resnet20v1", "64", "mixed_bfloat16", "torch", "200", "400", "–", "–", "1.00", "3", "1.5", "3")


def test_forms_of_pytorch_are_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert steps.installed_forms() == ["kls", "kls-arrays", "keras"]
    assert steps.installed_forms(["keras", "torch"]) == ["keras"]


def test_cuda_graphs_are_for_cards(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    for cards, expected in ([], []), (["Some Card"], ["torch-graphs"]):
        monkeypatch.setattr(steps, "accelerators", lambda cards=cards: cards)
        assert [form for form in steps.installed_forms() if form == "torch-graphs"] == expected


def test_forms_that_cannot_run_are_an_error(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(steps, "accelerators", lambda: [])
    arguments = ["steps", "--forms", "torch-graphs", "--networks", "resnet8v1", "--image-size", "8"]
    assert main([*arguments, "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "error: nothing was measured. None of torch-graphs can run here.\n"
    assert not (tmp_path / "out" / "tables").exists()


def test_what_a_process_cannot_measure_is_noted(monkeypatch, stripes, tmp_path):
    program = """
import json, sys
for n, _ in enumerate(sys.stdin):
    found = {"skipped": "no compiler"} if "compile" in sys.argv[1] else {"prepare_seconds": 2.0} if n == 0 else {
        "training": 1.0, "inference": 2.0, "memory": 3}
    print(json.dumps(found), flush=True)
"""
    monkeypatch.setattr(steps, "_command", lambda settings: [sys.executable, "-c", program, json.dumps(settings)])
    monkeypatch.setattr(steps, "installed_forms", lambda names: names)
    options = type("Options", (), {"precisions": ["float32"], "forms": ["torch", "torch-compile"], "repeats": 2})
    options.seconds, options.out = 1.0, tmp_path
    frame, skipped = steps.race("resnet20v1", 8, stripes, options)
    assert skipped == ["resnet20v1-8-float32-torch-compile: no compiler."]
    assert list(frame["form"]) == ["torch", "torch"]
    assert list(frame["round"]) == [1, 2]
    assert steps.steps_table(frame, stripes, skipped).notes[1] == skipped[0]


def test_forms_take_turns_on_real_images(tmp_path, capsys):
    recipe = ["--networks", "resnet8v1", "--batch-sizes", "4", "--image-size", "8", "--precisions", "float32"]
    turns = ["--forms", "kls", "keras", "--seconds", "0.05", "--repeats", "2", "--data-dir", str(tmp_path / "data")]
    assert main(["steps", *recipe, *turns, "--out", str(tmp_path / "out")]) == 0
    frame = pd.read_csv(tmp_path / "out" / "tables" / "steps.csv")
    assert list(frame["form"]) == ["kls", "kls-fit", "keras", "keras-fit"] * 2
    assert list(frame["round"]) == [1] * 4 + [2] * 4
    assert (frame[["training", "inference", "prepare_seconds"]] > 0).all(axis=None)
    assert (frame["memory"] > 1e8).all()
    assert frame[["dataset", "image_shape", "backend"]].drop_duplicates().values.tolist() == [
        ["colour_digits", "8x8x3", keras.backend.backend()]
    ]
    rates = frame.pivot(index="round", columns="form", values="training")
    assert (rates["kls-fit"] < rates["kls"]).all()
    assert (rates["keras-fit"] < rates["keras"]).all()
    assert (tmp_path / "out" / "figures" / "steps.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "Training and inference of 8x8x3 images (colour_digits, 10 classes)" in shown
    assert "resnet8v1-4-float32-keras  prepared in" in shown
