"""How the methods of a study differ from its baseline: paired by seeds, judged on the same images."""

import numpy as np
import pandas as pd

from kls.study.outputs import score_of_logits
from kls.study.plan import PlanError
from kls.study.report.tables import Table, display_name, named_rows
from kls.study.statistics import BETTER, METRICS, UNKNOWN, Predictions, Scores, compare
from kls.study.statistics.comparison import counts
from kls.study.store import read_logits

BASELINE = "gamma=1"
SHOWN = ("accuracy", "nll", "brier", "ece")
SCORE = "msp"
NEEDED = "In brackets: what it would take to tell."
ONE_SEED = ("One seed cannot tell between trainings: its intervals are for new images alone.",)


def compare_methods(records, store, metric, baseline=BASELINE, level=0.95, margin=None):
    """Returns how methods differ from a baseline on their evaluation split, `{method: Comparison}`.

    Args:
        records: Records of finished trials of one dataset and network; those of seeds that a method lacks do not count.
        store: The `RunStore`.
        metric: Name in `kls.study.statistics.METRICS`; those of OOD detection, by maximum softmax probability, are
            means over all OOD datasets, or with `_NAME` that of one.
        baseline: Label of the method that the others are held against.
        level: Confidence level.
        margin: As in `kls.study.statistics.compare`.

    Raises:
        PlanError: If the baseline or another method is missing, if they share no seed, or have no such OOD data.
        StoreError: If stored outputs are damaged.
    """
    return compare(split_metric(metric)[0], *paired_outputs(records, store, metric, baseline), level, margin)


def split_metric(metric):
    """Returns the name of a metric in `METRICS`, and of what OOD dataset it is; an empty one for that of all."""
    name, _, ood = metric.partition("_")
    return (name, ood) if name in METRICS and METRICS[name].takes is Scores else (metric, "")


def paired_outputs(records, store, metric, baseline=BASELINE, correct=lambda logits, labels: logits, split=None):
    """Returns what `kls.study.statistics.compare` takes of the baseline, and of each other method, `{method: ...}`.

    Args:
        records: As in `compare_methods`.
        store: The `RunStore`.
        metric: As in `compare_methods`.
        baseline: As in `compare_methods`.
        correct: Function of the logits and labels of a network that returns the logits to judge it by.
        split: Name of the split whose images they are of; the evaluation split by default.

    Raises:
        PlanError: As in `compare_methods`.
        StoreError: As in `compare_methods`.
    """
    by_seed = {}
    for record in records:
        by_seed.setdefault(record["method"], {})[record["seed"]] = record
    if baseline not in by_seed or len(by_seed) < 2:
        raise PlanError(
            f"`baseline` must be a method with finished trials, beside another. Received: baseline={baseline!r} of "
            f"{', '.join(map(repr, by_seed)) or 'none'}"
        )
    seeds = sorted(set.intersection(*map(set, by_seed.values())))
    if not seeds:
        raise PlanError(f"Methods must share a seed to be compared. Received: none of {', '.join(map(repr, by_seed))}")
    name, ood = split_metric(metric)
    read = _scores if name in METRICS and METRICS[name].takes is Scores else _predictions
    found = {method: read([of[seed] for seed in seeds], store, ood, correct, split) for method, of in by_seed.items()}
    return found.pop(baseline), found


def _predictions(records, store, _, correct, split):
    outputs = [read_logits(store.outputs_path(record["trial"], split or record["evaluation"])) for record in records]
    return Predictions(outputs[0][1], np.stack([correct(*one) for one in outputs]))


def _scores(records, store, ood, correct, split):
    names = [ood] if ood else sorted(records[0]["ood"])
    lacking = [record["method"] for record in records if not names or not set(names) <= record["ood"].keys()]
    if lacking:
        known = ", ".join(records[0]["ood"]) or "none"
        raise PlanError(f"`metric` must be of OOD datasets of the study: {known}. Received: {ood or 'all'}")

    def stacked(name):
        outputs = [read_logits(store.outputs_path(record["trial"], name)) for record in records]
        return np.stack([score_of_logits(correct(*one), SCORE) for one in outputs])

    return Scores(stacked(split or records[0]["evaluation"]), {name: stacked(name) for name in names})


