import keras
import numpy as np
import pytest

import kls
from benchmarks.throughput import keras_steps
from benchmarks.throughput.keras_steps import FORMS, StepClock, as_a_study, in_epochs, stock_model


def test_the_stock_network_has_keras_layers_and_same_function():
    model = kls.models.build("wrn10-1", (8, 8, 3), 10)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
    stock = stock_model(model)
    assert {type(layer).__module__.partition(".")[0] for layer in stock.layers} == {"keras"}
    assert stock.count_params() == model.count_params()
    stock.set_weights(model.get_weights())
    images = rng.random((2, 8, 8, 3), np.float32)
    np.testing.assert_allclose(stock(images), model(images), rtol=1e-5)
    for ours, theirs in zip(model.trainable_variables, stock.trainable_variables, strict=True):
        assert type(theirs.regularizer) is keras.regularizers.L2
        assert theirs.regularizer.l2 == ours.regularizer.l2 > 0


def test_the_stock_network_keeps_the_precision(bfloat16):
    stock = stock_model(kls.models.build("resnet8v1", (8, 8, 1), 2))
    assert {layer.compute_dtype for layer in stock.layers} == {"bfloat16", "float32"}


def test_a_layer_that_keras_does_not_have_is_named():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, kls.layers.MonteCarloDropout(0.5)(inputs))
    with pytest.raises(
        ValueError, match=r"`model` must consist of Keras's layers.*Received: a layer of .*MonteCarloDropout"
    ):
        stock_model(model)


def test_the_clock_sums_epochs_without_what_lies_between_them(monkeypatch):
    times = iter([10.0, 11.0, 12.0, 13.0, 100.0, 101.5])
    monkeypatch.setattr(keras_steps.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    clock = StepClock()
    clock.on_train_batch_begin(0)  # at 10
    clock.on_train_batch_end(0)
    clock.on_train_batch_begin(1)
    clock.on_train_batch_end(1)  # at 13
    clock.on_epoch_end(0)
    clock.on_train_batch_begin(0)  # at 100
    clock.on_train_batch_end(0)
    clock.on_epoch_end(1)
    assert clock.seconds == 4.5


def test_the_clock_waits_for_what_jax_has_only_begun(monkeypatch):
    waited = []
    times = iter([10.0, 11.0, 15.0])
    monkeypatch.setattr(keras_steps.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr("keras.ops.convert_to_numpy", waited.append)
    clock = StepClock()
    clock.on_train_batch_begin(0)
    clock.on_train_batch_end(0, {"loss": "result of the last step"})
    clock.on_epoch_end(0)
    assert waited == ["result of the last step"]
    assert clock.seconds == 5


@pytest.mark.parametrize(("at_once", "expected"), [(1, (20, 1)), (8, (24, 1)), (40, (40, 1)), (120, (120, 1))])
def test_epochs_are_of_whole_calls(at_once, expected):
    assert in_epochs(20, at_once, longest=120) == expected


@pytest.mark.parametrize("name", FORMS)
def test_forms_train_and_predict_as_many_steps_as_they_are_told(name, stripes, tiny):
    form = FORMS[name](as_a_study(stripes, tiny, 16))
    assert form.train(7) > 0
    assert int(form.model.optimizer.iterations) == 12  # two epochs of the 6 steps that there are images for
    assert form.infer(7) > 0
