"""Tables 1 to 7 of the paper, measured beside published, and the same metrics on any data."""

import numpy as np
import pandas as pd

from kls.analysis.classwise import class_scores
from kls.calibration import TemperatureScaling, cross_fitted, summarize
from kls.study.outputs import BINS as COMPARED_BINS
from kls.study.outputs import CONVENTION
from kls.study.report.comparisons import better_cells, bold_note
from kls.study.report.tables import Table, cell_of, data_note, display_name, named_rows, percent, plain
from kls.study.store import read_logits

BINS = 10
TOP = 5
BASELINE = "vanilla"
SCALED = "temperature-scaling"
METRICS = {
    "accuracy": ("accuracy %", percent),
    "accuracy_top5": ("top-5 %", percent),
    "ece": ("ECE %", percent),
    "uce": ("UCE %", percent),
    "nll": ("NLL", plain),
    "brier_top": ("Brier top", plain),
    "brier": ("Brier", plain),
}
IN_FRACTIONS = ("ece", "uce")  # as the paper prints them
NOT_BUILT = ("sskd",)


def with_configuration(record):
    """Returns a record with the names of its configuration, of its teachers' networks and of its mixing."""
    method = record["recipe"]["method"]
    models = method.get("models", ())
    teacher = f"{len(models)} teachers" if len(models) > 1 else "".join(models)
    return {**record, "configuration": method["title"], "teacher": teacher, "mixing": method.get("mixing", "")}


def measured(records, store):
    """Returns a frame with a row per network and the metrics of its stored logits.

    A vanilla network gets another row, of its logits after temperature scaling: each half of the evaluation images is
    judged at the temperature that fits the other half.

    Args:
        records: Records of finished trials.
        store: The `RunStore`.
    """
    rows = []
    for record in records:
        logits, labels = read_logits(store.outputs_path(record["trial"], record["evaluation"]))
        heading = {name: record[name] for name in ("dataset", "model", "configuration", "seed", "trial")}
        heading |= {"teacher": record["teacher"], "mixing": record["mixing"]}
        rows.append({**heading, **_metrics(labels, logits)})
        if record["configuration"] == BASELINE:
            rows.append({**heading, "configuration": SCALED, **_metrics(labels, scaled(labels, logits)[0])})
    return pd.DataFrame(rows)


def scaled(labels, logits):
    """Returns logits after temperature scaling, each half at what fits the other half, and the two temperatures."""
    found, temperatures = np.empty_like(logits), []
    for judged, scaler in cross_fitted(TemperatureScaling(), logits, labels):
        found[judged] = scaler.transform(logits[judged])
        temperatures.append(scaler.temperature)
    return found, temperatures


def _metrics(labels, logits):
    found = summarize(labels, logits, BINS, from_logits=True, convention=CONVENTION)
    metrics = {name: found[name] for name in METRICS if name in found}
    if logits.shape[1] > 2 * TOP:
        likeliest = np.argpartition(logits, -TOP, axis=1)[:, -TOP:]
        metrics["accuracy_top5"] = float((likeliest == labels[:, None]).any(axis=1).mean())
    return metrics


def metrics_table(networks, records, paper, compared=None):
    """Returns all metrics of all networks, as Table 7 has them, and their numbers as a frame.

    Args:
        networks: The frame that `measured` returns.
        records: Records of the trials.
        paper: The paper's numbers.
        compared: Frame of the comparison of configurations with vanilla; without it nothing is bold.
    """
    better = better_cells(compared)
    shown = {name: METRICS[name] for name in METRICS if name in networks}
    rows, numbers = [], []
    for (dataset, model), group in networks.groupby(["dataset", "model"], sort=False):
        own_rows = []
        for method, cell in group.groupby("configuration", sort=False):
            values = [
                cell_of(cell[name], form, (dataset, model, method, name) in better) for name, (_, form) in shown.items()
            ]
            own_rows.append((_described(method, cell), str(len(cell)), *values))
            printed = _printed(paper, dataset, model, [method, *_by_mixing(cell)[:1]])
            if printed:
                own_rows.append(("published", "3", *(_as_printed(printed, name) for name in shown)))
            numbers.append(
                {
                    **{"dataset": dataset, "model": model, "method": method, "teacher": cell["teacher"].iloc[0]},
                    "n": len(cell),
                    **{f"{name}_mean": cell[name].mean() for name in shown},
                    **{f"{name}_std": cell[name].std() for name in shown},
                    **{f"{name}_published": printed.get(name, (None, None))[0] for name in shown},
                }
            )
        rows += named_rows((display_name(dataset), model), own_rows)
    table = Table(
        "metrics",
        f"Accuracy and calibration of the last epoch's networks (as Table 7 of the paper): ECE and UCE with {BINS} "
        f"bins ({CONVENTION}'s convention), NLL in nats, Brier score of the predicted class and as the sum over "
        f"classes. n: trained networks per row, 3 in the paper."
        + bold_note(compared, BASELINE)
        + ("" if compared is None else f" ECE is compared with {COMPARED_BINS} bins."),
        ("network", "method", "n", *(heading for heading, _ in shown.values())),
        tuple(rows),
        notes(records),
    )
    return table, pd.DataFrame(numbers)


