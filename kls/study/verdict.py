"""The answer in plain words: should the labels be softened, with which strength, and at what cost?

It is made of what `kls.study.judging` finds of each metric after its post-hoc correction; what was worse without is
named beside it.
"""

import textwrap
from dataclasses import dataclass

import pandas as pd

from kls.study.report.comparisons import BASELINE, ONE_SEED, cells_of, heading_of, numbers_of
from kls.study.report.tables import Table
from kls.study.statistics import BETTER, METRICS, SAME, UNKNOWN, WORSE, Comparison
from kls.study.statistics.comparison import counts

YES, NO, DEPENDS = "Yes", "No", "It depends"
NO_DIFFERENCE, CANNOT_TELL = "It makes no difference", "Cannot tell"
AS_TRAINED, TEMPERATURE, NORMALISED = "as trained", "temperature scaling", "normalised logits"
AFTER = {TEMPERATURE: "after temperature scaling", NORMALISED: "with normalised logits"}
WIDTH, LEAST_HEADING = 80, 13  # columns


@dataclass(frozen=True)
class Line:
    """A metric of the candidate against the baseline.

    Attributes:
        metric: Its name, as in `Results.compare`.
        correction: `AS_TRAINED`, `TEMPERATURE` or `NORMALISED`.
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
        uncorrected: `{(method, correction): metrics}`, in which the correction makes the method, or the baseline, worse
            than it is as trained, which is what it is taken as then.
    """

    place: str
    question: str
    candidate: str
    lines: tuple[Line, ...]
    images: str
    prefer: str
    chosen: str
    shortfalls: dict
    uncorrected: dict

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
            of = numbers_of(line.comparison)
            heading, difference, word = cells_of(line.metric, of)
            unit = METRICS[line.comparison.metric].unit
            rows.append((heading, line.correction, str(of["n"]), f"{difference} {unit}", word))
            numbers.append({"method": self.candidate, "metric": line.metric, "correction": line.correction, **of})
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
            f"{method} is worse in {_listed([heading_of(metric) for metric in metrics])} {AFTER[correction]} than "
            f"{AS_TRAINED}, and taken {AS_TRAINED} there."
            for (method, correction), metrics in self.uncorrected.items()
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


def _listed(names):
    """Returns names as in a sentence; an empty text of none."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _enough(seeds, images):
    """Returns numbers of seeds and of images, either of which would do, in words."""
    return " or ".join(counts(seeds, images)) or "both more seeds and more images"


def _filled(text):
    return textwrap.fill(text, WIDTH)
