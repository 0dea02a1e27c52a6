"""Training and inference images/s of each network, batch size, precision and form, all forms in turns."""

import importlib.util
import json
import sys
from contextlib import ExitStack
from pathlib import Path

import keras
import pandas as pd

from benchmarks.runner.tables import Table
from benchmarks.throughput import peers
from benchmarks.throughput.figures import steps_figure
from benchmarks.throughput.images import check_batch_sizes, open_images
from benchmarks.throughput.keras_steps import FORMS as KERAS_FORMS
from benchmarks.throughput.keras_steps import GAMMA, INFERENCE_SHARE
from benchmarks.throughput.machine import accelerators, machine_note
from benchmarks.throughput.race import SHARED_DEVICE, RaceError, Racer, alternate
from kls.targets import epsilon_from_gamma

TORCH_FORMS = ("torch", "torch-compile", "torch-graphs")
FORMS = (*KERAS_FORMS, *TORCH_FORMS)
CALLS = {"kls": "kls-fit", "keras": "keras-fit"}
CELL = ["network", "batch_size", "precision"]
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
MEBIBYTE = 2**20


def installed_forms(names=None):
    """Returns the forms of `names`, by default all, without those of PyTorch that cannot run here."""
    missing = set(TORCH_FORMS) if importlib.util.find_spec("torch") is None else set()
    if not accelerators():
        missing.add("torch-graphs")  # CUDA's
    return [name for name in names or FORMS if name not in missing]


def measure(options):
    """Lets all forms take turns, network by network and batch size by batch size, and shows the table.

    Args:
        options: Parsed command line.

    Raises:
        DataError: If the data set is not prepared.
        ValueError: If it has fewer images than a batch.
        RaceError: If a process dies, or no form can run here.
    """
    dataset = open_images(options.datasets, options.image_size, options.data_dir, options.out / "data")
    check_batch_sizes(options.batch_sizes, dataset)
    frames, notes = [], []
    for network in options.networks:
        for batch_size in options.batch_sizes:
            frame, skipped = race(network, batch_size, dataset, options)
            frames.append(frame)
            notes += skipped
            frame = pd.concat(frames, ignore_index=True)
            if not frame.empty:
                steps_table(frame, dataset, notes).write(options.out / "tables", frame)
    if frame.empty:
        reason = " ".join(notes) or f"None of {', '.join(options.forms)} can run here."
        raise RaceError(f"nothing was measured. {reason}")
    steps_table(frame, dataset, notes).show(options.out / "tables", frame)
    figure = options.out / "figures" / "steps.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    rates = summary(frame)
    steps_figure(rates[~rates["form"].isin(CALLS.values())]).savefig(figure, dpi=150)
    print(f"Figure: {figure}")


def race(network, batch_size, dataset, options):
    """Lets the forms of one network and batch size take turns, in all precisions.

    Args:
        network: Registered name of the network.
        batch_size: Images per step.
        dataset: The opened `decathlon.Dataset`.
        options: Parsed command line: `forms`, `precisions`, `repeats`, `seconds` and `out`.

    Returns:
        A frame with a row per precision, form and round, and what was skipped, as sentences.
    """
    rows, skipped, data = [], [], measured_on(dataset)
    with ExitStack() as stack:
        racers, prepare_seconds = {}, {}
        for precision in options.precisions:
            for form in installed_forms(options.forms):
                settings = _settings(form, network, batch_size, precision, dataset, options.seconds)
                name = f"{network}-{batch_size}-{precision}-{form}"
                log = options.out / "logs" / f"{name}.log"
                racer = stack.enter_context(Racer(name, _command(settings), log, SHARED_DEVICE))
                answer = racer.ask()
                if "skipped" in answer:
                    skipped.append(f"{name}: {answer['skipped']}.")
                    continue
                racers[precision, form] = racer
                prepare_seconds[precision, form] = answer["prepare_seconds"]
                print(f"{name}  prepared in {answer['prepare_seconds']:.1f} s", flush=True)
        for number, (precision, form), answer in alternate(racers, options.repeats):
            place = {"network": network, "batch_size": batch_size, "precision": precision, "round": number, **data}
            rest = {"memory": answer["memory"], "prepare_seconds": prepare_seconds[precision, form]}
            for name, suffix in ((form, ""), (CALLS.get(form), "_call")):
                if name:
                    rates = {kind: answer[f"{kind}{suffix}"] for kind in ("training", "inference")}
                    rows.append({**place, "form": name, **rates, **rest})
    return pd.DataFrame(rows), skipped


def measured_on(dataset):
    """Returns what a rate depends on besides its form: the images and Keras's backend, as columns of a frame."""
    shape = "x".join(map(str, dataset.image_shape))
    return {"dataset": dataset.name, "image_shape": shape, "backend": keras.backend.backend()}


