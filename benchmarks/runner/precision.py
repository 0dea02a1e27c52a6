"""What `--precision auto` stands for: bfloat16 where this machine trains measurably faster in it."""

import importlib
import json
import os
import platform
import re
import time
from functools import cache
from pathlib import Path

import keras
import numpy as np

import kls
from benchmarks.options import PRECISIONS
from benchmarks.runner.devices import has_accelerator
from benchmarks.runner.networks import precision_policy
from benchmarks.runner.store import RunStore, write_atomically

FILE = "precision.json"
ADVANTAGE = 1.1  # how many times as fast bfloat16 has to be
STAND_IN, CLASSES = "resnet8v1", 10
WARM_UP_STEPS, ROUNDS, ROUND_STEPS = 2, 5, 2
PROCESSOR_FLAGS = ("amx_bf16", "avx512_bf16")


def resolve_precision(options, dataset):
    """Returns the precision of the trials on a data set: what `--precision` says, or what `auto` stands for here.

    Args:
        options: The parsed command line.
        dataset: The opened `decathlon.Dataset`.
    """
    if options.precision != "auto":
        return options.precision
    return _choose_once(options.out, dataset.image_shape, options.batch_size)


def choose_precision(out, image_shape, batch_size):
    """Chooses the precision for images of a shape, prints the choice, and keeps the rates that it was made by.

    The rates lie in `OUT/precision.json`. While processor and versions are the same they are not measured again: a
    trial's id contains its precision, so that a run which goes on must choose as it did before.

    Args:
        out: The study's output directory.
        image_shape: `(height, width, channels)`.
        batch_size: Images per step.

    Returns:
        `"mixed_bfloat16"` where that is at least `ADVANTAGE` times as fast as float32, else `"float32"`; float32
        without a measurement where there is neither an accelerator nor a processor with units for bfloat16.
    """
    shape = "x".join(map(str, image_shape))
    if not (has_accelerator() or multiplies_bfloat16()):
        print("--precision auto: float32 (this processor has no units for bfloat16)", flush=True)
        return "float32"
    path, machine, case = out / FILE, describe_machine(), f"{shape}, batch {batch_size}"
    rates = _read_rates(path, machine)
    if case not in rates:
        with RunStore(out).writing():
            rates[case] = measure_rates(image_shape, batch_size)
            write_atomically(path, json.dumps({"machine": machine, "rates": rates}, indent=1))
    single, half = (rates[case][precision] for precision in ("float32", "mixed_bfloat16"))
    faster = half >= ADVANTAGE * single
    precision, other = ("mixed_bfloat16", "float32") if faster else ("float32", "mixed_bfloat16")
    own, others = (half, single) if faster else (single, half)
    print(
        f"--precision auto: {precision} for {shape} images ({own:,.0f} against {others:,.0f} images/s in {other}, "
        f"{STAND_IN})",
        flush=True,
    )
    return precision


_choose_once = cache(choose_precision)  # a plan asks for each of its networks and seeds


def measure_rates(image_shape, batch_size):
    """Measures how fast a small network is trained in each precision: the fastest of alternated rounds.

    A network of full depth takes half a minute to trace in each precision, this one about 5 s; its steps are of the
    same layers, by which it stands for the others. What other processes take of the machine only slows a round down,
    hence the fastest.

    Args:
        image_shape: `(height, width, channels)`.
        batch_size: Images per step.

    Returns:
        `{precision: images per second}`.
    """
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, *image_shape), np.float32)
    labels = rng.integers(0, CLASSES, batch_size)
    models, seconds = {}, {precision: [] for precision in PRECISIONS}
    for precision in PRECISIONS:
        with precision_policy(precision):
            models[precision] = kls.models.build(STAND_IN, image_shape, CLASSES, classifier_activation=None)
            models[precision].compile("adam", kls.SmoothedCE(0.9, from_logits=True))
            for _ in range(WARM_UP_STEPS):
                models[precision].train_on_batch(images, labels)
    for _ in range(ROUNDS):
        for precision, model in models.items():
            start = time.perf_counter()
            for _ in range(ROUND_STEPS):
                model.train_on_batch(images, labels)
            seconds[precision].append(time.perf_counter() - start)
    return {precision: round(ROUND_STEPS * batch_size / min(taken), 1) for precision, taken in seconds.items()}


def multiplies_bfloat16():
    """Whether the processor has units for bfloat16, as far as Linux tells."""
    return any(flag in _cpuinfo() for flag in PROCESSOR_FLAGS)


def describe_machine():
    """Returns what decides how fast networks are trained in each precision: processor, devices and versions."""
    backend = keras.backend.backend()
    model = re.search(r"^model name\s*: (.*)$", _cpuinfo(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "devices": list(keras.distribution.list_devices()),
        "kls": kls.__version__,
        "keras": keras.__version__,
        backend: importlib.import_module(backend).__version__,
    }


def _cpuinfo():
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def _read_rates(path, machine):
    """Returns the rates that were measured on this very machine; none where the file is damaged or of another."""
    try:
        kept = json.loads(path.read_text())
        rates = kept["rates"] if kept["machine"] == machine else {}
        return {case: {name: float(found[name]) for name in PRECISIONS} for case, found in rates.items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}
