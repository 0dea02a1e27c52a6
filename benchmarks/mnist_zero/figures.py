"""The figures of the paper, drawn from what is stored of the networks."""

import numpy as np

from benchmarks.mnist_zero.examine import PICTURED, PICTURES, THRESHOLD
from benchmarks.mnist_zero.plan import PSEUDO, TEST, UNKNOWN, VALIDATION
from benchmarks.mnist_zero.tables import ERROR, SOFTMAX, base_and_class
from benchmarks.runner.outputs import score_of
from benchmarks.runner.store import read_outputs
from kls import plots
from kls.calibration.samples import softmax
from kls.ood import Threshold

LARGEST = 200
PARTS = {"clean": "original", "noised": "under noise", "restored": "restored"}
SHOWN_AS = {PSEUDO: "restored stand-ins", UNKNOWN: "class left out"}


def draw_figures(records, store, datasets):
    """Draws Figures 3, 4 and 6 to 9 of each data set and class left out, of the networks of the first seed.

    All but Figure 4, which compares the methods, are of the first network that was trained with `kls.FocalStd`, or else
    of the first with a decoder.

    Args:
        records: Records of examined networks, with a decoder or without.
        store: The `RunStore`.
        datasets: `{name: Dataset}`.
    """
    least = min(record["seed"] for record in records)
    decoders = [record for record in records if record["seed"] == least and record["loss"] == "denoising"]
    for name in dict.fromkeys(record["dataset"] for record in decoders):
        group = [record for record in decoders if record["dataset"] == name]
        record = next((record for record in group if record["std_weight"]), group[0])
        _, index = base_and_class(name)
        _save(store, f"confidence_{name}", _confidences(group, store))
        for figure, drawn in _of_one_network(record, store, datasets[name].class_names, index):
            _save(store, f"{figure}_{name}", drawn)


def _save(store, name, figure):
    store.write_figure(name, figure, dpi=120)


def _confidences(records, store):
    """Draws Figure 4: the maximum softmax of correct, wrong and unfamiliar test images per method."""
    panels, thresholds = {}, {}
    for record in records:
        familiar, unfamiliar = (read_outputs(store.outputs_path(record["trial"], name)) for name in (TEST, UNKNOWN))
        confidence = score_of(familiar, SOFTMAX)
        right = familiar["logits"].argmax(axis=1) == familiar["labels"]
        panels[record["configuration"]] = {
            "correct": confidence[right],
            "wrong": confidence[~right],
            "unfamiliar": score_of(unfamiliar, SOFTMAX),
        }
        thresholds[record["configuration"]] = _threshold(record, store).value
    return plots.confidence_histograms(panels, threshold=thresholds)


def _of_one_network(record, store, class_names, index):
    """Yields the names and figures of one network: 3, 6, 7, 8 and twice 9, on the validation and the test images."""
    pictures = store.arrays(record["trial"], PICTURES)
    outputs = {
        name: read_outputs(store.outputs_path(record["trial"], name)) for name in (VALIDATION, PSEUDO, TEST, UNKNOWN)
    }
    yield "restored", _restored(pictures, class_names)
    yield "stand_ins", _stand_ins(pictures)
    left_out = f"{index} (left out)"
    familiar = [-outputs[TEST][ERROR][outputs[TEST]["labels"] == label] for label in range(len(class_names))]
    errors = list(zip(class_names, familiar, strict=True))
    errors.insert(int(index), (left_out, -outputs[UNKNOWN][ERROR]))
    errors = dict(errors)
    yield "error_by_class", plots.error_by_class(errors, [left_out])
    count = min(LARGEST, sum(map(len, errors.values())))
    yield "largest_errors", plots.largest_by_class(errors, count, [left_out])
    threshold = _threshold(record, store)
    for split, familiar, unfamiliar in (("validation", VALIDATION, PSEUDO), ("test", TEST, UNKNOWN)):
        kept, passed = (score_of(outputs[name], SOFTMAX) for name in (familiar, unfamiliar))
        point = {f"threshold {threshold.value:.3f}": tuple((s >= threshold.value).mean() for s in (passed, kept))}
        title = f"Maximum softmax, {split} images"
        yield f"roc_{split}", plots.roc_curves(kept, {SHOWN_AS[unfamiliar]: passed}, title, point)


def _restored(pictures, class_names):
    """Draws Figure 3: unfamiliar images, under noise and restored, with the class that the noised one is taken for."""
    probabilities = softmax(pictures[f"{UNKNOWN}_logits"])
    titles = [f"{class_names[row.argmax()]}\n{row.max():.2f}" for row in probabilities]
    return plots.image_rows({label: _picture(pictures, UNKNOWN, part) for part, label in PARTS.items()}, titles)


def _stand_ins(pictures):
    """Draws Figure 6: what stands in for unfamiliar images, and familiar ones, each original, noised and restored."""
    rows = {
        label: np.concatenate([_picture(pictures, name, part)[::2] for name in (PSEUDO, TEST)])
        for part, label in PARTS.items()
    }
    return plots.image_rows(rows, gap=PICTURED // 2, titles=("stand in for unfamiliar images", "familiar images"))


def _picture(pictures, name, part):
    return np.float32(pictures[f"{name}_{part}"]) / 255


def _threshold(record, store):
    return Threshold.load(store.outputs_path(record["trial"], TEST).parents[1] / THRESHOLD)
