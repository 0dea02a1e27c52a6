import pytest

from benchmarks.runner import networks
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
