"""The paper's two accuracies beside the published ones, and other detectors of the same networks."""

import pandas as pd

from benchmarks.mnist_zero.plan import CROSS_ENTROPY, HELD_OUT, PROXY, TEST, VALIDATION
from kls.ood import Threshold, auroc, fpr_at_tpr
from kls.study.outputs import score_of
from kls.study.report.comparisons import comparison_table
from kls.study.report.tables import Table, cell_of, data_note, display_name, named_rows, percent, plain, reversed_note
from kls.study.store import read_outputs

SOFTMAX, ERROR, BOTH, AT_PAPERS_RATE = "msp", "denoising", "msp and denoising", "msp at tpr 0.9"
PAPERS_RATE = 0.9  # the paper's else accuracy
CRITERIA = {
    SOFTMAX: "softmax",
    BOTH: "softmax, error",
    AT_PAPERS_RATE: f"{PAPERS_RATE:.0%} pass",
}
DETECTORS = {
    SOFTMAX: "maximum softmax",
    "energy": "energy",
    "knn": "KNN",
    "mahalanobis": "Mahalanobis",
    ERROR: "denoising error",
    "reconstruction": "reconstruction error",
}
OF_LOGITS = (SOFTMAX, "energy")


def measured(records, store):
    """Returns a frame with a row per network and criterion by which images count as ID.

    Each of `DETECTORS` has the threshold of the largest detection accuracy on ID validation images and proxy OOD
    images. `BOTH`: OOD is what the maximum softmax refuses and whose denoising error is at least the least of the
    proxy OOD images' (sections 3.4 and 4.2). `AT_PAPERS_RATE`: the maximum
    softmax by the threshold that 90 % of the ID validation images pass.

    Args:
        records: Records of networks that `examine` has examined.
        store: The `RunStore`.

    Returns:
        Frame with the columns dataset, class (which is held out), method, seed, trial, accuracy (of ID test
        images), criterion, auroc, fpr_at_95_id (share of the held-out test images that pass where 95 % of the
        ID test images do), threshold, zero_accuracy (share of the held-out test images that are found) and
        else_accuracy (share of the ID test images that are taken for ID and classified rightly): all
        but the threshold as fractions, and NaN where there is none.
    """
    rows = []
    for record in records:
        sets = (VALIDATION, PROXY, TEST, HELD_OUT) if record["loss"] == "denoising" else (VALIDATION, TEST, HELD_OUT)
        outputs = {name: read_outputs(store.outputs_path(record["trial"], name)) for name in sets}
        right = outputs[TEST]["logits"].argmax(axis=1) == outputs[TEST]["labels"]
        dataset, held_out = base_and_class(record["dataset"])
        heading = {"dataset": dataset, "class": held_out, "method": record["method"], "seed": record["seed"]}
        heading |= {"trial": record["trial"], "accuracy": right.mean()}
        rows += [{**heading, "criterion": name, **found} for name, found in _criteria(outputs, right).items()]
    return pd.DataFrame(rows)


def base_and_class(name):
    """Returns the name of the dataset, and the index of the class, that `decathlon.hold_out` made another of."""
    dataset, _, index = name.rpartition("-without-")
    return dataset, index


def _criteria(outputs, right):
    """Returns the metrics of each criterion for one network, by its name."""
    found, scores, passed = {}, {}, {}
    for name in DETECTORS:
        if name not in (*OF_LOGITS, *outputs[TEST]):
            continue
        scores[name] = {of: score_of(arrays, name) for of, arrays in outputs.items()}
        sides = scores[name][TEST], scores[name][HELD_OUT]
        found[name] = {"auroc": auroc(*sides), "fpr_at_95_id": fpr_at_tpr(*sides)}
        if PROXY in outputs:
            threshold = Threshold(None).fit(scores[name][VALIDATION], scores[name][PROXY])
            passed[name] = _passed(threshold, scores[name])
            found[name] |= {"threshold": threshold.value, **_accuracies(passed[name], right)}
    if PROXY in outputs:
        least = Threshold(None).fit(scores[ERROR][VALIDATION], scores[ERROR][PROXY], tnr=1.0)
        by_error = _passed(least, scores[ERROR])
        both = {of: passed[SOFTMAX][of] | by_error[of] for of in by_error}
        found[BOTH] = {"threshold": found[SOFTMAX]["threshold"], **_accuracies(both, right)}
    threshold = Threshold(None).fit(scores[SOFTMAX][VALIDATION], tpr=PAPERS_RATE)
    at_rate = _passed(threshold, scores[SOFTMAX])
    found[AT_PAPERS_RATE] = found[SOFTMAX] | {"threshold": threshold.value, **_accuracies(at_rate, right)}
    return found


def _passed(threshold, scores):
    return {of: threshold.predict(scores[of]) for of in (TEST, HELD_OUT)}


