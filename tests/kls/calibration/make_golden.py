"""Calibration errors as the packages of others compute them: writes golden.json beside this file.

The tests need golden.json alone; they make the inputs again with `make_inputs`. Of a package's bins only those edges
are hit exactly that its own arithmetic places where j/B is: `np.linspace(0, 1, 11)[3]`, for one, lies above 0.3.
netcal's ACE weighs all bins alike and is another metric than the adaptive error of Nixon et al., so it is not here.
"""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

COMMAND = "python tests/kls/calibration/make_golden.py"
PATH = Path(__file__).with_name("golden.json")
SAMPLES = 600  # a multiple of every number of bins: packages share out a remainder in ways of their own
BINS = (10, 15, 20)
CLASSES = (2, 10, 100)


def make_inputs(seed, classes, dtype, bins, edges):
    """Returns labels and class probabilities with two confidences exactly on each of `edges`, as numerators of j/B.

    They are ratios of whole numbers, so that every machine rounds them alike.
    """
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 100_000, (SAMPLES, classes)).astype(np.float64)
    likeliest = rng.integers(classes, size=SAMPLES)
    rows = np.arange(SAMPLES)
    counts[rows, likeliest] += rng.integers(10_000, 400_000, SAMPLES) * rng.integers(1, classes + 1, SAMPLES)
    counts[rows, likeliest] += 1 + -counts.sum(axis=1) % 30  # no divisor of any B: no other value falls on an edge
    probabilities = counts / counts.sum(axis=1, keepdims=True)
    for row, edge in enumerate(np.repeat(edges, 2)):
        probabilities[row] = (1 - edge / bins) / (classes - 1)
        probabilities[row, likeliest[row]] = edge / bins
    labels = np.where(rng.integers(10, size=SAMPLES) < 6, likeliest, rng.integers(classes, size=SAMPLES))
    return labels, probabilities.astype(dtype)


def checksum(labels, probabilities):
    return hashlib.sha256(labels.astype("<i8").tobytes() + probabilities.tobytes()).hexdigest()[:16]


def main():
    entries = []
    for classes in CLASSES:
        for bins in BINS:
            for dtype in ("float32", "float64"):
                entries.append(entry("torchmetrics", by_torchmetrics, classes, dtype, bins))
                entries.append(entry("netcal", by_netcal, classes, dtype, bins))
            entries.append(entry("netcal", by_netcal_without_ties, classes, "float64", bins, edges=[]))
            entries.append(entry("uncertainty-calibration", by_calibration, classes, "float64", bins))
    packages = ("torchmetrics", "netcal", "uncertainty-calibration", "torch", "numpy", "scipy")
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    lines = ",\n".join(json.dumps(found) for found in entries)
    PATH.write_text(
        f'{{"command": {json.dumps(COMMAND)},\n"versions": {json.dumps(versions)},\n"entries": [\n{lines}\n]}}\n'
    )


def entry(package, metric, classes, dtype, bins, edges=None):
    if edges is None:
        edges = [j for j in range(bins // classes + 1, bins + 1) if on_the_edge(package, j, bins, dtype)]
    settings = {"seed": 1000 * classes + bins, "classes": classes, "dtype": dtype, "bins": bins, "edges": edges}
    labels, probabilities = make_inputs(**settings)
    confidence = probabilities.max(axis=1)
    expected = np.repeat(edges, 2) / bins
    assert (confidence[: len(expected)] == expected.astype(dtype)).all()
    values = {name: float(value) for name, value in metric(labels, probabilities, bins).items()}
    return {"package": package, "inputs": settings, "checksum": checksum(labels, probabilities), "values": values}


def on_the_edge(package, j, bins, dtype):
    """Returns whether the package puts the value j/B into the bin that its convention says."""
    value = np.dtype(dtype).type(j / bins)
    if package == "torchmetrics":
        import torch

        return bool(np.float32(value) >= torch.linspace(0, 1, bins + 1, dtype=torch.float32).numpy()[j])
    if package == "netcal":
        return bool(float(value) >= np.linspace(0, 1, bins + 1)[j])
    return bool(float(value) <= j * 1.0 / bins)


def by_torchmetrics(labels, probabilities, bins):
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    predictions, target = torch.from_numpy(probabilities), torch.from_numpy(labels)
    classes = probabilities.shape[1]
    return {
        norm: multiclass_calibration_error(predictions, target, classes, bins, norm).item()
        for norm in ("l1", "l2", "max")
    }


def by_netcal(labels, probabilities, bins):
    from netcal.metrics import ECE, MCE

    if probabilities.shape[1] == 2:  # netcal would metric the probability of class 1
        inputs = probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(int)
    else:
        inputs = probabilities, labels
    return {"ece": ECE(bins).metric(*inputs), "mce": MCE(bins).metric(*inputs)}


def by_netcal_without_ties(labels, probabilities, bins):
    from netcal.metrics import ECE, MCE

    confidence, correct = probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(int)
    assert len(np.unique(confidence)) == SAMPLES  # a tie across bins goes up in netcal, and down in kls
    by_class = [ECE(bins).metric(p, (labels == k).astype(int)) for k, p in enumerate(probabilities.T)]
    return {
        "ece of equal mass": ECE(bins, equal_intervals=False).metric(confidence, correct),
        "mce of equal mass": MCE(bins, equal_intervals=False).metric(confidence, correct),
        "classwise": np.mean(by_class),
    }


def by_calibration(labels, probabilities, bins):
    from calibration.utils import get_equal_bins, get_equal_prob_bins, lower_bound_scaling_ce

    values = {}
    for binning, scheme in (("width", get_equal_prob_bins), ("mass", get_equal_bins)):
        for name, power, debias, mode in (
            ("l1", 1, False, "top-label"),
            ("l2", 2, False, "top-label"),
            ("debiased", 2, True, "top-label"),
            ("classwise", 1, False, "marginal"),
        ):
            values[f"{name} of equal {binning}"] = lower_bound_scaling_ce(
                probabilities, labels, power, debias, bins, scheme, mode
            )
    return values


if __name__ == "__main__":
    main()
