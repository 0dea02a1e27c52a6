import os

import keras
import pytest

from kls.study import machine


def test_the_note_names_processor_cards_versions_and_backend(monkeypatch):
    fields = {"flags": "fpu avx2 amx_bf16", "model name": "Some Processor"}
    monkeypatch.setattr(machine, "_cpu", fields.get)
    monkeypatch.setattr(machine, "accelerators", lambda: ["Some Card"])
    note = machine.machine_note(("keras", "no-such-package"), "jax")
    cores = len(os.sched_getaffinity(0))
    assert note.startswith(f"{cores} cores, Some Processor (avx2, amx_bf16); Some Card; Python ")
    assert note.endswith(f", keras {keras.__version__}; Keras on jax.")


@pytest.mark.parametrize(
    ("code", "output", "expected"),
    [(0, "Some Card\nAnother\n", ["Some Card", "Another"]), (9, "NVIDIA-SMI has failed because\n", [])],
)
def test_cards_are_what_nvidias_tool_lists_unless_it_fails(code, output, expected, monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {code}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine.accelerators() == expected


@pytest.mark.parametrize(("setting", "state"), [("1", "on"), ("0", "off"), ("false", "off"), ("", "default")])
def test_the_note_says_whether_tensorflow_uses_onednn(setting, state, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    assert machine.machine_note(("tensorflow",)).endswith(f"; oneDNN in TensorFlow: {state}.")
    assert "oneDNN" not in machine.machine_note(("torch",))