def _accuracies(passed, right):
    return {"zero_accuracy": 1 - passed[HELD_OUT].mean(), "else_accuracy": (passed[TEST] & right).mean()}


def zero_table(networks, records, paper):
    """Returns the accuracies of the paper per held-out class and method, beside the published ones, and their frame.

    Args:
        networks: The frame that `measured` returns.
        records: Records of the networks.
        paper: The paper's numbers.
    """
    frame = networks[networks["criterion"].isin(CRITERIA)].dropna(subset="zero_accuracy")
    rows = []
    for (dataset, index, method), group in frame.groupby(["dataset", "class", "method"], sort=False):
        own_rows = _rows(method, group)
        printed = paper[(paper["dataset"] == f"{dataset}-without-{index}") & (paper["method"] == method)]
        if len(printed):
            own_rows.append(_as_printed(printed.set_index("metric")["value"]))
        rows += named_rows((display_name(dataset), f"without {index}", _n(group)), own_rows)
    for (dataset, method), group in frame.groupby(["dataset", "method"], sort=False):
        classes = group["class"].nunique()
        if classes > 1:
            rows += named_rows((display_name(dataset), f"mean of {classes}", _n(group)), _rows(method, group))
    table = Table(
        "zero",
        "Zero accuracy (share of the held-out test images that are found) and else accuracy (share of the ID "
        "test images that are taken for ID and classified rightly). Thresholds are chosen on validation images: "
        f"{CRITERIA[SOFTMAX]}, the maximum softmax that tells them best from proxy OOD images; {CRITERIA[BOTH]}, OOD "
        "only if the denoising error, too, is at least the least of the proxy OOD images; "
        f"{CRITERIA[AT_PAPERS_RATE]}, the maximum softmax that so many of the validation images pass. Accuracy: of ID "
        "test images, with no threshold. n: trained networks per row; the paper does not say its own.",
        ("network", "method", "accuracy %", "AUROC %", "criterion", "threshold", "zero %", "else %"),
        tuple(rows),
        notes=(*_notes(records), *reversed_note(frame["auroc"])),
    )
    return table, frame


def _n(group):
    return f"n = {group['trial'].nunique()}"


def _rows(method, group):
    """Returns a row per criterion; what holds for all of them stands in the first."""
    rows = []
    for criterion, cell in group.groupby("criterion", sort=False):
        first = (method, percent(cell["accuracy"]), cell_of(cell["auroc"]))
        metrics = (plain(cell["threshold"]), percent(cell["zero_accuracy"]), percent(cell["else_accuracy"]))
        rows.append((*([""] * len(first) if rows else first), CRITERIA[criterion], *metrics))
    return rows


def _as_printed(values):
    accuracy, *others = (f"{values[name]:g}" for name in ("accuracy", "threshold", "zero_accuracy", "else_accuracy"))
    return ("published", accuracy, "–", CRITERIA[BOTH], *others)


def _notes(records):
    """Returns what the networks were trained on, a sentence per dataset."""
    first = {record["dataset"]: record for record in records}
    return tuple(
        f"{name}: {record['epochs']} epochs, {data_note(record)}; {record['precision']}."
        for name, record in first.items()
    )


def detectors_table(networks):
    """Returns how well each score of the same networks tells the held-out images, and the numbers as a frame.

    Args:
        networks: The frame that `measured` returns.
    """
    rows = []
    frame = networks[networks["criterion"].isin(DETECTORS)]
    for (dataset, method), group in frame.groupby(["dataset", "method"], sort=False):
        for criterion, cell in group.groupby("criterion", sort=False):
            metrics = (cell_of(cell[name]) for name in ("auroc", "fpr_at_95_id", "zero_accuracy", "else_accuracy"))
            rows.append((display_name(dataset), method, DETECTORS[criterion], str(len(cell)), *metrics))
    table = Table(
        "detectors",
        "The same networks judged by other scores: AUROC and FPR95, the share of held-out images that pass where 95 % "
        "of the ID images do, on test images; zero and else accuracy at each score's own threshold, chosen as that of "
        "the maximum softmax. n: trained networks per row, over all held-out classes.",
        ("dataset", "method", "score", "n", "AUROC %", "FPR95 %", "zero %", "else %"),
        tuple(rows),
        reversed_note(frame["auroc"]),
    )
    return table, frame


def differences_table(records, store):
    """Returns how methods differ from cross-entropy on ID test and held-out images: a table and its numbers.

    Args:
        records: Records of networks that `examine` has examined.
        store: The `RunStore`.

    Returns:
        What `kls.study.report.comparisons.comparison_table` returns: `None` without cross-entropy and another method.
    """
    judged = [{**record, "evaluation": TEST, "ood": {HELD_OUT: ""}} for record in records]
    return comparison_table(pd.DataFrame(judged), store, CROSS_ENTROPY)
