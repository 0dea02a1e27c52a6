"""The answer in plain words: should the labels be softened, with which strength, and at what cost?

Each metric is judged as trained and after the post-hoc correction that may repair it: NLL and ECE after temperature
scaling, each half of the images with the temperature of the other; AURC and AUROC, by maximum softmax probability, with
normalised logits. Baseline and method are corrected alike. The answer is made of the words after correction; what was
worse without is named beside it.
"""

import textwrap
from dataclasses import dataclass, replace

import pandas as pd

from kls.calibration import TemperatureScaling
from kls.calibration.scaling.base import cross_scaled
from kls.ood.scores import normalize_logits
from kls.study.report.comparisons import (
    BASELINE,
    ONE_SEED,
    cells_of,
    heading_of,
    numbers_of,
    paired_outputs,
    shared_ood,
    split_metric,
)
from kls.study.report.tables import Table
from kls.study.statistics import BETTER, METRICS, SAME, UNKNOWN, WORSE, Comparison, compare, select
from kls.study.statistics.comparison import counts
from kls.study.store import VALIDATION, has_outputs
from kls.utils.arrays import check_choice, check_number, shown

YES, NO, DEPENDS = "Yes", "No", "It depends"
NO_DIFFERENCE, CANNOT_TELL = "It makes no difference", "Cannot tell"
AS_TRAINED, TEMPERATURE, NORMALISED = "as trained", "temperature scaling", "normalised logits"
CORRECTIONS = {
    AS_TRAINED: lambda logits, labels: logits,
    TEMPERATURE: lambda logits, labels: cross_scaled(TemperatureScaling(), logits, labels)[0],
    NORMALISED: lambda logits, labels: normalize_logits(logits),
}
AFTER = {TEMPERATURE: "after temperature scaling", NORMALISED: "with normalised logits"}
OF_PREDICTIONS = {AS_TRAINED: ("accuracy", "nll", "ece", "aurc"), TEMPERATURE: ("nll", "ece"), NORMALISED: ("aurc",)}
WIDTH, LEAST_HEADING = 80, 13  # columns


@dataclass(frozen=True)
class Line:
    """A metric of the candidate against the baseline.

    Attributes:
        metric: Its name, as in `Results.compare`.
        correction: One of `CORRECTIONS`, of both.
        comparison: The `Comparison`.
    """

    metric: str
    correction: str
    comparison: Comparison

    @property
    def name(self):
        """What people call it, with its correction."""
        return " ".join([heading_of(self.metric), *([AFTER[self.correction]] if self.correction in AFTER else [])])

    @property
    def word(self):
        return self.comparison.word


