import pandas as pd
import pytest

from benchmarks.throughput import steps
from benchmarks.throughput.__main__ import main

RATES = {  # by round
    ("float32", "kls"): (200, 300, 100),
    ("float32", "keras"): (100, 100, 100),
    ("float32", "torch"): (50, 30, 75),
    ("mixed_bfloat16", "kls"): (400, 500, 300),
    ("mixed_bfloat16", "torch"): (200, 200, 200),
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
    assert found["ratio"].to_dict() == {
        ("float32", "kls"): 1,
        ("float32", "keras"): 2,
        ("float32", "torch"): 4,  # of 4, 10 and 1.33
        ("mixed_bfloat16", "kls"): 1,
        ("mixed_bfloat16", "torch"): 2,  # of 2, 2.5 and 1.5: within a precision
    }


def test_what_was_not_measured_is_a_dash(frame, stripes):
    (row,) = steps.steps_table(frame[frame["form"] == "keras"], stripes).rows
    assert row == ("resnet20v1", "64", "float32", "keras", "100", "200", "–", "3", "1.5", "3")


@pytest.mark.parametrize(
    ("torch", "cards", "expected"),
    [
        (None, ["Some Card"], ()),
        ("torch", [], ("torch", "torch-compile")),
        ("torch", ["Some Card"], ("torch", "torch-compile", "torch-graphs")),
    ],
)
def test_forms_of_pytorch_need_it_and_cuda_graphs_a_card(torch, cards, expected, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: torch)
    monkeypatch.setattr(steps, "accelerators", lambda: cards)
    assert steps.installed_forms() == ("kls", "keras", *expected)


def test_a_form_is_measured_in_a_process_of_its_own(tmp_path, capsys):
    recipe = ["--networks", "resnet8v1", "--batch-sizes", "4", "--image-size", "8", "--precisions", "float32"]
    rounds = ["--forms", "kls", "--seconds", "0.05", "--repeats", "2", "--data-dir", str(tmp_path / "data")]
    assert main(["steps", *recipe, *rounds, "--out", str(tmp_path / "out")]) == 0
    frame = pd.read_csv(tmp_path / "out" / "tables" / "steps.csv")
    assert list(frame["round"]) == [1, 2]
    assert (frame[["training", "inference", "prepare_seconds"]] > 0).all(axis=None)
    assert (frame["memory"] > 1e8).all()
    shown = capsys.readouterr().out
    assert "Training and inference of 8x8x1 images (digits, 10 classes)" in shown
    assert "resnet8v1-4-float32-kls  prepared in" in shown
