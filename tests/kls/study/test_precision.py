from pathlib import Path

import pytest

from kls.study import precision
from kls.study.precision import resolve_precision


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that puts a processor's flags and an accelerator in the place of this machine's."""

    def replace(flags, accelerator=False):
        monkeypatch.setattr(Path, "is_file", lambda path: True)
        monkeypatch.setattr(Path, "read_text", lambda path: f"model name : x\nflags : fpu {flags}\n")
        monkeypatch.setattr(precision, "has_accelerator", lambda: accelerator)

    return replace


@pytest.mark.parametrize("flags", ["amx_bf16 amx_tile", "avx512_bf16"])
def test_auto_is_bfloat16_on_a_processor_with_units_for_it(machine, flags):
    machine(flags)
    assert resolve_precision("auto") == "mixed_bfloat16"


def test_auto_is_bfloat16_on_an_accelerator(machine):
    machine("avx2", accelerator=True)
    assert resolve_precision("auto") == "mixed_bfloat16"


def test_auto_is_float32_where_bfloat16_would_be_emulated(machine):
    machine("avx2 avx512f")
    assert resolve_precision("auto") == "float32"


@pytest.mark.parametrize("name", precision.PRECISIONS)
def test_a_precision_that_is_named_is_taken_whatever_the_machine(machine, name):
    machine("avx2")
    assert resolve_precision(name) == name