def paper_tables(networks, records, paper):
    """Returns those of Tables 1 to 6 of which a network is finished, in the paper's layout.

    Args:
        networks: The frame that `measured` returns.
        records: Records of the trials.
        paper: The paper's numbers.

    Returns:
        List of pairs of a `Table` and its numbers as a frame.
    """
    trained = set(zip(networks["dataset"], networks["model"], strict=True))
    return [
        _paper_table(number, cells, networks, records)
        for number, cells in paper[paper["table"] != "7"].groupby("table")
        if trained & set(zip(cells["dataset"], cells["model"], strict=True))
    ]


def _paper_table(number, printed, networks, records):
    columns = list(dict.fromkeys(zip(printed["dataset"], printed["model"], strict=True)))
    rows, numbers = [], []
    for method in dict.fromkeys(printed["method"]):
        ours, theirs = [], []
        for dataset, model in columns:
            cell = networks[(networks["dataset"] == dataset) & (networks["model"] == model)]
            cell = cell[(cell["configuration"] == method) | (_by_mixing(cell) == method)]
            ours.append(f"{percent(cell['accuracy'])} / {percent(cell['ece'])} (n={len(cell)})" if len(cell) else "–")
            found = _printed(printed, dataset, model, [method])
            theirs.append(" / ".join(_as_printed(found, name) for name in ("accuracy", "ece")) if found else "–")
            numbers += [
                {
                    **{"dataset": dataset, "model": model, "method": method, "metric": name, "n": len(cell)},
                    **{"mean": cell[name].mean() if len(cell) else None, "published": value, "published_std": std},
                }
                for name, (value, std) in found.items()
            ]
        rows.append((f"{method} (not built)" if method in NOT_BUILT else method, *ours))
        rows.append(("published", *theirs))
    table = Table(
        f"table{number}",
        f"Table {number} of the paper: accuracy % / ECE % with {BINS} bins ({CONVENTION}'s convention), measured (n "
        "networks) and below it as published (3 networks).",
        ("method", *(f"{display_name(dataset)}, {model}" for dataset, model in columns)),
        tuple(rows),
        notes(records),
    )
    return table, pd.DataFrame(numbers)


def f1_table(records, store, class_names):
    """Returns F1 in % per class and method, mean over seeds, and the numbers as a frame.

    Args:
        records: Records of finished trials.
        store: The `RunStore`.
        class_names: `{dataset: names of its classes}`.
    """
    numbers = []
    for record in records:
        logits, labels = read_logits(store.outputs_path(record["trial"], record["evaluation"]))
        f1, confidence = class_scores(labels, logits, from_logits=True)
        heading = {name: record[name] for name in ("dataset", "model", "configuration", "seed")}
        numbers += [
            {**heading, "class": name, "f1": value, "confidence": confident}
            for name, value, confident in zip(class_names[record["dataset"]], f1, confidence, strict=True)
        ]
    frame = pd.DataFrame(numbers)
    means = frame.pivot_table(
        "f1", ["dataset", "model", "class"], "configuration", sort=False, aggfunc="mean", observed=True
    )
    rows = [
        (display_name(dataset), model, name, *("–" if np.isnan(value) else f"{100 * value:.2f}" for value in values))
        for (dataset, model, name), *values in means.itertuples()
    ]
    counts = frame.groupby(["dataset", "model", "configuration"])["seed"].nunique()
    table = Table(
        "f1",
        f"F1 in % per class, mean over n = {_range(counts)} networks.",
        ("dataset", "model", "class", *means.columns),
        tuple(rows),
    )
    return table, frame


def _range(counts):
    least, most = counts.min(), counts.max()
    return str(least) if least == most else f"{least} to {most}"


def notes(records):
    """Returns what a reader must know before comparing with the paper, a sentence per dataset."""
    models = {record["trial"]: record["model"] for record in records}
    sentences = []
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        group = [record for record in records if record["dataset"] == dataset]
        epochs = sorted({record["epochs"] for record in group})
        teachers = {"+".join(models.get(parent, "?") for parent in record["parents"]) for record in group} - {""}
        mixings = {record["mixing"] for record in group} - {""}
        sentences.append(
            f"{display_name(dataset)}: {' or '.join(map(str, epochs))} epochs (the paper: 240, long 350), "
            f"{data_note(group[0])}."
            + (f" Teachers: {', '.join(sorted(teachers))}." if teachers else "")
            + (f" Mixing: {', '.join(sorted(mixings))}." if mixings else "")
            + (" `--list` shows the paper's." if teachers or mixings else "")
        )
    return tuple(sentences)


def _described(method, cell):
    teacher = cell["teacher"].iloc[0]
    return f"{method} ({teacher})" if teacher else method


def _by_mixing(networks):
    """Returns the names of methods with that of their mixing, as Table 1 calls On-LDL."""
    return networks["configuration"] + "-" + networks["mixing"]


def _printed(paper, dataset, model, methods):
    """Returns `{metric: (value, standard deviation)}` as printed, of the first table that has it.

    The paper's Brier score is that of the predicted class.
    """
    cells = paper[(paper["dataset"] == dataset) & (paper["model"] == model) & paper["method"].isin(methods)]
    found = {}
    for row in cells.itertuples():
        found.setdefault("brier_top" if row.metric == "brier" else row.metric, (row.value, row.std))
    return found


def _as_printed(printed, metric):
    """Returns a published number in the units of these tables."""
    if metric not in printed:
        return "–"
    value, deviation = printed[metric]
    if metric in IN_FRACTIONS:
        return f"{100 * value:.1f}"
    if metric.startswith("accuracy"):
        return f"{value:.2f}" if np.isnan(deviation) else f"{value:.2f} ± {deviation:.2f}"
    return f"{value:.3f}"
