import importlib.util

import keras
import numpy as np
import pytest

from kls.guarding.export import check_export
from kls.ood.scores import KNN, MSP

from .helpers import IN_A_GRAPH, assert_close, predicted

BACKEND = keras.backend.backend()


def saved_model(path, images):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return {name: values.numpy() for name, values in loaded.serve(images).items()}


def onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: images}), strict=True))


def litert(path, images):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner()
    return run(**{next(iter(run.get_input_details())): images})


FORMATS = {"tf_saved_model": ("saved", saved_model), "onnx": ("a.onnx", onnx), "litert": ("a.tflite", litert)}
COMBINATIONS = [  # TensorFlow runs the graph that Keras runs on it
    *(("energy", "tf_saved_model"), ("ash", "tf_saved_model")),
    *((name, format) for format in ("onnx", "litert") for name in IN_A_GRAPH),
]
RUNTIMES = {"tf_saved_model": ("tensorflow",), "onnx": ("onnxruntime", "tf2onnx"), "litert": ("ai_edge_litert",)}


@pytest.mark.parametrize(("name", "format"), COMBINATIONS)
def test_another_runtime_gives_the_same(guarded, digits, noise, name, format, tmp_path):
    for needed in RUNTIMES[format]:
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    if format != "tf_saved_model" and BACKEND != "tensorflow":
        pytest.skip(f"not written from {BACKEND}")
    file, run = FORMATS[format]
    images = np.concatenate([digits[2][0], noise]).astype("float32")
    guarded(name).export(tmp_path / file, format=format, verbose=False)
    for count in (len(images), 1):
        expected = {key: values[:count] for key, values in predicted(guarded(name), images).items()}
        assert_close(run(tmp_path / file, images[:count]), expected, guarded(name).report.threshold)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="other packages on other backends")
def test_a_format_without_its_packages_is_refused(guarded, monkeypatch, tmp_path):
    monkeypatch.setattr("kls.guarding.export.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"'onnx' needs packages that are not installed: tf2onnx, onnx; pip install"):
        guarded().export(tmp_path / "a.onnx", format="onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("format", "backend"), [("litert", "torch"), ("litert", "jax"), ("onnx", "jax")])
def test_a_format_of_another_backend_is_refused(format, backend, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    with pytest.raises(ValueError, match=f"`format` '{format}' cannot be written on Keras's backend '{backend}'"):
        check_export("a.tflite", format, MSP(), None)


def test_neighbours_on_jax_are_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="`format` 'tf_saved_model' cannot hold KNN on Keras's backend 'jax'"):
        check_export("a", "tf_saved_model", KNN(), None)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="written from TensorFlow")
@pytest.mark.parametrize(
    ("format", "policy"), [("onnx", "mixed_bfloat16"), ("litert", "mixed_bfloat16"), ("litert", "mixed_float16")]
)
def test_a_precision_that_a_format_cannot_hold_is_refused(format, policy, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype=policy)])
    dtype = policy.removeprefix("mixed_")
    with pytest.raises(ValueError, match=f"`format` '{format}' cannot hold layers that compute in {dtype}"):
        check_export(tmp_path / "a.tflite", format, MSP(), model)


@pytest.mark.parametrize(
    ("path", "format", "match"),
    [
        ("a", "pickle", "`format` must be one of 'tf_saved_model', 'onnx', 'litert'"),
        ("a.onnx", "litert", r"`filepath` must end in .tflite for 'litert'"),
        ("", "onnx", "`filepath` must be a path"),
    ],
)
def test_wrong_calls_write_nothing(guarded, path, format, match):
    with pytest.raises(ValueError, match=match):
        guarded().export(path, format=format)