@dataclass(frozen=True)
class Verdict:
    """Whether to train by another method than cross-entropy; `str` is the answer in plain words.

    Attributes:
        place: Names of the dataset and of the network.
        question: What was asked.
        candidate: Label of the best method that keeps what is required, by the metric that is preferred; of the best
            of all, where none keeps it.
        lines: The `Line`s of the candidate, a metric as trained before the same one after its correction.
        images: How many images it is judged on, and which.
        prefer: Name of the metric that is preferred.
        chosen: How the candidate was chosen, a sentence; empty if there was no choice.
        shortfalls: `{method: what it lacks of what is required}`, of those that lack something.
        harmful: `{correction: metrics}`, where the correction makes the baseline itself worse.
    """

    place: str
    question: str
    candidate: str
    lines: tuple[Line, ...]
    images: str
    prefer: str
    chosen: str
    shortfalls: dict
    harmful: dict

    @property
    def answer(self):
        """One of `YES`, `NO`, `DEPENDS`, `NO_DIFFERENCE`, `CANNOT_TELL`."""
        if self.candidate in self.shortfalls and not self._one_seed:
            return NO
        return answer_of(line.word for line in self._final.values())

    @property
    def method(self):
        """Label of the method to take; `None` if one cannot tell. If it depends, the metric preferred decides."""
        if self.answer == CANNOT_TELL:
            return None
        preferred = self._final[self.prefer].word == BETTER
        return self.candidate if self.answer == YES or (self.answer == DEPENDS and preferred) else BASELINE

    def table(self):
        """Returns a `Table` with a row per line, and its numbers as a frame."""
        rows, numbers = [], []
        for line in self.lines:
            heading, difference, word = cells_of(line.metric, line.comparison)
            unit, n = METRICS[line.comparison.metric].unit, line.comparison.uncertainty.n
            rows.append((heading, line.correction, str(n), f"{difference} {unit}", word))
            names = {"method": self.candidate, "metric": line.metric, "correction": line.correction}
            numbers.append({**names, **numbers_of(line.comparison)})
        header = ("metric", "correction", "n", "difference", "verdict")
        return Table("verdict", self.headline, header, tuple(rows)), pd.DataFrame(numbers)

    @property
    def subject(self):
        """What is held against what, and on what it is judged."""
        return f"{self.place}: {self.candidate} against {BASELINE}; {self._basis}"

    @property
    def notes(self):
        """What is to be known beside the lines: a list of sentences."""
        found = [f"{method} is not sure to do what is required: {lack}." for method, lack in self.shortfalls.items()]
        found += [
            f"{BASELINE} itself is worse in {_listed(list(map(heading_of, metrics)))} {AFTER[correction]}."
            for correction, metrics in self.harmful.items()
        ]
        return found + [sentence for sentence in (self.chosen, self._resolution()) if sentence]

    def __str__(self):
        subject = textwrap.fill(self.subject, WIDTH, initial_indent="  ", subsequent_indent="    ")
        return "\n".join([_filled(self.headline), subject, *self._aligned(), *map(_filled, self.notes)])

    @property
    def _final(self):
        """The line of each metric that counts: after its correction, where it has one."""
        return {line.metric: line for line in self.lines}

    @property
    def _pairs(self):
        """The line as trained and the one that counts, of each metric."""
        return [(line, self._final[line.metric]) for line in self.lines if line.correction == AS_TRAINED]

    @property
    def _one_seed(self):
        return self.lines[0].comparison.images_only

    @property
    def _basis(self):
        n = self.lines[0].comparison.uncertainty.n
        return f"{n} seed{'s' * (n > 1)} and {self.images}"

    @property
    def headline(self):
        """The question, the answer, and what it stands on."""
        found = {BETTER: [], WORSE: [], SAME: [], UNKNOWN: []}
        for first, last in self._pairs:
            if last.word != UNKNOWN or first.word not in (BETTER, WORSE):  # of which `_changed` tells
                found[last.word].append(heading_of(last.metric) if first.word == last.word else last.name)
        better, worse = _listed(found[BETTER]), _listed(found[WORSE])
        answer, candidate = self.answer, self.candidate
        if answer == CANNOT_TELL:
            return " ".join([self.question, f"{answer}.", *self._changed(), self._wanted()])
        if candidate in self.shortfalls:
            said = [f"{answer}: no method is sure to do what is required."]
            said += [f"{candidate} is {word} in {_listed(found[word])}." for word in (BETTER, WORSE) if found[word]]
        elif answer == NO_DIFFERENCE:
            said = [f"{answer}: {candidate} is {SAME} in all metrics after correction."]
        elif answer == DEPENDS:
            said = [f"{answer}: {candidate} is {BETTER} in {better}, but {WORSE} in {worse}."]
            decides = self._final[self.prefer].word in (BETTER, WORSE)
            advice = f"take {self.method}" if decides else f"one cannot decide: stay with {self.method}"
            said.append(f"By {heading_of(self.prefer)}, {advice}.")
        elif answer == YES:
            said = [f"{answer}: {candidate} is {BETTER} in {better}, and {WORSE} in nothing after correction."]
        else:
            said = [f"{answer}: {candidate} is {WORSE} in {worse}, and {BETTER} in nothing after correction."]
        unknown = [f"Cannot tell: {_listed(found[UNKNOWN])}."] if found[UNKNOWN] else []
        return " ".join([self.question, *said, *self._changed(), *unknown])

    def _changed(self):
        """Yields sentences on what is better or worse as trained, and no more so after correction."""
        groups = {}
        for first, last in self._pairs:
            if first.word in (BETTER, WORSE) and last.word != first.word:
                key = first.word, AFTER[last.correction], last.word
                groups.setdefault(key, []).append(heading_of(first.metric))
        for (word, after, now), names in groups.items():
            yield f"As trained {self.candidate} is {word} in {_listed(names)}; {after}: {now}."

    def _wanted(self):
        """Returns what it would take to tell: for the metric preferred, if one cannot tell by it."""
        if self._one_seed:
            return "One seed does not tell one way to train from another."
        line = next(line for line in (self._final[self.prefer], *self._final.values()) if line.word == UNKNOWN)
        needed = line.comparison.seeds_needed, line.comparison.images_needed
        return f"To tell by {line.name} it takes {_enough(*needed)}."

    def _aligned(self):
        """Yields the lines as text in columns; a heading that is too long takes several."""
        rows = []
        for line in self.lines:
            one, of = line.comparison, METRICS[line.comparison.metric]
            difference, low, high = (of.shown(value, "+") for value in (one.difference, one.low, one.high))
            heading = heading_of(line.metric) if line.correction == AS_TRAINED else f"  {line.correction}"
            rows.append((heading, difference, f"[{low}, {high}]", of.unit, line.word))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        width = max(min(widths[0], WIDTH - 8 - sum(widths[1:])), LEAST_HEADING)
        for heading, difference, interval, unit, word in rows:
            *first, last = textwrap.wrap(heading, width)
            yield from (f"  {part}" for part in first)
            numbers = f"{difference:>{widths[1]}} {interval:<{widths[2]}} {unit:<{widths[3]}}"
            yield f"  {last:<{width}}  {numbers}  {word}"

    def _resolution(self):
        """Returns which difference in accuracy could not have been seen, and what it takes to see one that matters."""
        one = self._final["accuracy"].comparison
        half, margin = 100 * (one.high - one.difference), 100 * one.margin
        unseen = f"An accuracy difference under {half:.2f} points could not have been seen with {self._basis}"
        if self._one_seed:
            return f"{ONE_SEED[0]} {unseen}. Train 3 seeds at least."
        if half <= margin or self.answer == CANNOT_TELL:  # where the headline says what it takes
            return f"{unseen}."
        needed = (
            count(one.margin, one.single) for count in (one.uncertainty.seeds_needed, one.uncertainty.images_needed)
        )
        return f"{unseen}; for one of {margin:g} points it takes {_enough(*needed)}."


