"""Detection of OOD images by maximum softmax probability, as trained and with normalised logits."""

import pandas as pd

from kls.ood.metrics import METRICS as DETECTION
from kls.pages.curves import roc_curves
from kls.pages.page import File, Grid
from kls.study.judging import CORRECTIONS
from kls.study.outputs import score_of_logits
from kls.study.report.comparisons import NEEDED, SCORE, numbers_of, paired_outputs
from kls.study.report.differences import HEADER, difference_cells
from kls.study.report.tables import display_name, percent
from kls.study.statistics import compare
from kls.study.verdict import AS_TRAINED, NORMALISED

SHOWN_CORRECTIONS = {name: CORRECTIONS[name] for name in (AS_TRAINED, NORMALISED)}
SHOWN = ("auroc", "fpr95")


def detection_parts(group):
    """Returns the tables of AUROC and FPR at 95 % TPR per OOD dataset, and the ROC curves of the methods in detail."""
    if group.compared is None:
        return _means(group), _curves(group)
    return _means(group), _differences(group), _curves(group)


def _means(group):
    """Returns the means over networks, of each method."""
    rows, numbers = [], []
    for ood in group.ood:
        for correction, correct in SHOWN_CORRECTIONS.items():
            for method, seeds in group.by_method.items():
                found = [_values(group, record, ood, correct) for _, record in sorted(seeds.items())]
                of = {"ood": ood, "correction": correction, "method": method}
                numbers += [{**of, "seed": seed, **one} for seed, one in zip(sorted(seeds), found, strict=True)]
                frame = pd.DataFrame(found)
                means = (percent(frame[metric]) for metric in SHOWN)
                rows.append((display_name(ood), correction, method, str(len(found)), *means))
    return Grid(
        f"{group.evaluated} against the images of each OOD dataset, by maximum softmax probability. AUROC: the share "
        "of pairs in which the ID image scores higher; FPR at 95 % TPR: the share of OOD images that pass for ID at "
        "the threshold that keeps 95 % of the ID images. n: networks; ±: standard deviation over them.",
        ("OOD dataset", "logits", "method", "n", "AUROC %", "FPR %"),
        tuple(rows),
        File.of_frame(f"{group.prefix}detection", pd.DataFrame(numbers)),
    )


def _values(group, record, ood, correct):
    id_scores, ood_scores = _scores(group, record, correct), _scores(group, record, correct, ood)
    return {metric: DETECTION[metric](id_scores, ood_scores) for metric in SHOWN}


def _scores(group, record, correct, name=None):
    return score_of_logits(correct(*group.outputs(record, name)), SCORE)


def _differences(group):
    """Returns the differences from the baseline, with their confidence intervals."""
    rows, numbers = [], []
    for ood in group.ood:
        for correction, correct in SHOWN_CORRECTIONS.items():
            pair = paired_outputs(group.records, group.store, f"auroc_{ood}", group.baseline, correct)
            for metric in SHOWN:
                for method, one in compare(metric, *pair).items():
                    names = {"metric": f"{metric}_{ood}", "correction": correction, "method": method}
                    numbers.append({**names, **numbers_of(one)})
                    heading, *rest = difference_cells(numbers[-1])
                    rows.append((heading, correction, method, *rest))
    return Grid(
        f"Differences from {group.baseline}, which is corrected alike, over n paired seeds, with 95 % confidence "
        f"intervals for new seeds and new images. {NEEDED}",
        (HEADER[0], "logits", "method", *HEADER[1:]),
        tuple(rows),
        File.of_frame(f"{group.prefix}detection_differences", pd.DataFrame(numbers)),
    )


def _curves(group):
    networks = {
        f"{method}, {correction}": (
            _scores(group, group.first(method), correct),
            {display_name(ood): _scores(group, group.first(method), correct, ood) for ood in group.ood},
        )
        for method in group.detailed
        for correction, correct in SHOWN_CORRECTIONS.items()
    }
    counts = ", ".join(
        f"{len(group.outputs(group.first(group.detailed[0]), ood)[1]):,} of {display_name(ood)}" for ood in group.ood
    )
    caption = f"Networks of {group.first_seeds}; {group.evaluated} against images of OOD datasets: {counts}."
    return roc_curves(f"{group.prefix}roc", networks, caption)
