"""How often do confidence intervals hold the true value? `python -m benchmarks.coverage`

Networks are simulated of which the true value of each metric is known; samples are drawn from them, and the nominal
95 % intervals of `kls.calibration.interval` and `kls.ood.interval` are counted that hold it. Metrics with an interval
of their own are shown beside the bootstrap that they would have otherwise. docs/coverage.md has the tables.

Calibration: 10 classes, the confidence c is 1 - 0.8 Beta(0.3, 8), the likeliest class is right with probability
c - shift, and the other classes share the rest evenly. So every bin is overconfident by the shift, which is the true
ECE, MCE, RMSCE and debiased error; a fifth of it is the true classwise error.

Detection: ID scores are Normal(distance, 1), OOD scores Normal(0, 1), as many of each.
"""

import argparse
import sys
import time
from functools import partial

import numpy as np
from scipy.stats import norm

from decathlon.options import positive
from kls import calibration, ood
from kls.study.report.tables import Table

CLASSES = 10
BETA = (0.3, 8.0)
SHIFTS = (0.0, 0.0008, 0.008, 0.03, 0.15)
DISTANCES = (5.0, 3.5, 2.0, 1.0)
SIZES = (200, 1000)
CALIBRATION = {
    "accuracy": calibration.accuracy,
    "accuracy, bootstrap": partial(calibration.accuracy),
    "ECE": calibration.expected_calibration_error,
    "ECE, bootstrap": partial(calibration.expected_calibration_error),
    "UCE": calibration.uncertainty_calibration_error,
    "UCE, bootstrap": partial(calibration.uncertainty_calibration_error),
    "MCE": calibration.maximum_calibration_error,
    "RMSCE": calibration.METRICS["rmsce"],
    "debiased": calibration.debiased_calibration_error,
    "classwise": calibration.classwise_calibration_error,
    "Brier": calibration.brier_score,
}
DETECTION = {
    "FPR": ood.fpr_at_tpr,
    "FPR, bootstrap": partial(ood.fpr_at_tpr),
    "detection accuracy": ood.detection_accuracy,
    "detection accuracy, bootstrap": partial(ood.detection_accuracy),
    "AUROC": ood.auroc,
    "AUPR in": ood.aupr_in,
}


def main(arguments=None):
    """Prints the tables and returns 0."""
    options = _parser().parse_args(arguments)
    start = time.perf_counter()
    print(calibration_table(options).markdown())
    print(detection_table(options).markdown())
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.coverage", description=__doc__.split("\n\n")[0])
    parser.add_argument("--sets", type=positive, default=400, metavar="N", help="sets per cell (default: 400)")
    parser.add_argument("--resamples", type=positive, default=200, metavar="N", help="of each bootstrap (default: 200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="what all is drawn from (default: 0)")
    return parser


def predictions(rng, size, shift):
    """Returns labels, probabilities, and the probability that each label is the likeliest class."""
    confidence = 1 - 0.8 * rng.beta(*BETA, size)
    probabilities = np.repeat((1 - confidence)[:, None] / (CLASSES - 1), CLASSES, axis=1)
    probabilities[:, 0] = confidence
    right = confidence - shift
    labels = np.where(rng.random(size) < right, 0, rng.integers(1, CLASSES, size))
    return labels, probabilities, right


def true_calibration(shift, seed, size=200_000):
    """Returns the true values of the metrics of `CALIBRATION`, those that are integrals from a large sample."""
    _, probabilities, right = predictions(np.random.default_rng(seed), size, shift)
    both = np.concatenate([np.zeros(size, int), np.ones(size, int)])  # each sample right and wrong, with their shares
    weights = np.concatenate([right, 1 - right])
    uce = calibration.uncertainty_calibration_error(both, np.tile(probabilities, (2, 1)), sample_weight=weights)
    brier = calibration.brier_score(both, np.tile(probabilities, (2, 1)), sample_weight=weights)
    accuracy = 1 - 0.8 * BETA[0] / sum(BETA) - shift
    return {
        **dict.fromkeys(CALIBRATION, shift),
        **dict.fromkeys(("accuracy", "accuracy, bootstrap"), accuracy),
        **dict.fromkeys(("UCE", "UCE, bootstrap"), uce),
        "classwise": shift / 5,
        "Brier": brier,
    }


def true_detection(distance):
    """Returns the true values of the metrics of `DETECTION`."""
    rate = norm.sf(norm.ppf(0.05, distance))
    thresholds = np.linspace(distance + 9, -9, 20_001)
    recall = norm.sf(thresholds, distance)
    precision = recall / (recall + norm.sf(thresholds))
    return {
        **dict.fromkeys(("FPR", "FPR, bootstrap"), rate),
        **dict.fromkeys(("detection accuracy", "detection accuracy, bootstrap"), norm.cdf(distance / 2)),
        "AUROC": norm.cdf(distance / np.sqrt(2)),
        "AUPR in": np.trapezoid(precision, recall),
    }


def calibration_table(options):
    """Returns the coverage of the intervals of `CALIBRATION`."""
    rows = []
    for shift in SHIFTS:
        true = true_calibration(shift, options.seed)
        for size in SIZES:
            rng = np.random.default_rng([options.seed, size, round(1e4 * shift)])
            sets = [predictions(rng, size, shift)[:2] for _ in range(options.sets)]
            cells = [
                _cell(partial(calibration.interval, metric), sets, true[name], options)
                for name, metric in CALIBRATION.items()
            ]
            rows.append((f"{shift:g}", str(size), *cells))
    return Table(
        "coverage_calibration",
        _caption("Calibration: 10 classes, every bin overconfident by the shift, which is the true ECE", options),
        ("shift", "samples", *CALIBRATION),
        tuple(rows),
    )


def detection_table(options):
    """Returns the coverage of the intervals of `DETECTION`."""
    rows = []
    for distance in DISTANCES:
        true = true_detection(distance)
        for size in SIZES:
            rng = np.random.default_rng([options.seed, size, round(10 * distance)])
            sets = [(rng.normal(distance, 1, size), rng.normal(0, 1, size)) for _ in range(options.sets)]
            cells = []
            for name, metric in DETECTION.items():
                further = {"threshold": distance / 2} if name.startswith("detection accuracy") else {}
                cells.append(_cell(partial(ood.interval, metric, **further), sets, true[name], options))
            rows.append((f"{distance:g}", f"{true['FPR']:.4f}", str(size), *cells))
    return Table(
        "coverage_detection",
        _caption("Detection: normal scores, their means apart by the distance; FPR where 95 % of ID pass", options),
        ("distance", "true FPR", "samples of each", *DETECTION),
        tuple(rows),
    )


def _cell(interval, sets, true, options):
    found = [interval(*arrays, n=options.resamples) for arrays in sets]
    held = np.mean([one.low <= true <= one.high for one in found])
    return f"{100 * held:.1f} ({np.mean([one.high - one.low for one in found]):.3f})"


def _caption(what, options):
    return (
        f"{what}. Cells: share in % of the nominal 95 % confidence intervals that hold the true value, and mean width; "
        f"{options.sets} sets per cell, {options.resamples} resamples of each bootstrap, seed {options.seed}."
    )


if __name__ == "__main__":
    sys.exit(main())
