import pytest

from benchmarks.runner import networks


@pytest.mark.parametrize(("steps", "expected"), [(390, 30), (781, 11), (937, 1), (6, 6), (64, 32), (1, 1)])
def test_an_accelerator_takes_steps_that_divide_an_epochs(steps, expected, monkeypatch):
    monkeypatch.setattr(networks, "has_accelerator", lambda: True)
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert networks.uninterrupted_steps(steps) == expected


@pytest.mark.parametrize(("backend", "accelerated"), [("tensorflow", True), ("jax", False)])
def test_elsewhere_keras_hears_of_every_step(backend, accelerated, monkeypatch):
    monkeypatch.setattr(networks, "has_accelerator", lambda: accelerated)
    monkeypatch.setattr("keras.backend.backend", lambda: backend)
    assert networks.uninterrupted_steps(390) == 1
