import sys
from types import SimpleNamespace

import pytest

from kls.study.devices import has_accelerator


@pytest.mark.parametrize(("devices", "found"), [(["cpu:0"], False), (["cpu:0", "gpu:0"], True), (["tpu:0"], True)])
def test_accelerators_are_what_is_no_cpu(devices, found, monkeypatch):
    monkeypatch.setattr("keras.distribution.list_devices", lambda: devices)
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    assert has_accelerator() is found


@pytest.mark.parametrize("found", [True, False])
def test_pytorch_is_asked_itself_since_keras_cannot_list_its_devices(found, monkeypatch):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: found))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr("keras.backend.backend", lambda: "torch")
    assert has_accelerator() is found