def answer_of(words):
    """Returns the answer that the words of all metrics give.

    Args:
        words: The `Comparison.word` of each.
    """
    found = set(words)
    if {BETTER, WORSE} <= found:
        return DEPENDS
    if found & {BETTER, WORSE}:
        return YES if BETTER in found else NO
    return NO_DIFFERENCE if found == {SAME} else CANNOT_TELL


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
    compared, outputs, harmful = _compare_all(records, store, of_ood, level)
    lines = {
        method: tuple(
            Line(*key, compared[key][method]) for key in sorted(compared, key=lambda key: metrics.index(key[0]))
        )
        for method in compared["accuracy", AS_TRAINED]
    }
    shortfalls = {method: lack for method, of in lines.items() if (lack := _shortfall(of, require))}
    validation = _validation(records, store, prefer)
    candidate, found, chosen = _choose(prefer, *outputs[prefer], validation, lines, shortfalls, level)
    record = records[0]
    return Verdict(
        f"{record['dataset']}, {record['model']}",
        _question(records, candidate),
        candidate,
        found,
        f"{record['evaluation_images']:,} {record['evaluation']} images",
        prefer,
        chosen,
        shortfalls,
        harmful,
    )


def _compare_all(records, store, of_ood, level):
    """Returns `{(metric, correction): comparisons}`, the last outputs of each metric, and which corrections harm."""
    compared, outputs, harmful = {}, {}, {}
    groups = [*OF_PREDICTIONS.items(), *((of, [metric]) for metric in of_ood for of in (AS_TRAINED, NORMALISED))]
    for correction, metrics in groups:
        pair = paired_outputs(records, store, metrics[0], correct=CORRECTIONS[correction])
        for metric in metrics:
            name, _ = split_metric(metric)
            compared[metric, correction] = compare(name, *pair, level)
            if metric in outputs and compare(name, outputs[metric][0], {"": pair[0]}, level)[""].word == WORSE:
                harmful.setdefault(correction, []).append(metric)
            outputs[metric] = pair
    return compared, outputs, harmful


def _validation(records, store, metric):
    """Returns what `paired_outputs` does of a metric after correction on validation images, `None` without these."""
    if metric not in OF_PREDICTIONS[AS_TRAINED] or not all(_has_validation(record) for record in records):
        return None
    correction = [name for name, metrics in OF_PREDICTIONS.items() if metric in metrics][-1]
    return paired_outputs(records, store, metric, correct=CORRECTIONS[correction], split=VALIDATION)


def _has_validation(record):
    return record["evaluation"] != VALIDATION and has_outputs(record, VALIDATION)


def _choose(prefer, baseline, methods, validation, lines, shortfalls, level):
    """Returns the candidate, its lines, and how it was chosen."""
    if len(methods) == 1:
        return *lines, *lines.values(), ""
    eligible = [name for name in methods if name not in shortfalls] or list(methods)
    judged = {name: methods[name] for name in eligible}
    choosing = validation and (validation[0], {name: validation[1][name] for name in eligible})
    selection = select(split_metric(prefer)[0], baseline, judged, choosing, level=level)
    found = lines[selection.method]
    how = f"Chosen of {len(methods)} methods by {heading_of(prefer)}"
    if len(eligible) < len(methods):
        how += " among those that are sure to do what is required; the intervals hold for all methods at once."
        return selection.method, found, how
    images = f"{validation[0].size:,} validation images" if validation else "images"
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


def _listed(names):
    """Returns names as in a sentence; an empty text of none."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _enough(seeds, images):
    """Returns numbers of seeds and of images, either of which would do, in words."""
    return " or ".join(counts(seeds, images)) or "both more seeds and more images"


def _filled(text):
    return textwrap.fill(text, WIDTH)
