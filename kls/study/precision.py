"""What `--precision auto` stands for: bfloat16 where this machine has units for it."""

from pathlib import Path

from kls.study.devices import has_accelerator

PRECISIONS = ("float32", "mixed_bfloat16")
PROCESSOR_FLAGS = ("amx_bf16", "avx512_bf16")


def resolve_precision(precision):
    """Returns the dtype policy that a precision stands for.

    Without units for it, training in bfloat16 is about ten times slower than in float32.

    Args:
        precision: One of `PRECISIONS`, or `"auto"`: `"mixed_bfloat16"` on an accelerator or on a processor that says
            that it multiplies bfloat16 (on Linux), else `"float32"`.
    """
    if precision != "auto":
        return precision
    return "mixed_bfloat16" if has_accelerator() or multiplies_bfloat16() else "float32"


def multiplies_bfloat16():
    """Whether the processor has units for bfloat16, as far as Linux tells."""
    path = Path("/proc/cpuinfo")
    return path.is_file() and any(flag in path.read_text() for flag in PROCESSOR_FLAGS)
