"""What the verdict stands on: each method against the baseline by each metric, and which method is the candidate.

Each metric is judged as trained and after the post-hoc correction that may repair it: NLL and ECE after temperature
scaling, each half of the images with the temperature of the other; AURC and AUROC, by maximum softmax probability, with
normalised logits. Baseline and methods are corrected alike, but for those that a correction makes worse, which nobody
would correct: they are taken as trained.
"""

from contextlib import suppress
from dataclasses import replace

from kls.calibration import TemperatureScaling
from kls.calibration.scaling.base import cross_scaled
from kls.ood.scores import normalize_logits
from kls.study.plan import PlanError
from kls.study.report.comparisons import BASELINE, heading_of, paired_outputs, shared_ood, split_metric
from kls.study.report.tables import place_of
from kls.study.statistics import METRICS, WORSE, compare, select
from kls.study.store import VALIDATION, has_outputs
from kls.study.verdict import AS_TRAINED, NORMALISED, TEMPERATURE, Line, Verdict
from kls.utils.arrays import check_choice, check_number, shown

CORRECTIONS = {
    AS_TRAINED: lambda logits, labels: logits,
    TEMPERATURE: lambda logits, labels: cross_scaled(TemperatureScaling(), logits, labels)[0],
    NORMALISED: lambda logits, labels: normalize_logits(logits),
}
OF_PREDICTIONS = {AS_TRAINED: ("accuracy", "nll", "ece", "aurc"), TEMPERATURE: ("nll", "ece"), NORMALISED: ("aurc",)}


def verdict_of(records, store, require=None, prefer="accuracy", level=0.95):
    """Returns the `Verdict` on the methods of one dataset and network, by their evaluation split.

    The candidate is chosen by the preferred metric, as `kls.study.statistics.select` chooses: its difference is that of
    images and seeds that did not choose it. The images that choose are those of the validation split, where another one
    is judged; of OOD detection, whose OOD images are of no split, they are halves. The intervals of all other metrics
    hold for all methods at once, whichever of them is chosen.

    Args:
        records: As in `compare_methods`.
        store: The `RunStore`.
        require: As in `Results.verdict`.
        prefer: As in `Results.verdict`.
        level: Confidence level.

    Raises:
        PlanError: As in `compare_methods`.
        ValueError: If another argument is not as `Results.verdict` says.
        StoreError: If stored outputs are damaged.
    """
    ood = shared_ood(records)
    of_ood = ["auroc"] * (len(ood) > 1) + [f"auroc_{name}" for name in ood]
    metrics = [*OF_PREDICTIONS[AS_TRAINED], *of_ood]
    if prefer == "auroc" and len(ood) == 1:
        (prefer,) = of_ood
    check_choice(prefer, "prefer", metrics)
    require = _checked_requirements(require, metrics)
    compared, outputs, uncorrected = _compare_all(records, store, of_ood, level)
    lines = {
        method: tuple(
            Line(*key, compared[key][method]) for key in sorted(compared, key=lambda key: metrics.index(key[0]))
        )
        for method in compared["accuracy", AS_TRAINED]
    }
    shortfalls = {method: lack for method, of in lines.items() if (lack := _shortfall(of, require))}
    validation = _on_validation(records, store, prefer, uncorrected)
    candidate, found, chosen = _choose(prefer, outputs[prefer], validation, lines, shortfalls, level)
    record = records[0]
    return Verdict(
        place_of(record),
        _question(records, candidate),
        candidate,
        found,
        f"{record['evaluation_images']:,} {record['evaluation']} images",
        prefer,
        chosen,
        shortfalls,
        {key: of for key, of in uncorrected.items() if key[0] in (BASELINE, candidate)},
    )


def verdicts_of(records, store):
    """Returns the `Verdict` of each dataset and network that has the baseline and another method, with a seed of both.

    Args:
        records: As in `compare_methods`, of any datasets and networks.
        store: The `RunStore`.
    """
    groups = {}
    for record in records:
        groups.setdefault(place_of(record), []).append(record)
    found = []
    for members in groups.values():
        with suppress(PlanError):
            found.append(verdict_of(members, store))
    return found


def show_verdicts(verdicts, store):
    """Prints `Verdict`s and writes them into `verdict.txt`; nothing if there are none."""
    if verdicts:
        store.show_text("verdict.txt", "\n\n".join(map(str, verdicts)))


