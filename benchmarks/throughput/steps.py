"""Training and inference images/s of each network, batch size, precision and form, in alternated rounds."""

import importlib.util
import json
import sys
from pathlib import Path

import keras
import pandas as pd

import decathlon
from benchmarks.throughput import peers
from benchmarks.throughput.keras_steps import FORMS as KERAS_FORMS
from benchmarks.throughput.keras_steps import GAMMA
from benchmarks.throughput.workers import alternate
from kls.study.machine import accelerators, machine_note
from kls.study.report.tables import Table
from kls.targets import epsilon_from_gamma

TORCH_FORMS = ("torch", "torch-compile", "torch-graphs")
FORMS = (*KERAS_FORMS, *TORCH_FORMS)
CELL = ["network", "batch_size", "precision"]
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
DIGITS_SIDE = 32  # to which the 8x8 digits are enlarged
MEBIBYTE = 2**20


def installed_forms():
    """Returns the forms that can run here: PyTorch's where it is installed, `torch-graphs` on CUDA alone."""
    of_torch = TORCH_FORMS if accelerators() else TORCH_FORMS[:-1]
    return (*KERAS_FORMS, *(of_torch if importlib.util.find_spec("torch") else ()))


def measure(options):
    """Compares all forms, network by network and batch size by batch size, and shows the table.

    Args:
        options: Parsed command line.

    Raises:
        DataError: If the dataset is not prepared.
        ValueError: If it has fewer images than a batch.
        WorkerError: If a process dies.
    """
    size = options.image_size or (DIGITS_SIDE if options.datasets == "digits" else None)
    dataset = decathlon.open(options.datasets, size, options.data_dir)
    count = dataset.counts["train"]
    if max(options.batch_sizes) > count:
        raise ValueError(
            f"--batch-sizes must be at most {count}, the training images of {dataset.name}. "
            f"Received: {' '.join(map(str, options.batch_sizes))}."
        )
    rows = []
    for network in options.networks:
        for batch_size in options.batch_sizes:
            rows += compare(network, batch_size, dataset, options)
            frame = pd.DataFrame(rows)
            steps_table(frame, dataset).write(options.out / "tables", frame)
    steps_table(frame, dataset).show(options.out / "tables", frame)


def compare(network, batch_size, dataset, options):
    """Compares the forms of one network and batch size, in all precisions.

    Returns:
        A row per precision, form and round: a list of dictionaries.
    """
    commands, cells = {}, {}
    for precision in options.precisions:
        for form in options.forms or installed_forms():
            name = f"{network}-{batch_size}-{precision}-{form}"
            cells[name] = {"network": network, "batch_size": batch_size, "precision": precision, "form": form}
            commands[name] = _command(cells[name], dataset, options.seconds)
    rows = []
    for number, name, answer in alternate(commands, options.repeats, options.out / "logs"):
        if number == 0:
            cells[name] |= answer
            print(f"{name}  prepared in {answer['prepare_seconds']:.1f} s", flush=True)
        else:
            rows.append({**cells[name], "round": number, **answer})
    return rows


def _command(cell, dataset, seconds):
    smoothing = epsilon_from_gamma(GAMMA, dataset.classes)
    settings = {**cell, "seconds": seconds, "arrays": str(dataset.path), "label_smoothing": smoothing}
    torch_program = str(Path(peers.__file__).with_name("torch_steps.py"))
    program = [torch_program] if cell["form"] in TORCH_FORMS else ["-m", "benchmarks.throughput.keras_steps"]
    return [sys.executable, *program, json.dumps(settings)]


def summary(frame):
    """Returns a row per cell and form: medians over the rounds, `n`, and the median of the rounds' ratios.

    `ratio` is by what factor `kls` trains faster in the same round and precision, NaN where it was not measured.

    Args:
        frame: Of the rows that `compare` returns.
    """
    own = frame.loc[frame["form"] == "kls", [*CELL, "round", "training"]]
    paired = frame.merge(own, "left", [*CELL, "round"], suffixes=("", "_kls"))
    rounds = paired.assign(ratio=paired["training_kls"] / paired["training"]).groupby([*CELL, "form"], sort=False)
    medians = rounds[["training", "inference", "ratio", "prepare_seconds"]].median()
    return medians.assign(memory=rounds["memory"].max(), n=rounds.size()).reset_index()


def steps_table(frame, dataset):
    """Returns the table of a frame.

    Args:
        frame: Of the rows that `compare` returns.
        dataset: The `decathlon.Dataset` that was trained on.
    """
    rows = [
        (
            *(row.network, str(row.batch_size), row.precision, row.form),
            *(f"{row.training:,.0f}", f"{row.inference:,.0f}", "–" if pd.isna(row.ratio) else f"{row.ratio:.2f}"),
            *(f"{row.memory / MEBIBYTE:,.0f}", f"{row.prepare_seconds:.1f}", str(row.n)),
        )
        for row in summary(frame).itertuples()
    ]
    height, width, channels = dataset.image_shape
    return Table(
        "steps",
        f"Training and inference of {height}x{width}x{channels} images ({dataset.name}, {dataset.classes} classes), "
        "images/s: medians of n alternated rounds. kls / form: the median of the rounds' ratios of training, in the "
        "same precision.",
        (
            *("network", "batch", "precision", "form", "training", "inference", "kls / form"),
            *("peak MiB", "to first step, s", "n"),
        ),
        tuple(rows),
        notes=(
            "kls: through the studies' batches and `fit`; keras: Keras's own layers, loss and optimiser, arrays in "
            "memory; of both the steps alone, without the rest of `fit`. torch: eager, channels_last, autocast; "
            "torch-compile: the same under torch.compile; torch-graphs: with CUDA graphs besides (reduce-overhead). "
            "Peak: largest resident memory of the process, with the arrays of keras. To first step: building, tracing "
            "and one step, without imports.",
            machine_note(PACKAGES, keras.backend.backend()),
        ),
    )