def shared_ood(records):
    """Returns the names of the OOD datasets that all networks have seen."""
    return sorted(set.intersection(*(set(record["ood"]) for record in records))) if records else []


def comparison_table(records, store, baseline=BASELINE):
    """Returns how methods differ from a baseline, a row per metric and method, and the numbers as a frame.

    Args:
        records: Frame of the records of finished trials.
        store: The `RunStore`.
        baseline: As in `compare_methods`.

    Returns:
        A `Table` and a frame; `None` where no dataset and network has the baseline and another method, with a seed
        that they share.
    """
    rows, numbers = [], []
    for (dataset, model), group in records.groupby(["dataset", "model"], sort=False):
        members = group.to_dict("records")
        try:
            outputs = paired_outputs(members, store, SHOWN[0], baseline)
        except PlanError:
            continue
        found = {metric: compare(metric, *outputs) for metric in SHOWN}
        for metric in (f"auroc_{name}" for name in shared_ood(members)):
            found[metric] = compare_methods(members, store, metric, baseline)
        for method, one in found["accuracy"].items():
            names = (display_name(dataset), model, method, f"n = {one.uncertainty.n}")
            of_method = {metric: numbers_of(compared[method]) for metric, compared in found.items()}
            rows += named_rows(names, [cells_of(metric, of) for metric, of in of_method.items()])
            place = {"dataset": dataset, "model": model, "method": method}
            numbers += [{**place, "metric": metric, **of} for metric, of in of_method.items()]
    if not rows:
        return None
    table = Table(
        "comparison",
        f"Differences from {baseline} of the last epoch's networks on the evaluation split, over n paired seeds, with "
        "95 % confidence intervals for new seeds and new images; those of several methods hold at once. Practically "
        f"the same: within {_margins(numbers)}. {NEEDED}",
        ("method", "metric", "difference", "verdict"),
        tuple(rows),
        ONE_SEED * any(row["n"] == 1 for row in numbers),
    )
    return table, pd.DataFrame(numbers)


def better_cells(numbers):
    """Returns the cells to set in bold, a set of (dataset, model, method, metric).

    Args:
        numbers: The frame of `comparison_table`, or `None`.
    """
    if numbers is None:
        return set()
    better = numbers[numbers["word"] == BETTER]
    return set(better[["dataset", "model", "method", "metric"]].itertuples(index=False, name=None))


def bold_note(numbers, baseline=BASELINE):
    """Returns, to be added to a caption, what bold means there; nothing where there is no comparison."""
    if numbers is None:
        return ""
    return (
        f" Bold: better than {baseline} by the 95 % confidence interval of the paired difference of the last epochs; "
        "what is practically the same, or cannot be told, is not."
    )


def heading_of(metric):
    """Returns what people call a metric."""
    name, ood = split_metric(metric)
    of = METRICS[name]
    if of.takes is not Scores:
        return of.heading
    return f"{of.heading} {display_name(ood)}" if ood else f"mean {of.heading}"


def cells_of(metric, numbers):
    """Returns the cells of a comparison: the metric, the difference with its interval, and the verdict.

    Args:
        metric: As in `compare_methods`.
        numbers: What `numbers_of` returns, or a row of a frame of that.
    """
    of = METRICS[split_metric(metric)[0]]
    difference, low, high = (of.shown(numbers[name], "+") for name in ("difference", "low", "high"))
    needed = []
    if numbers["word"] == UNKNOWN:
        found = (numbers[name] for name in ("seeds_needed", "images_needed"))
        needed = counts(*(None if pd.isna(count) else int(count) for count in found))
    return (
        heading_of(metric),
        f"{difference} [{low}, {high}]",
        " ".join([numbers["word"], *(f"({count})" for count in needed[:1])]),
    )


def numbers_of(compared):
    """Returns the numbers of a comparison, `{column: number}`."""
    names = ("baseline", "value", "difference", "low", "high", "margin", "word", "seeds_needed", "images_needed")
    return {"n": compared.uncertainty.n, **{name: getattr(compared, name) for name in names}}


def _margins(numbers):
    """Returns the margins of all metrics, in words."""
    margins = {METRICS[split_metric(row["metric"])[0]]: row["margin"] for row in numbers}
    return ", ".join(
        " ".join([f"{of.scale * margin:g}", *([of.unit] if of.unit else []), "of", of.heading])
        for of, margin in margins.items()
    )
