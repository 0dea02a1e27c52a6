"""What a study has found: tables of its finished trials, their logits and their networks."""

from functools import cached_property

import pandas as pd

from kls.pages.page import page_path
from kls.study.devices import precision_policy
from kls.study.judging import show_verdicts, verdict_of, verdicts_of
from kls.study.manifest import read_manifest
from kls.study.methods import Method
from kls.study.networks import on_pixels, whole_network
from kls.study.plan import PlanError
from kls.study.report.calibration import calibration_table
from kls.study.report.comparisons import BASELINE, compare_methods, comparison_table
from kls.study.report.page import study_page
from kls.study.store import VALIDATION, frame_of, has_outputs


class Results:
    """The finished trials of a study.

    Args:
        trainer: The `Trainer` of the study.

    Attributes:
        records: The records of the finished trials, in the order of the plan: a list of dictionaries. Damaged ones are
            left out, and named, and so are heads that networks were fine-tuned from, unless they were asked for.
        failures: `{trial: reason}` of those that failed.
    """

    def __init__(self, trainer):
        trials, store = trainer.plan.trials, trainer.store
        shown = trainer.plan.last_phases
        labels = {trial.id: trial.method.label for trial in shown}
        finished = map(store.found, shown)
        records = store.believed(record for record in finished if record is not None)
        self._trainer = trainer
        self.records = [{**record, "method": labels[record["trial"]]} for record in records]
        self.failures = {trial: reason for trial in trials if (reason := store.failure(trial)) is not None}

    def __repr__(self):
        counts = f"{len(self.records)} of {len(self._trainer.plan.last_phases)} trials finished"
        failed = "".join(f"\nfailed: {trial.label}: {why.splitlines()[0]}" for trial, why in self.failures.items())
        return f"{counts}{failed}" + (f"\n\n{self.table()[0].markdown()}" if self.records else "")

    def to_frame(self):
        """Returns a `pandas.DataFrame` with a row per finished trial, and the columns of `results.csv`."""
        return frame_of(self.records)

    def table(self):
        """Returns accuracy, calibration and OOD detection per method: a `Table` and its numbers as a frame."""
        compared = self.comparison_table()
        return calibration_table(pd.DataFrame(self.records), by="method", compared=compared and compared[1])

    def compare(self, metric, baseline=BASELINE, method=None, level=0.95, margin=None):
        """Returns how methods differ from a baseline, seeds paired, with confidence intervals for new seeds and images.

        Args:
            metric: `"accuracy"`, `"nll"`, `"brier"`, `"ece"`, `"classwise"` or `"aurc"` on the evaluation split; by
                maximum softmax probability `"auroc"` and `"fpr95"`, means over all OOD datasets, or `"auroc_NAME"` of
                one.
            baseline: A `Method` of the study, or its label.
            method: Another; all others by default.
            level: Confidence level.
            margin: A difference that is too little to matter, as a fraction or in nats; the metric's own by default.

        Returns:
            A `kls.study.statistics.Comparison`, or `{label: Comparison}` of all other methods.

        Raises:
            PlanError: If there are no such finished trials.
            ValueError: If another argument is not as above.
        """
        records = self._asked_records
        wanted = {_label(baseline), _label(method)}
        if method is not None:
            records = [record for record in records if record["method"] in wanted]
        found = compare_methods(records, self._trainer.store, metric, _label(baseline), level, margin)
        return found if method is None else found[_label(method)]

    def comparison_table(self):
        """Returns how methods differ from cross-entropy: a `Table` and its numbers as a frame, `None` without both."""
        return self._comparison_table

    @cached_property
    def _comparison_table(self):
        return comparison_table(pd.DataFrame(self.records), self._trainer.store)

    def verdict(self, require=None, prefer="accuracy", level=0.95):
        """Returns the answer in plain words: is another method better than cross-entropy, which, and at what cost?

        Args:
            require: `{metric: least gain}`, in points or nats. `{"accuracy": -0.3}`: a method is recommended only if it
                is sure to lose no more than 0.3 points, by the end of its confidence interval. The metrics are
                `"accuracy"`, `"nll"`, `"ece"`, `"aurc"`, `"auroc_NAME"`, and `"auroc"` for all of these; each after its
                post-hoc correction.
            prefer: Name of one of these, by which the best of several methods is chosen, and that decides where some
                metrics are better and others worse.
            level: Confidence level.

        Returns:
            A `kls.study.verdict.Verdict`: `print` it, or take its `method` and `table()`.

        Raises:
            PlanError: If cross-entropy or another method is missing, if they share no seed, or if the study is of
                several datasets or networks.
            ValueError: If another argument is not as above.
        """
        places = {(record["dataset"], record["model"]) for record in self._asked_records}
        if len(places) > 1:
            raise PlanError(
                "`verdict` must be of one dataset and network: take `verdicts()`. Received: "
                + "; ".join(map(", ".join, sorted(places)))
            )
        return verdict_of(self._asked_records, self._trainer.store, require, prefer, level)

    def verdicts(self):
        """Returns the `Verdict` of each dataset and network that has cross-entropy and another method."""
        return verdicts_of(self._asked_records, self._trainer.store)

    def show_verdicts(self):
        """Prints the `verdicts()` and writes them into `verdict.txt`; nothing if there are none."""
        show_verdicts(self.verdicts(), self._trainer.store)

    def save_report(self, path):
        """Writes the report: the verdict first, then what it stands on, as one HTML file that needs nothing else.

        The numbers behind its tables and figures, and a model card, are written into a folder beside it, which is
        called as the page, without `.html`.

        Args:
            path: Path of the page, which ends in `.html`.

        Raises:
            PlanError: If no trial that was asked for is finished.
            ValueError: If `path` is no such path.
            StoreError: If stored outputs, or `study.json`, are damaged.
            OSError: If a file cannot be written.
        """
        page_path(path)
        if not self._asked_records:
            raise PlanError("There is nothing to report: no trial that was asked for is finished.")
        datasets, manifest = self._trainer.sources.datasets, read_manifest(self._trainer.store.out)
        is_this_one = manifest is not None and manifest.asked.keys() == {trial.id for trial in self._asked}
        study_page(
            self._asked_records,
            self._trainer.store,
            lambda record: (datasets[record["dataset"]], ""),
            manifest.command if is_this_one else None,
            len(self._asked) - len(self._asked_records),
        ).write(path)

    def logits(self, method, seed=0, split=None):
        """Returns `(logits, labels)` of a split, or of an OOD dataset.

        Args:
            method: A `Method` of the study, or its label.
            seed: The seed.
            split: Name of the split or OOD dataset; the evaluation split by default.

        Raises:
            PlanError: If there is no such finished trial.
        """
        trial, record = self._found(method, seed)
        names = [record["evaluation"], *record["ood"]]
        names += [VALIDATION] * (VALIDATION not in names and has_outputs(record, VALIDATION))
        if split not in (None, *names):
            raise PlanError(f"`split` must be one of {', '.join(names)}. Received: {split!r}")
        return self._trainer.store.logits(trial, split or record["evaluation"])

    def model(self, method, seed=0):
        """Returns a trained network, which takes samples as the study's data have them: pixels in 0..255.

        Args:
            method: A `Method` of the study, or its label.
            seed: The seed.

        Returns:
            A Keras model. A registered network returns logits, one of the user's own what its function returns, with
            its backbone and its new head, if it was fine-tuned, logits; one with a Monte Carlo dropout logarithms of
            probabilities.

        Raises:
            PlanError: If there is no such finished trial.
            StoreError: If its weights are not those that it ended with.
        """
        trial, _ = self._found(method, seed)
        own, dataset = self._trainer.own_models.get(trial.model), self._trainer.sources.datasets[trial.dataset]
        with precision_policy(trial.precision):
            network = whole_network(trial, dataset, self._trainer.store, own)
            if own is None or trial.fine_tune is not None or trial.method.dropout:
                return network
            model = on_pixels(own(dataset.image_shape, dataset.classes), trial, dataset)
            model.set_weights(network.get_weights())
        return model

    @property
    def _asked(self):
        """The trials that were asked for, without those that they start from alone."""
        plan = self._trainer.plan
        return [trial for trial in plan.trials if plan.asked is None or trial.id in plan.asked]

    @property
    def _asked_records(self):
        asked = {trial.id for trial in self._asked}
        return [record for record in self.records if record["trial"] in asked]

    def _found(self, method, seed):
        label = _label(method)
        records = {record["trial"]: record for record in self.records}
        for trial in self._asked:
            if trial.method.label == label and trial.seed == seed and trial.id in records:
                return trial, records[trial.id]
        labels = ", ".join(repr(label) for label in dict.fromkeys(trial.method.label for trial in self._asked))
        raise PlanError(
            f"`method` and `seed` must be those of a finished trial; the methods are {labels}. "
            f"Received: method={label!r}, seed={seed!r}"
        )


def _label(method):
    return method.label if isinstance(method, Method) else method
