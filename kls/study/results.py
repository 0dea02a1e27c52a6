"""What a study has found: tables of its finished trials, their logits and their networks."""

import pandas as pd

from kls.study.devices import precision_policy
from kls.study.methods import Method
from kls.study.networks import on_pixels, trained_network
from kls.study.plan import PlanError
from kls.study.report.calibration import calibration_table
from kls.study.store import frame_of


def finished(plan, store):
    """Returns the records of a plan's finished trials, and why others failed.

    Args:
        plan: The `Plan`.
        store: The `RunStore`; what is damaged is left out, and named.

    Returns:
        List of records in the plan's order, with the labels that the plan has, and `{trial: reason}`.
    """
    labels = {trial.id: trial.method.label for trial in plan.trials}
    records = store.believed(record for trial in plan.trials if (record := store.found(trial)) is not None)
    failures = {trial: reason for trial in plan.trials if (reason := store.failure(trial)) is not None}
    return [{**record, "method": labels[record["trial"]]} for record in records], failures


class Results:
    """The finished trials of a study.

    Args:
        trainer: The `Trainer` of the study.

    Attributes:
        records: The records of the finished trials, in the order of the plan: a list of dictionaries.
        failures: `{trial: reason}` of those that failed.
    """

    def __init__(self, trainer):
        plan, store = trainer.plan, trainer.store
        self._trainer = trainer
        self.records, self.failures = finished(plan, store)

    def __repr__(self):
        counts = f"{len(self.records)} of {len(self._trainer.plan.trials)} trials finished"
        failed = "".join(f"\nfailed: {trial.label}: {why.splitlines()[0]}" for trial, why in self.failures.items())
        return f"{counts}{failed}" + (f"\n\n{self.table()[0].markdown()}" if self.records else "")

    def to_frame(self):
        """Returns a `pandas.DataFrame` with a row per finished trial, and the columns of `results.csv`."""
        return frame_of(self.records)

    def table(self):
        """Returns accuracy, calibration and OOD detection per method: a `Table` and its numbers as a frame."""
        return calibration_table(pd.DataFrame(self.records), by="method")

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
        names = (record["evaluation"], *record["ood"])
        if split not in (None, *names):
            raise PlanError(f"`split` must be one of {', '.join(names)}. Received: {split!r}")
        return self._trainer.store.logits(trial, split or record["evaluation"])

    def model(self, method, seed=0):
        """Returns a trained network, which takes samples as the study's data have them: pixels in 0..255.

        Args:
            method: A `Method` of the study, or its label.
            seed: The seed.

        Returns:
            A Keras model. A registered network returns logits, one of the user's own what its function returns; one
            with a Monte Carlo dropout logarithms of probabilities.

        Raises:
            PlanError: If there is no such finished trial.
            StoreError: If its weights are not those that it ended with.
        """
        trial, _ = self._found(method, seed)
        own, dataset = self._trainer.own_models.get(trial.model), self._trainer.sources.datasets[trial.dataset]
        with precision_policy(trial.precision):
            network, _ = trained_network(trial, dataset, self._trainer.store, own)
            if own is None or trial.method.dropout:
                return network
            model = on_pixels(own(dataset.image_shape, dataset.classes), trial, dataset)
            model.set_weights(network.get_weights())
        return model

    def _found(self, method, seed):
        label = method.label if isinstance(method, Method) else method
        records = {record["trial"]: record for record in self.records}
        plan = self._trainer.plan
        trials = [trial for trial in plan.trials if plan.asked is None or trial.id in plan.asked]
        for trial in trials:
            if trial.method.label == label and trial.seed == seed and trial.id in records:
                return trial, records[trial.id]
        labels = ", ".join(repr(label) for label in dict.fromkeys(trial.method.label for trial in trials))
        raise PlanError(
            f"`method` and `seed` must be those of a finished trial; the methods are {labels}. "
            f"Received: method={label!r}, seed={seed!r}"
        )
