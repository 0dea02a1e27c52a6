"""Do the intervals of comparisons hold for new seeds and new images? `python -m benchmarks.comparison`

Two methods are simulated of which the true difference of each metric is known. Networks are drawn, a seed each, and
images, and the nominal 95 % intervals of `kls.study.statistics` are counted that hold it. docs/comparison.md has the
tables.

The margin of seed i on image j, the logit of the true one of two classes minus that of the other, is

    scale * (mean + 0.02 a_i + sqrt(0.8) b_j + sqrt(0.2) c_j + 0.4 e_ij)

with standard normal a, b, c, e. Both methods share the images' b; a, c and e are each method's own. The baseline has
mean 1.38 and scale 3.2 (accuracy 90 %, ECE 3 %, too confident), the method mean 1.45 and scale 1.2 (91 %, 9 %, not
confident enough). OOD images, as many as ID ones, have mean 0 and no a_i; the score is the margin. One seed is judged
for new images alone: without a_i.

The ECE of a set of images is too large on average, the more so the fewer they are. Its intervals are counted twice:
whether they hold the mean of what is measured on so many images, and whether they hold the difference on all images. It
is also counted against a baseline of scale 2.4, which is calibrated.

The second table has the formula alone: normal variables, so that mean squares are chi-square ones, of which seeds,
images and both together cause shares of the variance, in steps of a tenth and also 5 and 95 %.
"""

import argparse
import sys
import time
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy import special, stats

from decathlon.options import positive
from kls import calibration
from kls.study.report.tables import Table
from kls.study.statistics import METRICS
from kls.study.statistics.comparison import differences_moments, values_of
from kls.study.statistics.networks import Areas, Binned, Means
from kls.study.statistics.uncertainty import Uncertainty, uncertainties

SEEDS = (1, 2, 3, 5, 10)
SIZES = (200, 2_000, 10_000)
SHARES = (0.0, 0.05, *np.round(np.arange(0.1, 1, 0.1), 1).tolist(), 0.95, 1.0)
OF_SEEDS, SHARED, OF_BOTH = 0.02, 0.8, 0.4
IMAGES = 10_000  # of the formula's table, where they matter little
CALIBRATED = 2.4
HEADINGS = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "ece": "ECE, of all images",
    "ece, measured": "ECE, as measured",
    "calibrated": "ECE, calibrated, of all images",
    "calibrated, measured": "ECE, calibrated, as measured",
    "auroc": "AUROC",
}


@dataclass(frozen=True)
class Method:
    """A method of which all is known.

    Attributes:
        mean: Mean margin.
        scale: What margins are multiplied by.
        of_seeds: Standard deviation of the seeds' means.
    """

    mean: float
    scale: float
    of_seeds: float = OF_SEEDS

    def margins(self, rng, n, shared, ood=False):
        """Returns margins of shape `(n, N)` on images, of which what they share with the other method is given."""
        means = np.zeros((n, 1)) if ood else self.mean + self.of_seeds * rng.standard_normal((n, 1))
        own = np.sqrt(1 - SHARED) * rng.standard_normal(len(shared))
        return self.scale * (means + np.sqrt(SHARED) * shared + own + OF_BOTH * rng.standard_normal((n, len(shared))))

    def truth(self, metric):
        """Returns a metric on all images, its mean over all seeds."""
        spread = np.sqrt(1 + OF_BOTH**2)
        if metric == "auroc":
            return float(stats.norm.cdf(self.mean / np.sqrt(2 * spread**2 + self.of_seeds**2)))
        nodes, weights = np.polynomial.hermite_e.hermegauss(9)
        at = np.linspace(-8, 8, 20_001)
        found = []
        for node in nodes:
            margins = self.scale * (self.mean + self.of_seeds * node + spread * at)
            logits = np.stack([margins, np.zeros_like(margins)], axis=1)
            density = stats.norm.pdf(at)
            found.append(
                calibration.METRICS[metric](np.zeros(len(at), int), logits, from_logits=True, sample_weight=density)
            )
        return float(np.dot(found, weights) / weights.sum())


METHODS = Method(1.38, 3.2), Method(1.45, 1.2)


