"""Guarded models in each format, by each score: what differs from Keras, the sizes of files, milliseconds per image."""

import time
from importlib.util import find_spec

import keras
import numpy as np
import pandas as pd

import decathlon
import kls
from kls.guarding.export import FORMATS
from kls.ood.scores import SCORES
from kls.study.machine import machine_note
from kls.study.methods import CrossEntropy
from kls.study.report.tables import Table
from kls.utils.compiled import compiled

EPOCHS, IMAGES, TIMED = 5, 2_000, 100
SHOWN = {"kilobytes": "{:,.0f}", "milliseconds": "{:.2f}"}
RUNTIMES = {"tf_saved_model": "tensorflow", "onnx": "onnxruntime", "litert": "ai_edge_litert"}
PACKAGES = ("keras", "tensorflow", "onnx", "tf2onnx", "onnxruntime", "ai-edge-litert")


def measure(options):
    """Compares all formats and shows the table."""
    (network, *_) = options.networks
    frame = compare(options.datasets, network, options.repeats, options.out, options.data_dir)
    guards_table(frame, options.datasets, network).show(options.out / "tables", frame)


def compare(name, network, rounds, out, data_dir):
    """Returns a frame with a row per score and format.

    The network is trained for a few epochs. Half of the evaluation images calibrate, the other half is judged on.

    Args:
        name: Name of a prepared dataset.
        network: Name of a registered network.
        rounds: Rounds in which the formats run one image after the other, in turn.
        out: Directory of the results.
        data_dir: The data directory.
    """
    dataset = decathlon.open(name, data_dir=data_dir)
    study = kls.Study(network, dataset, [CrossEntropy()], seeds=1, epochs=EPOCHS, out=out / "guards", data_dir=data_dir)
    model = study.run().model(CrossEntropy())
    images, labels = dataset.split(dataset.evaluation)
    calibration, judged = (images[::2], labels[::2]), np.asarray(images[1::2][:IMAGES], np.float32)
    rows = []
    for score in [name for name, make in SCORES.items() if make().formula is not None]:
        guarded = kls.guard(model, calibration, score=score, training_data=dataset.split("train"))
        runs = {format: (size, run) for format, size, run in exported(guarded, out / "guards" / score)}
        expected = runs["keras"][1](judged)
        seconds = times({format: run for format, (_, run) in runs.items()}, judged[:1], rounds)
        for format, (size, run) in runs.items():
            differences = differences_of(run(judged), expected)
            rows.append({"score": score, "format": format, **differences, "kilobytes": size / 1024, **seconds[format]})
    return pd.DataFrame(rows)


def exported(guarded, directory):
    """Yields `(format, bytes, function of images to outputs)` of a guarded model, of each format that runs here."""
    path = directory / "model.keras"
    directory.mkdir(parents=True, exist_ok=True)
    guarded.save(path)
    loaded = keras.models.load_model(path)
    yield "keras", path.stat().st_size, _keras(loaded)
    for format, suffix in FORMATS.items():
        if find_spec(RUNTIMES[format]) is not None:
            path = directory / f"model{suffix}" if suffix else directory / "saved_model"
            guarded.export(path, format=format, verbose=False)
            files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
            yield format, sum(file.stat().st_size for file in files), RUNS[format](path)


def _keras(model):
    run = compiled(lambda images: model(images, training=False), model)
    return lambda images: keras.tree.map_structure(keras.ops.convert_to_numpy, run(keras.ops.convert_to_tensor(images)))


def _saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda images: {name: values.numpy() for name, values in loaded.serve(images).items()}


def _onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    given = session.get_inputs()[0].name
    return lambda images: dict(zip(names, session.run(None, {given: images}), strict=True))


def _litert(path):
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path)).get_signature_runner()
    given = next(iter(run.get_input_details()))
    return lambda images: run(**{given: images})


RUNS = {"tf_saved_model": _saved_model, "onnx": _onnx, "litert": _litert}


def differences_of(outputs, expected):
    """Returns the largest differences between two outputs of a guarded model: a dictionary."""
    scores, of_keras = (np.asarray(of["score"], np.float64) for of in (outputs, expected))
    return {
        "images": len(scores),
        "probabilities": float(np.abs(outputs["probabilities"] - expected["probabilities"]).max()),
        "scores": float(np.abs(scores - of_keras).max()),
        "relative_scores": float((np.abs(scores - of_keras) / np.abs(of_keras).max()).max()),
        "decisions": int((outputs["in_distribution"] != expected["in_distribution"]).sum()),
        "labels": int((outputs["label"] != expected["label"]).sum()),
    }


def times(runs, image, rounds):
    """Returns `{format: {"milliseconds": of an image, "n": rounds}}`, the formats in turn in each round."""
    found = {format: [] for format in runs}
    for number in range(rounds + 1):
        for format, run in runs.items():
            start = time.perf_counter()
            for _ in range(TIMED):
                run(image)
            if number:  # the first warms up
                found[format].append(1000 * (time.perf_counter() - start) / TIMED)
    return {format: {"milliseconds": float(np.median(of)), "n": rounds} for format, of in found.items()}


def guards_table(frame, dataset, network):
    """Returns the table of a frame as `compare` returns it, a row per score."""
    formats = list(dict.fromkeys(frame["format"]))
    rows = []
    for score, of in frame.groupby("score", sort=False):
        largest = of[["probabilities", "scores", "relative_scores"]].max()
        others = of[["decisions", "labels"]].max()
        sizes, seconds = (" / ".join(map(form.format, of[name])) for name, form in SHOWN.items())
        rows.append((score, *map("{:.1e}".format, largest), *map(str, others), sizes, seconds))
    return Table(
        "guards",
        f"{network} on {dataset} behind a guard with temperature scaling, in {', '.join(formats)}: largest differences "
        f"from Keras over {frame['images'].iloc[0]:,} images, of scores also as a share of the largest; images whose "
        "decision or label is another; sizes of the files in KB and milliseconds per image, one at a time, in this "
        f"order of formats: medians of n = {frame['n'].iloc[0]} alternated rounds of {TIMED} images.",
        ("score", "probabilities", "scores", "relative", "decisions", "labels", "KB", "ms"),
        tuple(rows),
        notes=(machine_note(PACKAGES),),
    )
