"""The same metrics by `kls` and by its peers, each in a process of its own: PyTorch and TensorFlow share none.

`benchmarks.throughput.metrics` runs this file as a script: `metrics.py NAME SAMPLES CLASSES`. It answers with the
seconds that one round took, what it found, and the memory that it took.
"""

import sys
import time
from pathlib import Path

import numpy as np

BINS = 15
METRICS = ("accuracy", "ece", "nll", "brier")


def make_predictions(samples, classes):
    """Returns float32 logits of a classifier that is often right, and the labels."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((samples, classes), np.float32)
    labels = rng.integers(0, classes, samples)
    logits[np.arange(samples), labels] += rng.normal(5, 2, samples)
    return logits, labels


def with_kls(logits, labels):
    """Everything in one pass, in float64."""
    from kls.calibration import summarize

    found = summarize(labels, logits, BINS, from_logits=True)
    return {name: found[name] for name in METRICS}


def with_sklearn(logits, labels):
    """What scikit-learn has: all but the ECE."""
    from scipy.special import softmax
    from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

    probabilities = softmax(logits, axis=1)
    classes = np.arange(logits.shape[1])
    return {
        "accuracy": accuracy_score(labels, probabilities.argmax(axis=1)),
        "nll": log_loss(labels, probabilities, labels=classes),
        "brier": brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False),
    }


def with_torchmetrics(logits, labels):
    """What torchmetrics has, and PyTorch's cross-entropy: all but the Brier score."""
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    predictions, target = torch.from_numpy(logits), torch.from_numpy(labels)
    classes = logits.shape[1]
    probabilities = predictions.softmax(dim=1)
    return {
        "accuracy": float(multiclass_accuracy(probabilities, target, classes, average="micro")),
        "ece": float(multiclass_calibration_error(probabilities, target, classes, BINS)),
        "nll": float(torch.nn.functional.cross_entropy(predictions, target)),
    }


PEERS = {
    "kls": ("numpy", with_kls),
    "scikit-learn": ("sklearn", with_sklearn),
    "torchmetrics": ("torchmetrics", with_torchmetrics),
}


def prepare(name, samples, classes):
    """Makes predictions; returns nothing and the function of the rounds."""
    logits, labels = make_predictions(samples, classes)
    compute = PEERS[name][1]
    compute(logits, labels)  # imports, and warms up

    def one_round():
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident("VmRSS")
        start = time.perf_counter()
        found = compute(logits, labels)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "memory": (resident("VmHWM") - before) / logits.nbytes, **found}

    return {}, one_round


if __name__ == "__main__":
    from answering import answer, resident

    answer(lambda: prepare(sys.argv[1], *map(int, sys.argv[2:])))