def _compare_all(records, store, of_ood, level):
    """Returns what each metric comes to, as trained and after its correction.

    Returns:
        `{(metric, correction): comparisons}`; the last outputs of each metric, `{metric: {method: outputs}}`; and
        `{(method, correction): metrics}` that are not corrected, as `Verdict` has it.
    """
    compared, outputs, uncorrected = {}, {}, {}
    groups = [*OF_PREDICTIONS.items(), *((of, [metric]) for metric in of_ood for of in (AS_TRAINED, NORMALISED))]
    for correction, metrics in groups:
        corrected = _outputs(records, store, metrics[0], correction)
        for metric in metrics:
            name, _ = split_metric(metric)
            taken = dict(corrected)
            for method, trained in outputs.get(metric, {}).items():
                if compare(name, trained, {method: corrected[method]}, level)[method].word == WORSE:
                    uncorrected.setdefault((method, correction), []).append(metric)
                    taken[method] = trained
            outputs[metric] = taken
            compared[metric, correction] = compare(name, *_split(taken), level)
    return compared, outputs, uncorrected


def _outputs(records, store, metric, correction, split=None):
    """Returns what `paired_outputs` does after a correction, `{method: outputs}` with the baseline first."""
    baseline, methods = paired_outputs(records, store, metric, correct=CORRECTIONS[correction], split=split)
    return {BASELINE: baseline, **methods}


def _split(outputs):
    """Returns the baseline's outputs, and those of the methods."""
    return outputs[BASELINE], {method: of for method, of in outputs.items() if method != BASELINE}


def _on_validation(records, store, metric, uncorrected):
    """Returns the last outputs of a metric on validation images, `None` where there are none beside others."""
    if metric not in OF_PREDICTIONS[AS_TRAINED] or not all(_has_validation(record) for record in records):
        return None
    last = [correction for correction, metrics in OF_PREDICTIONS.items() if metric in metrics][-1]
    found = {correction: _outputs(records, store, metric, correction, VALIDATION) for correction in {AS_TRAINED, last}}
    return {
        method: found[AS_TRAINED][method] if metric in uncorrected.get((method, last), ()) else corrected
        for method, corrected in found[last].items()
    }


def _has_validation(record):
    return record["evaluation"] != VALIDATION and has_outputs(record, VALIDATION)


def _choose(prefer, outputs, validation, lines, shortfalls, level):
    """Returns the candidate, its lines, and how it was chosen."""
    if len(lines) == 1:
        return *lines, *lines.values(), ""
    eligible = [name for name in lines if name not in shortfalls] or list(lines)
    judged, choosing = (
        of and _split({name: of[name] for name in (BASELINE, *eligible)}) for of in (outputs, validation)
    )
    selection = select(split_metric(prefer)[0], *judged, choosing, level=level)
    found = lines[selection.method]
    how = f"Chosen of {len(lines)} methods by {heading_of(prefer)}"
    if len(eligible) < len(lines):
        how += " among those that are sure to do what is required; the intervals hold for all methods at once."
        return selection.method, found, how
    images = f"{validation[BASELINE].size:,} validation images" if validation else "images"
    how += f", on {images} that it is not judged on; the other intervals hold for all methods at once."
    last = [line for line in found if line.metric == prefer][-1]
    found = tuple(replace(line, comparison=selection.comparison) if line is last else line for line in found)
    return selection.method, found, how


def _checked_requirements(require, metrics):
    """Returns `{metric: least gain}`; raises `ValueError` unless these are numbers for metrics of the study."""
    if not isinstance(require or {}, dict):
        raise ValueError(f"`require` must be {{metric: least gain}}. Received: require={shown(require)}")
    known = dict.fromkeys([*metrics, *(split_metric(metric)[0] for metric in metrics)])
    for metric, least in (require or {}).items():
        check_choice(metric, "require", known)
        check_number(least, f"require[{metric!r}]", "(-inf, inf)")
    return require or {}


def _shortfall(lines, require):
    """Returns what a method lacks of what is required, in words; an empty text if nothing."""
    final = {line.metric: line for line in lines}
    found = []
    for metric, least in require.items():
        for line in final.values():
            if metric not in (line.metric, split_metric(line.metric)[0]):
                continue
            one, of = line.comparison, METRICS[line.comparison.metric]
            end, sign, bound = (one.low, 1, "least") if of.larger_is_better else (one.high, -1, "most")
            if sign * of.scale * end < least:
                required = of.shown(sign * least / of.scale, "+")
                found.append(
                    f"{line.name} may change by {of.shown(end, '+')} {of.unit}, where at {bound} {required} is required"
                )
    return "; ".join(found)


def _question(records, candidate):
    methods = {record["method"]: record for record in records}
    start, record = methods[BASELINE], methods[candidate]
    smooths = record["loss"] == start["loss"] and record["gamma"] < start["gamma"]
    return "Should you smooth the labels?" if smooths else f"Should you train with {candidate}?"
