"""What a number was measured on and with."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from kls.study.threads import cores

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine_note(packages, backend=None):
    """Returns a sentence: cores, processor, instruction sets, accelerators, versions, and TensorFlow's oneDNN.

    Args:
        packages: Names of distributions; those that are not installed are left out.
        backend: Keras's backend, where it matters.
    """
    flags = _cpu("flags").split()
    sets = ", ".join(name for name in INSTRUCTION_SETS if name in flags)
    processor = f"{cores()} cores, {_cpu('model name') or platform.machine()}" + (f" ({sets})" if sets else "")
    installed = (name for name in packages if any(importlib.metadata.distributions(name=name)))
    versions = (f"{name} {importlib.metadata.version(name)}" for name in installed)
    software = ", ".join([f"Python {platform.python_version()}", *versions])
    onednn = [f"oneDNN in TensorFlow: {onednn_state()}"] if "tensorflow" in packages else []
    on = [f"Keras on {backend}"] if backend else []
    return "; ".join([processor, *accelerators(), software, *onednn, *on]) + "."


def onednn_state():
    """Returns what `TF_ENABLE_ONEDNN_OPTS` asks for: `on`, `off`, or `default` where it is not set."""
    setting = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower()
    return {"1": "on", "true": "on", "0": "off", "false": "off"}.get(setting, "default")


def accelerators():
    """Returns the names of NVIDIA's cards in this machine: a list."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def _cpu(field):
    """Returns a field of the first processor in `/proc/cpuinfo`, `""` where there is none (Linux)."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field), "")
