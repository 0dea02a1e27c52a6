"""Are methods called different that are the same? `python -m benchmarks.aa`

    python -m benchmarks.aa --datasets digits mnist --seeds 60 --arrangements 4

An A/A test on real trainings. Small networks of one recipe differ in nothing but their seeds. They are dealt out into
groups of three, and one group is compared with another as a method is with its baseline: whoever is called better or
worse is called so by chance. A planted effect beside it: networks that were trained with a tenth of the labels wrong
are compared with such as were not. docs/comparison.md has the table.

Prepared datasets are cut to their first images. Finished trainings are kept in `--out`.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
from keras import layers

import decathlon
import kls
from decathlon.options import directory, positive
from kls.study.methods import CrossEntropy
from kls.study.report.tables import Table
from kls.study.statistics import BETTER, METRICS, WORSE, Predictions, compare

N = 3
SHOWN = ("accuracy", "nll", "brier", "ece")
WRONG = 0.1


def main(arguments=None):
    """Trains, prints the table and returns 0, or 2 if a dataset cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        rows = [row for name in options.datasets for row in _rows(name, options)]
    except (decathlon.store.DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table(
        "aa",
        f"How often groups of {N} networks are called better or worse than others by 95 % intervals: of the same "
        f"recipe (A/A), and with {WRONG:.0%} of the training labels wrong. n: pairs of groups, which share networks.",
        ("dataset", "test images", "accuracy %", "compared", "n", *(METRICS[metric].heading for metric in SHOWN)),
        tuple(rows),
    )
    print(table.markdown())
    return 0


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.aa", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--datasets", nargs="+", default=["digits"], metavar="NAME", help="prepared datasets (default: digits)")
    add("--seeds", type=positive, default=60, metavar="N", help="networks per dataset (default: %(default)s)")
    add("--arrangements", type=positive, default=4, metavar="N", help="how often they are dealt out (default: 4)")
    add("--images", type=positive, default=2000, metavar="N", help="images of each split (default: %(default)s)")
    add("--epochs", type=positive, default=20, metavar="N", help="epochs (default: %(default)s)")
    add("--out", type=directory, default=Path("runs/aa"), metavar="DIR", help="results (default: %(default)s)")
    data_dir = decathlon.store.default_data_dir()
    add("--data-dir", type=directory, default=data_dir, metavar="DIR", help="prepared data (default: %(default)s)")
    return parser


def small_network(input_shape, classes):
    return keras.Sequential(
        [layers.Input(input_shape), layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(classes)]
    )


def _rows(name, options):
    if options.seeds < 2 * N:
        raise ValueError(f"--seeds must be at least {2 * N}, for two groups. Received: {options.seeds}")
    dataset = decathlon.open(name, data_dir=options.data_dir)
    train, test = (
        tuple(np.asarray(array[: options.images]) for array in dataset.split(split))
        for split in ("train", dataset.evaluation)
    )
    clean = _trained(train, test, options, options.out / name)
    noisy = _trained((train[0], wrong_labels(train[1], dataset.classes)), test, options, options.out / f"{name}-wrong")
    pairs = pairs_of_groups(options.seeds, options.arrangements)
    accuracy = f"{100 * np.mean(clean.logits.argmax(axis=-1) == clean.labels):.1f}"
    for compared, others in (("A/A", clean), ("wrong labels", noisy)):
        calls = count_calls(clean, others, pairs)
        cells = (f"{calls[metric, BETTER]} better, {calls[metric, WORSE]} worse" for metric in SHOWN)
        yield name, f"{len(clean.labels):,}", accuracy, compared, str(len(pairs)), *cells


def _trained(train, test, options, out):
    """Returns the `Predictions` of networks of all seeds."""
    seeds = range(options.seeds)
    settings = {"seeds": seeds, "epochs": options.epochs, "shift": 0.0, "flip": False, "out": out}
    results = kls.Study(small_network, (train, test), CrossEntropy(), **settings).run()
    found = [results.logits(CrossEntropy(), seed) for seed in seeds]
    return Predictions(found[0][1], np.stack([logits for logits, _ in found]))


def wrong_labels(labels, classes):
    """Returns labels of which a tenth is replaced by another class."""
    rng = np.random.default_rng(0)
    others = (labels + rng.integers(1, classes, len(labels))) % classes
    return np.where(rng.random(len(labels)) < WRONG, others, labels)


def pairs_of_groups(seeds, arrangements):
    """Returns pairs of groups of `N` seeds: all seeds are dealt out once for each arrangement.

    Example:

    >>> [sorted(map(int, [*first, *second])) for first, second in pairs_of_groups(6, 1)]
    [[0, 1, 2, 3, 4, 5]]
    """
    rng = np.random.default_rng(0)
    dealt = [rng.permutation(seeds)[: seeds // (2 * N) * 2 * N].reshape(-1, 2, N) for _ in range(arrangements)]
    return [tuple(pair) for arrangement in dealt for pair in arrangement]


def count_calls(baseline, others, pairs):
    """Returns how often each word was said of each metric, a `Counter` of `(metric, word)`."""
    calls = Counter()
    for first, second in pairs:
        one, other = (Predictions(of.labels, of.logits[seeds]) for of, seeds in ((baseline, first), (others, second)))
        for metric in SHOWN:
            calls[metric, compare(metric, one, {"other": other})["other"].word] += 1
    return calls


if __name__ == "__main__":
    sys.exit(main())
