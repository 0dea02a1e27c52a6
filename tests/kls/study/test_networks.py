import keras
import numpy as np
import pytest
from keras import layers, ops

from kls.study import networks
from kls.study import train as train_module
from kls.study.methods import CrossEntropy, Denoising, Distillation, OverfittingRatio
from kls.study.models import all_layers

from .helpers import compiled_model, train, trained_network


@pytest.mark.parametrize(("steps", "expected"), [(390, 30), (781, 11), (937, 1), (6, 6), (64, 32), (1, 1)])
def test_an_accelerator_takes_steps_that_divide_an_epochs(steps, expected, monkeypatch):
    monkeypatch.setattr(networks, "has_accelerator", lambda: True)
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert networks.uninterrupted_steps(steps) == expected


@pytest.mark.parametrize(
    "method",
    [CrossEntropy(), Distillation(offline=True), Denoising(), OverfittingRatio()],
    ids=lambda method: method.name,
)
def test_a_compiled_trial_takes_them_and_has_its_optimizers_variables(method, make_trial, stripes, monkeypatch):
    monkeypatch.setattr(train_module, "uninterrupted_steps", lambda steps: 3 if steps == 6 else 1)
    model = "denoising_classifier" if isinstance(method, Denoising) else "resnet8v1"
    compiled = compiled_model(make_trial(model=model, method=method, schedule=(), batch_size=8), stripes, 6)
    assert compiled.steps_per_execution == 3
    assert compiled.optimizer.built


@pytest.mark.parametrize(("backend", "accelerated"), [("tensorflow", True), ("jax", False)])
def test_elsewhere_keras_hears_of_every_step(backend, accelerated, monkeypatch):
    monkeypatch.setattr(networks, "has_accelerator", lambda: accelerated)
    monkeypatch.setattr("keras.backend.backend", lambda: backend)
    assert networks.uninterrupted_steps(390) == 1


@pytest.mark.parametrize(
    ("window", "momentum", "own"),
    [(5, 0.8, 0.8), (16.5, 1 - 1 / 16.5, 0.9), (100, 0.99, 0.9), (1000, 0.99, 0.9), (0.5, 0.0, 0.0)],
)
def test_statistics_look_back_over_a_window_at_most(window, momentum, own):
    inner = keras.Sequential([keras.Input((3,)), layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((3,)), inner, layers.BatchNormalization(momentum=0.9), layers.Dense(2)])
    networks.follow_steps(model, window)
    assert inner.layers[0].momentum == pytest.approx(momentum)
    assert model.layers[1].momentum == pytest.approx(own)


@pytest.mark.parametrize("method", [CrossEntropy(), Distillation(offline=True)], ids=lambda method: method.name)
def test_a_tenth_of_a_trials_steps_is_the_window(method, make_trial, stripes):
    model = compiled_model(make_trial(model="resnet8v1", epochs=25, method=method), stripes, 6)
    normalisations = [x for x in all_layers(method.network(model)) if isinstance(x, layers.BatchNormalization)]
    assert len(normalisations) == 7
    assert [layer.momentum for layer in normalisations] == pytest.approx([1 - 1 / 15] * 7)


def test_a_short_training_is_judged_by_statistics_of_its_images(make_trial, stripes, store):
    """After 48 steps Keras's momentum of 0.99 would still hold 62 % of what the statistics began with."""
    trial = make_trial(model="resnet8v1", epochs=8, schedule=())
    store.finish(trial, "study", train(trial, stripes, store))
    model = trained_network(trial, stripes, store)
    images = np.asarray(stripes.split("test")[0])
    by_batch, by_moving = (ops.convert_to_numpy(ops.softmax(model(images, training=t))) for t in (True, False))
    assert np.abs(by_batch - by_moving).mean() < 0.05
