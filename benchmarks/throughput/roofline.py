"""How far from this machine's limits each network is: its arithmetic and its traffic against the measured rates.

The roofline of Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model for multicore
architectures": a network runs no faster than its arithmetic over the rate of a large matrix product, nor than its bytes
over the rate of a large copy.
"""

import importlib.util
import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import keras
import pandas as pd

import kls
from benchmarks.runner.tables import Table
from benchmarks.throughput import peers
from benchmarks.throughput.images import open_images
from benchmarks.throughput.machine import accelerators, machine_note
from benchmarks.throughput.race import SHARED_DEVICE, Racer, alternate
from benchmarks.throughput.steps import measured_on

SIDE, COPIED = 4096, 2**28  # of the matrices; bytes of the copy
ACCELERATED_SIDE, ACCELERATED_COPIED = 8192, 2**31  # what takes a millisecond there
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
BYTES = {"float32": 4, "mixed_bfloat16": 2}
UNITS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
WEIGHT_TRAFFIC = 4 * 10  # bytes: Adam's step, and weights read and gradients written, of each float32 weight
PASSES = ("inference", "training")


@dataclass(frozen=True)
class Work:
    """What a network does to one image.

    Attributes:
        operations: Floating-point operations, a multiplication and an addition being two.
        values: Activations, and gradients of such, that are read and written.
        weights: Trainable weights.
    """

    operations: int
    values: int
    weights: int


def count_work(model, training=False):
    """Counts what a model does to one image.

    Operations are those of convolutions and linear layers: `2 k^2 C_in C_out H W`, in training three times as many,
    but twice for the first layer, which has no input gradient. Values: each layer reads its inputs and writes its
    outputs once. Backwards each reads the gradient of its outputs and what it had as inputs, and writes the gradient of
    these, but for the first layer's; additions pass theirs on untouched. No layer is fused with another, and kernels
    that read twice are not counted twice.

    Args:
        model: A functional Keras model of one input.
        training: Whether to count a training step or a forward pass.

    Returns:
        `Work`.

    Example:

    >>> inputs = keras.Input((8, 8, 3))
    >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs))
    >>> count_work(model)
    Work(operations=13824, values=448, weights=108)
    >>> count_work(model, training=True).operations
    27648
    """
    operations = values = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        inputs = keras.tree.flatten(layer.input)
        read, written = sum(map(_size, inputs)), _size(layer.output)
        is_first = any(tensor is model.inputs[0] for tensor in inputs)
        forward = _operations(layer)
        operations += forward * ((2 if is_first else 3) if training else 1)
        values += read + written
        if training and not isinstance(layer, keras.layers.Add):
            values += written + (read if is_first else 2 * read)
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Work(operations, values, weights)


def _operations(layer):
    if isinstance(layer, keras.layers.Conv2D):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    if isinstance(layer, keras.layers.Dense):
        return 2 * math.prod(layer.kernel.shape)
    return 0


def _size(tensor):
    return math.prod(tensor.shape[1:])


def measure(options):
    """Measures this machine's rates, counts the work of each network and shows the table.

    Args:
        options: Parsed command line.

    Raises:
        DataError: If the data set is not prepared.
        RaceError: If a process dies.
    """
    dataset = open_images(options.datasets, options.image_size, options.data_dir, options.out / "data")
    limits = measure_limits(options.repeats, options.out)
    steps = options.out / "tables" / "steps.csv"
    steps = pd.read_csv(steps) if steps.is_file() else None
    frame = pd.DataFrame(bounds(options.networks, dataset, options.precisions, options.batch_sizes, limits, steps))
    roofline_table(frame, limits).show(options.out / "tables", frame)


def measure_limits(repeats, out):
    """Returns a frame with a row per library, precision (`float32` or `bfloat16`) and round.

    Args:
        repeats: Number of rounds.
        out: Directory, for logs.

    Returns:
        A frame with `product`, floating-point operations per second, and `copy`, bytes read and written per second.
    """
    program = str(Path(peers.__file__).with_name("limits.py"))
    libraries = ("tensorflow", "jax", "torch") if accelerators() else ("numpy", "tensorflow", "torch")
    rows = []
    with ExitStack() as stack:
        racers = {}
        for name in libraries:
            if importlib.util.find_spec(name) is not None:
                command = [sys.executable, program, name, *map(str, problem_size())]
                log = out / "logs" / f"limits-{name}.log"
                racers[name] = stack.enter_context(Racer(name, command, log, SHARED_DEVICE))
                racers[name].ask()
        for number, name, answer in alternate(racers, repeats):
            rows += [
                {"library": name, "precision": precision, "round": number, **rates}
                for precision, rates in answer.items()
            ]
    return pd.DataFrame(rows)


