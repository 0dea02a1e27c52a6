import pytest

from benchmarks.runner.devices import has_accelerator


@pytest.mark.parametrize(("devices", "found"), [(["cpu:0"], False), (["cpu:0", "gpu:0"], True), (["tpu:0"], True)])
def test_accelerators_are_what_is_no_cpu(devices, found, monkeypatch):
    monkeypatch.setattr("keras.distribution.list_devices", lambda: devices)
    assert has_accelerator() is found
