"""The finished trials of one dataset and network: what the parts of a report ask of them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from kls.study.judging import verdict_of
from kls.study.methods import CrossEntropy
from kls.study.plan import PlanError
from kls.study.report.comparisons import BASELINE, comparison_table, shared_ood
from kls.study.report.tables import place_of
from kls.study.store import read_logits

DETAILED = 2  # methods that are shown in detail


@dataclass(frozen=True, eq=False)
class Group:
    """The finished trials of one dataset and network.

    Attributes:
        records: Their records, a method after the other.
        store: The `RunStore`.
        prefix: What the names of its files begin with.
        dataset: The opened dataset that they are of, `None` if it cannot be had.
        reason: Why not, a sentence.
    """

    records: list
    store: object
    prefix: str = ""
    dataset: object = None
    reason: str = ""

    @property
    def place(self):
        """Names of the dataset and of the network."""
        return place_of(self.records[0])

    @cached_property
    def by_method(self):
        """`{label: {seed: record}}`."""
        found = {}
        for record in self.records:
            found.setdefault(record["method"], {})[record["seed"]] = record
        return found

    @cached_property
    def baseline(self):
        """Label of cross-entropy, `None` where it is not among the methods."""
        if BASELINE in self.by_method:
            return BASELINE
        plain = CrossEntropy().recipe
        return next((record["method"] for record in self.records if _untitled(record) == plain), None)

    @cached_property
    def verdict(self):
        """The `Verdict`, `None` where there can be none."""
        try:
            return verdict_of(self.records, self.store)
        except PlanError:
            return None

    @cached_property
    def no_verdict(self):
        """Why there is no verdict, a sentence."""
        if len(self.by_method) == 1:
            return f"There is no verdict: {next(iter(self.by_method))} is the only method with finished trials."
        if self.baseline is None:
            return "There is no verdict: cross-entropy, to which methods are compared, is not among those finished."
        if self.baseline != BASELINE:
            return f"There is no verdict in words, which needs a method called {BASELINE}; see the differences below."
        return "There is no verdict: the methods share no seed."

    @cached_property
    def compared(self):
        """The `Table` of differences from the baseline and its frame, `None` without a baseline or another method."""
        return self.baseline and comparison_table(pd.DataFrame(self.records), self.store, self.baseline)

    @cached_property
    def detailed(self):
        """Labels of the methods that are shown in detail: the baseline and the method that the verdict is about."""
        if self.verdict is not None:
            return [self.baseline, self.verdict.candidate]
        rest = [method for method in self.by_method if method != self.baseline]
        return [*([self.baseline] if self.baseline else []), *rest][:DETAILED]

    @cached_property
    def chosen(self):
        """The record of the network to take: of the method that the verdict names, else of the first in detail."""
        method = (self.verdict and self.verdict.method) or self.detailed[0]
        seeds = self.by_method[method]
        return seeds[min(seeds)]

    @cached_property
    def seeds(self):
        """Seeds that all methods in detail have; those of the first where they share none."""
        shared = set.intersection(*(set(self.by_method[method]) for method in self.detailed))
        return sorted(shared or self.by_method[self.detailed[0]])

    @cached_property
    def ood(self):
        """Names of the OOD datasets that all networks have seen."""
        return shared_ood(self.records)

    @property
    def evaluated(self):
        """How many images the networks are judged on, and which."""
        record = self.records[0]
        return f"{record['evaluation_images']:,} {record['evaluation']} images"

    @cached_property
    def class_names(self):
        """Names of the classes, their indices where the dataset cannot be had."""
        if self.dataset is None:
            return [str(index) for index in range(self.records[0]["classes"])]
        return list(self.dataset.class_names)

    def first(self, method):
        """Returns the record of a method's network of the first of `seeds`, or of its own first."""
        seeds = self.by_method[method]
        return seeds[self.seeds[0] if self.seeds[0] in seeds else min(seeds)]

    @property
    def first_seeds(self):
        """Of which seed, or seeds, the `first` networks in detail are, in words."""
        seeds = [str(seed) for seed in dict.fromkeys(self.first(method)["seed"] for method in self.detailed)]
        return f"seed{'s' * (len(seeds) > 1)} {' and '.join(seeds)}"

    def outputs(self, record, name=None):
        """Returns `(logits, labels)` of an OOD dataset, by default of the evaluation split."""
        return read_logits(self.store.outputs_path(record["trial"], name or record["evaluation"]))

    def guesses(self):
        """Returns the labels of the evaluation split, and `{method: classes predicted by each network}` in detail."""
        found, labels = {}, None
        for method in self.detailed:
            outputs = [self.outputs(record) for _, record in sorted(self.by_method[method].items())]
            found[method] = np.stack([logits.argmax(axis=1) for logits, _ in outputs])
            labels = outputs[0][1]
        return labels, found


def _untitled(record):
    """Returns what a record's method is, without what people call it."""
    return {name: value for name, value in record["recipe"]["method"].items() if name != "title"}