def _settings(form, network, batch_size, precision, dataset, seconds):
    return {
        "form": form,
        "model": network,
        "batch_size": batch_size,
        "precision": precision,
        "seconds": seconds,
        "inference_seconds": INFERENCE_SHARE * seconds,
        "label_smoothing": epsilon_from_gamma(GAMMA, dataset.classes),
        "dataset": dataset.name,
        "image_size": dataset.size,
        "data_dir": str(dataset.path.parent),
        "arrays": str(dataset.path),
    }


def _command(settings):
    if settings["form"] in TORCH_FORMS:
        program = [str(Path(peers.__file__).with_name("torch_steps.py"))]
    else:
        program = ["-m", "benchmarks.throughput.keras_steps"]
    return [sys.executable, *program, json.dumps(settings)]


def summary(frame):
    """Returns a frame with a row per cell and form: medians over the rounds, `n`, and medians of the rounds' ratios.

    `ratio` is by what factor `kls` trains faster than the form in the same round, in the same precision; calls of `fit`
    are held against calls. `to_stock` is the form's training rate over that of stock Keras in float32, `to_torch` over
    that of PyTorch's fastest form in the same round and precision.

    Args:
        frame: As `race` returns it.
    """
    rows = []
    for (network, batch_size, precision, form), rounds in frame.groupby([*CELL, "form"], sort=False):
        call = form in CALLS.values()
        own = _training(frame, network, batch_size, precision, "kls-fit" if call else "kls")
        stock = _training(frame, network, batch_size, "float32", "keras-fit" if call else "keras")
        of_torch = [_training(frame, network, batch_size, precision, name) for name in TORCH_FORMS]
        fastest = pd.concat(of_torch, axis=1).max(axis=1)
        training = rounds.set_index("round")["training"]
        rows.append(
            {
                **{"network": network, "batch_size": batch_size, "precision": precision, "form": form},
                **{"training": training.median(), "inference": rounds["inference"].median()},
                **{"ratio": (own / training).median(), "to_stock": (training / stock).median()},
                "to_torch": (training / fastest).median(),
                **{"memory": rounds["memory"].max(), "prepare_seconds": rounds["prepare_seconds"].iloc[0]},
                "n": len(rounds),
            }
        )
    return pd.DataFrame(rows)


def _training(frame, network, batch_size, precision, form):
    """Returns the training rates of one form by round, empty where it was not measured."""
    rows = (frame["network"] == network) & (frame["batch_size"] == batch_size)
    rows &= (frame["precision"] == precision) & (frame["form"] == form)
    return frame[rows].set_index("round")["training"]


def steps_table(frame, dataset, notes=()):
    """Returns the table of a frame.

    Args:
        frame: As `race` returns it.
        dataset: The `decathlon.Dataset` that was trained on.
        notes: What was skipped, as sentences.
    """
    rows = [
        (
            *(row.network, str(row.batch_size), row.precision, row.form),
            *(f"{row.training:,.0f}", f"{row.inference:,.0f}"),
            *(_ratio(row.ratio), _ratio(row.to_stock), _ratio(row.to_torch)),
            *(f"{row.memory / MEBIBYTE:,.0f}", f"{row.prepare_seconds:.1f}", str(row.n)),
        )
        for row in summary(frame).itertuples()
    ]
    height, width, channels = dataset.image_shape
    return Table(
        "steps",
        f"Training and inference of {height}x{width}x{channels} images ({dataset.name}, {dataset.classes} classes), "
        "images/s: medians of n alternated rounds. kls / form: the median of the rounds' ratios of training, in the "
        "same precision; x stock: the form's training against that of stock Keras in float32; x PyTorch: against "
        "that of PyTorch's fastest form in the round, in the same precision.",
        (
            *("network", "batch", "precision", "form", "training", "inference", "kls / form", "x stock"),
            *("x PyTorch", "peak MiB", "to first step, s", "n"),
        ),
        tuple(rows),
        notes=(
            "kls: through the studies' batches and `fit`; kls-arrays: the same steps on batches made beforehand; "
            "keras: Keras's own layers, loss and optimiser, arrays in memory; torch: eager, channels_last, autocast; "
            "torch-compile: the same under torch.compile; torch-graphs: with CUDA graphs besides (reduce-overhead). "
            "Seconds are those of the steps alone, but for kls-fit and keras-fit: those of the whole call of `fit` or "
            "`predict`; these two are held against each other. Peak: largest resident memory of the process, with "
            "the arrays of keras and kls-arrays. To first step: building, tracing and one step, without imports.",
            *notes,
            machine_note(PACKAGES, keras.backend.backend()),
        ),
    )


def _ratio(value):
    return "–" if pd.isna(value) else f"{value:.2f}"
