import os

import keras
import pytest

from benchmarks.throughput import machine


def test_the_note_names_cores_and_versions():
    note = machine.machine_note(("keras", "no-such-package"), "jax")
    assert note.startswith(f"{len(os.sched_getaffinity(0))} cores, ")
    assert f"keras {keras.__version__}" in note
    assert "no-such-package" not in note
    assert note.endswith("; Keras on jax.")


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


def test_flags_that_matter_and_accelerators_are_named(monkeypatch):
    fields = {"flags": "fpu avx2 amx_bf16", "model name": "Some Processor"}
    monkeypatch.setattr(machine, "_cpu", fields.get)
    monkeypatch.setattr(machine, "accelerators", lambda: ["Some Card"])
    assert "cores, Some Processor (avx2, amx_bf16); Some Card; Python " in machine.machine_note(())


@pytest.mark.parametrize(("setting", "state"), [("1", "on"), ("0", "off"), ("false", "off"), ("", "default")])
def test_the_note_says_whether_tensorflow_uses_onednn(setting, state, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    assert machine.machine_note(("tensorflow",)).endswith(f"; oneDNN in TensorFlow: {state}.")
    assert "oneDNN" not in machine.machine_note(("torch",))