def main(arguments=None):
    """Prints the tables and returns 0."""
    options = _parser().parse_args(arguments)
    start = time.perf_counter()
    print(coverage_table(options).markdown())
    print(formula_table(options).markdown())
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.comparison", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--repetitions", type=positive, default=1000, metavar="N", help="comparisons per cell (default: 1000)"
    )
    parser.add_argument("--resamples", type=positive, default=100, metavar="N", help="of images (default: 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="what all is drawn from (default: 0)")
    return parser


def sampled_metrics(rng, methods, n, size):
    """Returns the metrics of n networks of each method on the same images: `{name: Sampled}`."""
    shared, shared_by_ood = rng.standard_normal((2, size))
    margins = np.concatenate([method.margins(rng, n, shared) for method in methods])
    ood = np.concatenate([method.margins(rng, n, shared_by_ood, ood=True) for method in methods])
    right, confidence = margins > 0, special.expit(np.abs(margins))
    calibrated = confidence.copy()
    calibrated[:n] = special.expit(np.abs(margins[:n]) * CALIBRATED / METHODS[0].scale)
    return {
        "accuracy": Means(right.astype(np.float64)),
        "nll": Means(np.logaddexp(0, -margins)),
        "ece": Binned(confidence[..., None], right[..., None]),
        "calibrated": Binned(calibrated[..., None], right[..., None]),
        "auroc": Areas(margins, [ood]),
    }


def coverage_table(options):
    """Returns how often the intervals hold, and their half-widths."""
    rows = {}
    for n in SEEDS:
        methods = [replace(method, of_seeds=OF_SEEDS if n > 1 else 0.0) for method in METHODS]
        true = true_differences(methods)
        for size in SIZES:
            found = simulated_intervals(methods, n, size, options)
            for name in ("ece", "calibrated"):
                found[f"{name}, measured"] = found[name]
                true[f"{name}, measured"] = found[name][0].mean()
            for name, (differences, below, above) in found.items():
                held = np.mean((differences - below <= true[name]) & (true[name] <= differences + above))
                rows.setdefault((name, size), []).append(f"{100 * held:.1f} ({np.mean(below + above) / 2:.4f})")
    return Table(
        "coverage",
        "Two simulated methods. Cells: share in % of the nominal 95 % confidence intervals of their difference that "
        "hold the true one for new seeds and new images (n = 1: for new images), and half their mean width; "
        f"{options.repetitions} comparisons per cell, {options.resamples} resamples, seed {options.seed}.",
        ("metric", "images", *(f"n = {n}" for n in SEEDS)),
        tuple((HEADINGS[name], f"{size:,}", *rows[name, size]) for name in HEADINGS for size in SIZES),
    )


def true_differences(methods):
    """Returns the differences of the metrics on all images: `{metric: number}`."""
    baseline, method = methods
    found = {name: method.truth(name) - baseline.truth(name) for name in ("accuracy", "nll", "ece", "auroc")}
    return found | {"calibrated": method.truth("ece") - replace(baseline, scale=CALIBRATED).truth("ece")}


def simulated_intervals(methods, n, size, options):
    """Returns differences and how far their 95 % intervals reach below and above: `{metric: (3, R) array}`."""
    rng, found = np.random.default_rng([options.seed, size, n]), {}
    for repetition in range(options.repetitions):
        for name, sampled in sampled_metrics(rng, methods, n, size).items():
            unseen = METRICS[name].unseen if name in METRICS else 0
            found.setdefault(name, []).append(interval(sampled, n, unseen, options.resamples, repetition))
    return {name: np.transpose(intervals) for name, intervals in found.items()}


def interval(sampled, n, unseen, resamples, seed):
    """Returns the mean difference and how far its 95 % interval reaches below and above, as `compare` has them."""
    values = values_of(sampled, n)[..., 0]
    bias, covariance = differences_moments(sampled, n, resamples, seed)
    (found,) = uncertainties(values[1:] - values[0], bias, covariance, sampled.sizes[0], sampled.resampled, unseen)
    return values[1].mean() - values[0].mean(), *found.reach(0.95)


def satterthwaite(parts, level):
    """Returns the half-width with Satterthwaite's degrees of freedom for the sum of mean squares."""
    cells = (parts.n - 1) * (parts.size - 1)
    spread = parts.seeds**2 / (parts.n - 1) + parts.images**2 / (parts.size - 1) + parts.residual**2 / cells
    degrees = (parts.seeds + parts.images - parts.residual) ** 2 / spread
    return stats.t.isf((1 - level) / 2, max(degrees, parts.n - 1)) * parts.standard_error


def formula_table(options):
    """Returns the least and the largest coverage over shares of the variance, and mean half-widths."""
    formulas = {"squares added": Uncertainty.half_width, "Satterthwaite": satterthwaite}
    rows = []
    for n in SEEDS[1:]:
        held, halves = ({name: [] for name in formulas} for _ in range(2))
        for of_seeds, of_both in ((a, (1 - a) * b) for a, b in product(SHARES, (0.0, 0.5, 1.0))):
            rng = np.random.default_rng([options.seed, n])
            drawn = [Uncertainty(n, IMAGES, *parts) for parts in _mean_squares(rng, n, of_seeds, of_both, options)]
            means = np.abs(rng.standard_normal(len(drawn)))
            for name, formula in formulas.items():
                found = np.array([formula(parts, 0.95) for parts in drawn])
                held[name].append(100 * np.mean(means <= found))
                halves[name].append(found.mean())
        rows.append(
            (
                str(n),
                *(f"{min(held[name]):.1f} to {max(held[name]):.1f} ({np.mean(halves[name]):.2f})" for name in formulas),
            )
        )
    return Table(
        "formula",
        "Two formulas. Cells: least and largest share in % of the nominal 95 % intervals that hold, over shares of the "
        "variance, and mean half-width in true standard errors; "
        f"{options.repetitions} draws per share, seed {options.seed}.",
        ("n", *formulas),
        tuple(rows),
    )


def _mean_squares(rng, n, of_seeds, of_both, options):
    """Returns the three parts of an `Uncertainty` of a mean of variance 1, of shape `(repetitions, 3)`."""
    degrees = np.array([n - 1, IMAGES - 1, (n - 1) * (IMAGES - 1)])
    expected = np.array([of_seeds + of_both, 1 - of_seeds, of_both])
    return expected * rng.chisquare(degrees, (options.repetitions, 3)) / degrees


if __name__ == "__main__":
    sys.exit(main())