def problem_size():
    """Returns the side of the matrices that are multiplied, and the bytes that are copied, on this machine."""
    return (ACCELERATED_SIDE, ACCELERATED_COPIED) if accelerators() else (SIDE, COPIED)


def best_rates(limits):
    """Returns `{precision: {kind: (rate, library)}}`: the largest of the libraries' medians over the rounds.

    A rate that no library has measured is NaN, of the library `None`.

    Args:
        limits: As `measure_limits` returns it.
    """
    medians = limits.groupby(["precision", "library"])[["product", "copy"]].median()
    return {
        precision: {kind: _fastest(of_library.loc[precision, kind].dropna()) for kind in ("product", "copy")}
        for precision, of_library in medians.groupby("precision")
    }


def _fastest(rates):
    return (float(rates.max()), rates.idxmax()) if len(rates) else (math.nan, None)


def bounds(networks, dataset, precisions, batch_sizes, limits, steps=None):
    """Returns a row per network, batch size, precision and pass: its work, what limits it, and how near it comes.

    Args:
        networks: Registered names.
        dataset: The `decathlon.Dataset`.
        precisions: Of `float32` and `mixed_bfloat16`.
        batch_sizes: Images per step, over which a step's traffic of weights is spread.
        limits: As `measure_limits` returns it.
        steps: The frame of `steps.race`, if it was measured.
    """
    rates = best_rates(limits)
    rows = []
    for network in networks:
        model = kls.models.build(network, dataset.image_shape, dataset.classes, classifier_activation=None)
        for name in PASSES:
            work = count_work(model, training=name == "training")
            for batch_size in batch_sizes:
                for precision in precisions:
                    of_weights = work.weights * (WEIGHT_TRAFFIC if name == "training" else 4) / batch_size
                    traffic = work.values * BYTES[precision] + of_weights
                    rate = rates[UNITS[precision]]
                    by_arithmetic, by_memory = rate["product"][0] / work.operations, rate["copy"][0] / traffic
                    nearer = min(limit for limit in (by_arithmetic, by_memory) if not math.isnan(limit))
                    cell = {"network": network, "batch_size": batch_size, "precision": precision, "form": "kls"}
                    measured = _measured(steps, cell | measured_on(dataset), name)
                    rows.append(
                        {
                            **{"network": network, "pass": name, "batch_size": batch_size, "precision": precision},
                            **{"operations": work.operations, "bytes": traffic},
                            **{"by_arithmetic": by_arithmetic, "by_memory": by_memory, "measured": measured},
                            "share": measured / nearer,
                        }
                    )
    return rows


def _measured(steps, cell, name):
    """Returns the median rate in the rows of `steps.csv` with the values of `cell`, NaN where there are none."""
    if steps is None:
        return math.nan
    return steps[(steps.reindex(columns=list(cell)) == pd.Series(cell)).all(axis=1)][name].median()


def roofline_table(frame, limits):
    """Returns the table of `bounds`.

    Args:
        frame: A frame of its rows.
        limits: As `measure_limits` returns it.
    """
    rows = [
        (
            *(row["network"], row["pass"], str(row["batch_size"]), row["precision"]),
            *(f"{row['operations'] / 1e9:.3f}", f"{row['bytes'] / 1e6:.1f}"),
            *map(_whole_number, (row["by_arithmetic"], row["by_memory"], row["measured"], 100 * row["share"])),
        )
        for row in frame.to_dict("records")
    ]
    rates = best_rates(limits)
    side, copied = problem_size()
    return Table(
        "roofline",
        f"What arithmetic (a product of {side:,} x {side:,} matrices) and memory (a copy of {copied / 2**20:,.0f} "
        "MiB) allow, in "
        "images/s, beside what was measured: medians of n rounds, the limits those of the fastest library and of "
        f"n = {limits['round'].nunique()}.",
        (
            *("network", "pass", "batch", "precision", "GFLOP/image", "MB/image", "arithmetic allows", "memory allows"),
            *("measured", "% of the nearer limit"),
        ),
        tuple(rows),
        notes=(
            "; ".join(
                f"{precision}: {_rate_text(rate['product'], ',.0f', 'GFLOP/s')}, "
                f"{_rate_text(rate['copy'], '.1f', 'GB/s read and written')}"
                for precision, rate in rates.items()
            )
            + ".",
            "Bytes: each layer reads its inputs and writes its outputs, backwards it reads the gradient of its outputs "
            "and its inputs and writes the gradient of these; what stays in a cache is not traffic, so memory's limit "
            "can be passed. Measured: kls in steps.csv.",
            machine_note(PACKAGES),
        ),
    )


def _rate_text(rate, digits, unit):
    value, library = rate
    return f"no {unit}" if library is None else f"{value / 1e9:{digits}} {unit} ({library})"


def _whole_number(value):
    return "–" if math.isnan(value) else f"{value:,.0f}"
