import math

import keras
import pandas as pd
import pytest

import kls
from benchmarks.throughput import roofline
from benchmarks.throughput.roofline import Work, count_work


def test_resnet_20_has_the_published_operations():
    model = kls.models.build("resnet20v1", (32, 32, 3), 10)
    assert count_work(model).operations / 2 == pytest.approx(40.8e6, rel=1e-3)  # multiply-adds


def test_work_of_a_network_counted_by_hand():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(2, 3, padding="same", use_bias=False)(inputs)  # 16 -> 32 values, 18 weights
    y = keras.layers.Conv2D(2, 1, strides=1, use_bias=False)(x)  # 32 -> 32 values, 4 weights
    x = keras.layers.Add()([x, y])  # 64 -> 32 values
    x = keras.layers.GlobalAveragePooling2D()(x)  # 32 -> 2 values
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(x))  # 2 -> 3 values, 6 weights
    first, second, dense = 2 * 9 * 2 * 16, 2 * 2 * 2 * 16, 2 * 2 * 3
    forward = (16 + 32) + (32 + 32) + (64 + 32) + (32 + 2) + (2 + 3)
    backward = (32 + 16) + (32 + 64) + 0 + (2 + 64) + (3 + 4)
    assert count_work(model) == Work(first + second + dense, forward, 28)
    assert count_work(model, training=True) == Work(2 * first + 3 * (second + dense), forward + backward, 28)


def test_grouped_convolutions_count_their_own_inputs_alone():
    inputs = keras.Input((4, 4, 4))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1, groups=2, use_bias=False)(inputs))
    assert count_work(model).operations == 2 * 2 * 4 * 16


@pytest.fixture
def limits():
    rates = [
        ("numpy", "float32", 1, 50.0, 8.0),
        ("numpy", "float32", 2, 70.0, 8.0),
        ("numpy", "bfloat16", 1, math.nan, 9.0),
    ]
    rates += [
        ("torch", "float32", 1, 55.0, 9.0),
        ("torch", "float32", 2, 55.0, 9.0),
        ("torch", "bfloat16", 1, 500.0, 7.0),
    ]
    frame = pd.DataFrame(rates, columns=("library", "precision", "round", "product", "copy"))
    return frame.assign(product=1e9 * frame["product"], copy=1e9 * frame["copy"])


def test_the_best_library_is_taken(limits):
    assert roofline.best_rates(limits) == {
        "bfloat16": {"product": (500e9, "torch"), "copy": (9e9, "numpy")},
        "float32": {"product": (60e9, "numpy"), "copy": (9e9, "torch")},
    }


def test_bounds_are_rates_over_work(limits, stripes, tmp_path):
    steps = pd.DataFrame(
        {
            **roofline.measured_on(stripes),
            **{"network": "resnet8v1", "batch_size": 10, "precision": "float32", "form": form, "round": number},
            **{"training": rate, "inference": 3 * rate},
        }
        for form, rates in (("kls", (100, 300, 200)), ("keras", (1, 1, 1)))
        for number, rate in enumerate(rates)
    )

    def bounded(steps):
        steps.to_csv(tmp_path / "steps.csv", index=False)
        steps = pd.read_csv(tmp_path / "steps.csv")
        return roofline.bounds(["resnet8v1"], stripes, ("float32", "mixed_bfloat16"), [10], limits, steps)

    rows = bounded(steps)
    work = count_work(kls.models.build("resnet8v1", (8, 8, 1), 3), training=True)
    inference, inference_bfloat16, training, training_bfloat16 = rows
    assert training["bytes"] == 4 * work.values + 40 * work.weights / 10
    assert training_bfloat16["bytes"] == 2 * work.values + 40 * work.weights / 10
    assert training["by_arithmetic"] == 60e9 / work.operations
    assert training["by_memory"] == 9e9 / training["bytes"]
    assert (training["measured"], inference["measured"]) == (200, 600)
    assert training["share"] == 200 / min(training["by_arithmetic"], training["by_memory"])
    assert math.isnan(inference_bfloat16["measured"])
    elsewhere = steps.assign(image_shape="32x32x1")
    assert all(math.isnan(row["measured"]) for row in bounded(elsewhere))
    assert all(math.isnan(row["measured"]) for row in bounded(steps.drop(columns="backend")))
    table = roofline.roofline_table(pd.DataFrame(rows), limits)
    assert [row[-2:] == ("–", "–") for row in table.rows] == [False, True, False, True]
    assert table.notes[0].startswith("bfloat16: 500 GFLOP/s (torch), 9.0 GB/s read and written (numpy); float32: 60")


def test_a_limit_that_was_not_measured_is_none(limits, stripes):
    """TensorFlow alone on a card: products, but no copy."""
    limits = limits[limits["library"] == "torch"].assign(library="tensorflow", copy=math.nan)
    assert roofline.best_rates(limits)["float32"] == {"product": (55e9, "tensorflow"), "copy": (math.nan, None)}
    rows = roofline.bounds(["resnet8v1"], stripes, ("float32",), [10], limits)
    table = roofline.roofline_table(pd.DataFrame(rows), limits)
    assert [row[-3:] for row in table.rows] == [("–", "–", "–")] * 2
    assert "float32: 55 GFLOP/s (tensorflow), no GB/s read and written" in table.notes[0]
    steps = roofline.measured_on(stripes) | {"network": "resnet8v1", "batch_size": 10, "precision": "float32"}
    steps = pd.DataFrame([steps | {"form": "kls", "training": 100, "inference": 300}])
    for row in roofline.bounds(["resnet8v1"], stripes, ("float32",), [10], limits, steps):
        assert row["share"] == row["measured"] / row["by_arithmetic"]


def test_limits_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "numpy" else None)
    monkeypatch.setattr(roofline, "SIDE", 32)
    frame = roofline.measure_limits(1, tmp_path)
    assert list(frame["precision"]) == ["float32", "bfloat16"]
    assert (frame["copy"] > 0).all()
    assert list(frame["product"] > 0) == [True, False]
    assert math.isnan(frame["product"][1])


def test_limits_of_a_card_are_those_of_the_libraries_that_use_it(monkeypatch, tmp_path):
    pytest.importorskip("jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in ("numpy", "jax") else None)
    monkeypatch.setattr(roofline, "accelerators", lambda: ["Some Card"])
    monkeypatch.setattr(roofline, "ACCELERATED_SIDE", 32)
    monkeypatch.setattr(roofline, "ACCELERATED_COPIED", 2**12)
    frame = roofline.measure_limits(1, tmp_path)
    assert list(frame["library"]) == ["jax", "jax"]
    assert (frame[["product", "copy"]] > 0).all(axis=None)
