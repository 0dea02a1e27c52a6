import keras
import numpy as np
import pytest
from keras import layers, ops

from benchmarks.runner import networks
from benchmarks.runner.outputs import evaluation_batches
from benchmarks.runner.train import train
from benchmarks.runner.trial import Trial


@pytest.mark.parametrize(("steps", "expected"), [(390, 30), (781, 11), (937, 1), (6, 6), (64, 32), (1, 1)])
def test_an_accelerator_takes_steps_that_divide_an_epochs(steps, expected, monkeypatch):
    monkeypatch.setattr(networks, "has_accelerator", lambda: True)
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert networks.uninterrupted_steps(steps) == expected


@pytest.mark.parametrize("loss", ["smoothed_ce", "distillation", "denoising", "overfitting_loss"])
def test_a_compiled_trial_takes_them_and_has_its_optimizers_variables(loss, stripes, monkeypatch):
    monkeypatch.setattr(networks, "uninterrupted_steps", lambda steps: 3 if steps == 6 else 1)
    model = "denoising_classifier" if loss == "denoising" else "resnet8v1"
    recipe = {"dataset": "stripes", "image_size": 8, "data": stripes.fingerprint, "schedule": (), "batch_size": 8}
    trial = Trial(**recipe, model=model, gamma=0.9, epochs=1, loss=loss, focal=2.0, std_weight=0.1)
    compiled = networks.compiled_model(trial, stripes, 6)
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


@pytest.mark.parametrize("offline", [None, True])
def test_a_tenth_of_a_trials_steps_is_the_window(offline, make_trial, stripes):
    distilled = {
        "loss": "distillation",
        "offline": True,
        "parents": ("0123",),
        "teacher_weight": 1.0,
        "temperature": 1.0,
    }
    trial = make_trial(model="resnet8v1", epochs=25, **(distilled if offline else {}))
    model = networks.compiled_model(trial, stripes, steps_per_epoch=6)
    normalisations = [x for x in getattr(model, "student", model).layers if isinstance(x, layers.BatchNormalization)]
    assert len(normalisations) == 7
    assert [layer.momentum for layer in normalisations] == pytest.approx([1 - 1 / 15] * 7)


def test_a_short_training_is_judged_by_statistics_of_its_images(make_trial, stripes, store):
    """After 48 steps Keras's momentum of 0.99 would still hold 62 % of what the statistics began with."""
    trial = make_trial(model="resnet8v1", epochs=8, schedule=())
    store.finish(trial, "study", train(trial, stripes, store))
    model = networks.trained_model(trial, stripes, store)
    batches = evaluation_batches(trial, stripes, *stripes.split("test"))
    images = np.concatenate([batches[index][0] for index in range(len(batches))])
    by_batch, by_moving = (ops.convert_to_numpy(ops.softmax(model(images, training=t))) for t in (True, False))
    assert np.abs(by_batch - by_moving).mean() < 0.05
