import json
from functools import partial

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.decathlon.__main__ import _parser
from benchmarks.decathlon.plan import make_plan
from benchmarks.runner import precision
from benchmarks.runner.precision import choose_precision, measure_rates
from kls.models import registry

SHAPE = (32, 32, 3)


@pytest.fixture
def measured(monkeypatch):
    """Puts rates in the place of a measurement, on a processor with units for bfloat16; returns what was asked for."""
    asked = []

    def rates(image_shape, batch_size):
        asked.append((image_shape, batch_size))
        return {"float32": 301.2, "mixed_bfloat16": 412.4}

    monkeypatch.setattr(precision, "measure_rates", rates)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    return asked


def test_bfloat16_is_taken_where_it_is_faster_and_both_rates_are_told(tmp_path, measured, capsys):
    assert choose_precision(tmp_path, SHAPE, 64) == "mixed_bfloat16"
    assert measured == [(SHAPE, 64)]
    assert capsys.readouterr().out == (
        "--precision auto: mixed_bfloat16 for 32x32x3 images (412 against 301 images/s in float32, resnet8v1)\n"
    )


def test_float32_is_kept_where_bfloat16_gains_too_little(tmp_path, measured, monkeypatch, capsys):
    monkeypatch.setattr(precision, "measure_rates", lambda *_: {"float32": 300.0, "mixed_bfloat16": 329.0})
    assert choose_precision(tmp_path, SHAPE, 64) == "float32"
    assert "auto: float32 for 32x32x3 images (300 against 329 images/s in mixed_bfloat16" in capsys.readouterr().out


@settings(max_examples=20)
@given(rate=st.floats(1, 1e5), gain=st.floats(0.1, 10).filter(lambda gain: abs(gain - 1.1) > 1e-9))
def test_bfloat16_is_taken_from_a_tenth_more_on(tmp_path_factory, rate, gain):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "multiplies_bfloat16", lambda: True)
        patch.setattr(precision, "measure_rates", lambda *_: {"float32": rate, "mixed_bfloat16": gain * rate})
        chosen = choose_precision(tmp_path_factory.mktemp("out"), SHAPE, 64)
    assert chosen == ("mixed_bfloat16" if gain > 1.1 else "float32")


def test_a_run_that_goes_on_chooses_as_before_without_measuring(tmp_path, measured, monkeypatch):
    choose_precision(tmp_path, SHAPE, 64)
    monkeypatch.setattr(precision, "measure_rates", lambda *_: {"float32": 9.0, "mixed_bfloat16": 1.0})
    assert choose_precision(tmp_path, SHAPE, 64) == "mixed_bfloat16"
    assert len(measured) == 1


def test_each_size_of_image_and_batch_is_measured_and_all_are_kept(tmp_path, measured):
    cases = [(SHAPE, 64), (SHAPE, 128), ((8, 8, 1), 64)]
    for _ in range(2):
        for case in cases:
            choose_precision(tmp_path, *case)
    assert measured == cases
    assert list(json.loads((tmp_path / "precision.json").read_text())["rates"]) == [
        "32x32x3, batch 64",
        "32x32x3, batch 128",
        "8x8x1, batch 64",
    ]


def test_what_another_machine_measured_does_not_count(tmp_path, measured, monkeypatch):
    choose_precision(tmp_path, SHAPE, 64)
    other = precision.describe_machine() | {"processor": "another"}
    monkeypatch.setattr(precision, "describe_machine", lambda: other)
    choose_precision(tmp_path, SHAPE, 64)
    assert len(measured) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace("301.2", '"fast"'),
        lambda text: text.replace('"float32"', '"float8"'),
        lambda text: json.dumps(json.loads(text) | {"rates": ["32x32x3, batch 64"]}),
    ],
)
def test_a_damaged_file_is_measured_and_written_anew(tmp_path, measured, damage):
    choose_precision(tmp_path, SHAPE, 64)
    path = tmp_path / "precision.json"
    whole = path.read_text()
    path.write_text(damage(whole))
    assert choose_precision(tmp_path, SHAPE, 64) == "mixed_bfloat16"
    assert len(measured) == 2
    assert path.read_text() == whole


def test_without_units_for_bfloat16_nothing_is_measured(tmp_path, measured, monkeypatch, capsys):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(precision, "has_accelerator", lambda: False)
    assert choose_precision(tmp_path, SHAPE, 64) == "float32"
    assert measured == []
    assert "float32 (this processor has no units for bfloat16)" in capsys.readouterr().out
    assert not (tmp_path / "precision.json").exists()


@pytest.mark.parametrize(
    ("flags", "found"), [("sse avx512f amx_bf16 amx_tile", True), ("avx512_bf16", True), ("sse avx2", False)]
)
def test_units_for_bfloat16_are_read_from_the_flags(flags, found, monkeypatch):
    monkeypatch.setattr(precision, "_cpuinfo", lambda: f"model name\t: A Processor\nflags\t\t: {flags}\n")
    assert precision.multiplies_bfloat16() is found
    assert precision.describe_machine()["processor"] == "A Processor"


def test_a_plan_asks_once_for_each_data_set_and_says_so_once(tmp_path, data_dir, measured, capsys):
    arguments = ["--datasets", "stripes", "--gamma", "0.9", "--seeds", "2", "--precision", "auto", "--batch-size", "16"]
    options = _parser().parse_args([*arguments, "--out", str(tmp_path), "--data-dir", str(data_dir)])
    for _ in range(2):
        assert [trial.precision for trial in make_plan(options).trials] == ["mixed_bfloat16"] * 4
    assert measured == [((8, 8, 1), 16)]
    assert capsys.readouterr().out.count("--precision auto") == 1


def test_both_precisions_are_measured_and_the_policy_is_as_before(tiny_builder, monkeypatch):
    monkeypatch.setitem(registry._BUILDERS, "tiny", partial(tiny_builder, synchronized=False))
    monkeypatch.setattr(precision, "STAND_IN", "tiny")
    rates = measure_rates((8, 8, 1), 16)
    assert list(rates) == ["float32", "mixed_bfloat16"]
    assert min(rates.values()) > 0
    assert keras.config.dtype_policy().name == "float32"
