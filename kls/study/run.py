"""Runs a plan: each trial that is not finished, one after the other or several side by side."""

import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial

from kls.study.data import Sources, check_data
from kls.study.estimate import epoch_work, steps_per_epoch, training_steps
from kls.study.executors import describe_error
from kls.study.executors.in_process import train_in_turn
from kls.study.executors.processes import train_side_by_side
from kls.study.features import Backbone, Features
from kls.study.outputs import Wanted, is_complete
from kls.study.plan import Plan, PlanError
from kls.study.progress import Watch, format_seconds, open_report
from kls.study.report.caveats import caveats, caveats_of_plan
from kls.study.store import VALIDATION, RunStore, StoreError
from kls.study.train import evaluate_again, quiet_tracing, train
from kls.study.train_heads import LOGGED, groups_of, train_heads, trains_together
from kls.study.training import Training

STOPPED = 130


@dataclass(frozen=True)
class Trainer:
    """Trains any trial of a plan.

    Attributes:
        plan: The `Plan`.
        store: The `RunStore`.
        sources: The opened datasets, as `Sources`.
        wanted: `{name of a dataset: Wanted}`, what to store.
        own_models: `{name: OwnModel}` of the networks that are the user's own.
        strategy: `"none"` or `"mirrored"`.
        compile_function: As in `train`.
        callbacks: Function of a trial that returns further Keras callbacks.
    """

    plan: Plan
    store: RunStore
    sources: Sources
    wanted: dict
    own_models: dict = field(default_factory=dict)
    strategy: str = "none"
    compile_function: object = None
    callbacks: object = None

    def groups(self, trials):
        """Returns trials as they are trained: heads that differ in their losses alone together, others one by one."""
        return groups_of(trials, {name: dataset.classes for name, dataset in self.sources.datasets.items()})

    def __call__(self, group, report):
        """Trains a group of trials, whose epochs and batches it tells a report, and returns what came of each.

        That is a record, or the error of one that failed beside others.
        """
        trial, *_ = group
        wanted = self.wanted_by(trial)
        together = trains_together(trial)
        names = [f"{name}0" for name in LOGGED] if together else ("loss", trial.method.accuracy)
        watch = Watch(report, trial, steps_per_epoch(trial, self.sources.datasets[trial.dataset]), names)
        own = [] if self.callbacks is None else self.callbacks(trial)
        with ExitStack() as stack:
            for member in group:
                stack.enter_context(self.store.claim(member))
            stack.enter_context(quiet_tracing())
            if together:
                return train_heads([self.training(member) for member in group], wanted, [watch, *own])
            return [train(self.training(trial), self.strategy, wanted, [watch, *own], self.compile_function)]

    def evaluate_again(self, trial, record):
        """Stores the outputs of a finished trial that are wanted now, and returns its record."""
        with self.store.claim(trial), quiet_tracing():
            record = evaluate_again(self.training(trial), record, self.wanted_by(trial))
            self.store.finish(trial, self.plan.study, record)

    def training(self, trial, kind=Training):
        """Returns the `Training` of a trial, or another of its kind."""
        seen = self._seen_by(trial)
        dataset, others = seen(self.sources.datasets[trial.dataset]), map(seen, self.sources.others_of(trial))
        plan = self.plan
        return kind(trial, dataset, self.store, self.own_models, plan.parents(trial), tuple(others), plan.head(trial))

    def wanted_by(self, trial):
        """Returns what to store of a trial."""
        wanted = self.wanted[trial.dataset]
        seen = self._seen_by(trial)
        return replace(wanted, ood={name: seen(other) for name, other in wanted.ood.items()})

    def _seen_by(self, trial):
        """Returns a function of a dataset to what a trial's network is given of it: images, or their features."""
        if not trial.of_features:
            return lambda dataset: dataset
        backbone = Backbone(trial, self.sources.datasets[trial.dataset], self.own_models[trial.model], self.store)
        return partial(Features, backbone=backbone)

    def missing_features(self, trials):
        """Returns the features that trials read and that are not kept yet: a list of `(Features, split)`."""
        found, of_features = [], [trial for trial in trials if trial.of_features]
        for trial in {trial.dataset: trial for trial in of_features}.values():
            dataset, wanted = self.sources.datasets[trial.dataset], self.wanted[trial.dataset]
            seen = self._seen_by(trial)
            alike = [other for other in of_features if other.dataset == trial.dataset]
            found += [(seen(dataset), split) for split in ("train", dataset.evaluation, *wanted.splits)]
            found += [(seen(other), other.evaluation) for other in wanted.ood.values()]
            found += [(seen(other), "train") for one in alike for other in self.sources.others_of(one)]
        by_path = {features.path(split): (features, split) for features, split in found}
        return [(features, split) for features, split in by_path.values() if not features.is_kept(split)]

    def compute_features(self, trials):
        """Computes the features that trials read and that are not kept yet, and says so."""
        for features, split in self.missing_features(trials):
            start = time.perf_counter()
            features.backbone.compute(features.source, split)
            took = format_seconds(time.perf_counter() - start)
            print(f"features of {features.name} {split}: {features.counts[split]:,} images in {took}", flush=True)


def wanted_of(sources, keep_features=False, scores=(), class_losses=False):
    """Returns `{name of a dataset: Wanted}` of a plan's datasets: what to store of the networks trained on each."""
    return {
        name: Wanted(ood, _splits_of(sources.datasets[name]), keep_features, tuple(scores), class_losses)
        for name, ood in sources.ood.items()
    }


def _splits_of(dataset):
    """Returns the names of the splits, beside the evaluation split, that a best method can be chosen on."""
    return () if dataset.evaluation == VALIDATION or VALIDATION not in dataset.counts else (VALIDATION,)


def check_parents(plan, store, datasets):
    """Raises `PlanError` if a trial cannot start from its parent: weights that are gone, other classes or images.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        datasets: `{name: dataset}`.
    """
    first_children = {}
    for trial in plan.trials:
        if not store.is_finished(trial):
            for parent in plan.starts_from(trial):
                _check_images(trial, parent, datasets)
                first_children.setdefault(parent, trial)
    for parent, trial in first_children.items():
        if store.is_finished(parent):
            try:
                store.weights(parent)
            except StoreError as error:
                raise PlanError(f"{trial.label} cannot start from {parent.label}: {error}") from None


def _check_images(trial, parent, datasets):
    for what in ("classes", "image_shape"):
        own, inherited = (getattr(datasets[name], what) for name in (trial.dataset, parent.dataset))
        if own != inherited:
            raise PlanError(
                f"{trial.label} cannot start from {parent.label}: its {what.replace('_', ' ')} would have to be "
                f"{own}. Received: {inherited}."
            )


def check_methods(plan, datasets):
    """Raises `PlanError` if a method cannot be trained as a trial has it.

    Args:
        plan: The `Plan`.
        datasets: `{name: dataset}`.
    """
    for trial in plan.trials:
        dataset = datasets[trial.dataset]
        if steps_per_epoch(trial, dataset) < 1:
            raise PlanError(
                f"`batch_size` must be at most {dataset.counts['train']}, the training images of {trial.dataset}. "
                f"Received: {trial.batch_size}."
            )
        try:
            trial.method.check(trial, dataset)
        except ValueError as error:
            raise PlanError(f"{trial.label}: {error}") from None


def run(trainer, workers=1):
    """Trains what is not finished, and keeps going when a trial fails.

    Args:
        trainer: The `Trainer` of the plan; finished trials see OOD data that are new, too.
        workers: How many trials to train side by side, in processes of their own; a single one stays in this process.

    Returns:
        Exit code: 0, 1 if a trial failed, 130 if stopped from the keyboard.

    Raises:
        PlanError: If a trial cannot start from its parent.
        DataError: If data that are about to be read have changed since they were prepared.
    """
    plan, store, datasets = trainer.plan, trainer.store, trainer.sources.datasets
    check_parents(plan, store, datasets)
    waiting = [trial for trial in plan.trials if not store.is_finished(trial)]
    finished = len(plan.trials) - len(waiting)
    if finished:
        print(f"{finished} of {len(plan.trials)} trials are finished already in {store.out}.")
        store.write_results()
    incomplete = _incomplete(trainer)
    check_data([*waiting, *incomplete], trainer.sources)
    trainer.compute_features([*waiting, *incomplete])
    failed = _evaluate_again(incomplete, trainer)
    steps = {trial: training_steps(trial, datasets[trial.dataset]) for trial in waiting}
    print("".join(f"{caveat}\n" for caveat in caveats_of_plan(steps)), end="")
    groups = trainer.groups(waiting)
    work = {
        trial: epoch_work(trial, datasets[trial.dataset]) if trial is group[0] else 0.0
        for group in groups
        for trial in group
    }
    with open_report(len(plan.trials), work, workers) as report:
        if workers > 1:
            trained = train_side_by_side(groups, trainer, report, workers)
        else:
            trained = train_in_turn(groups, trainer, report)
        try:
            with closing(trained):
                for trial, record, reason in trained:
                    reason = reason or _failure_to_finish(trial, plan.study, record, store)
                    if reason is not None:
                        failed += 1
                        with store.going_on_if_unwritten():
                            store.fail(trial, reason)
                    report.print(f"{report.name(trial)}  {_outcome(trial, record, reason)}")
                    report.trial_ends(trial)
        except KeyboardInterrupt:
            stopped = [str(report.numbers[trial]) for trial in report.under_way]
            report.print(
                f"Stopped in trial{'s' if len(stopped) > 1 else ''} {', '.join(stopped)} of {len(plan.trials)}. "
                "Finished epochs are kept: run the same command again to go on."
            )
            return STOPPED
    if failed:
        print(
            f"{failed} of {len(plan.trials)} trials failed; run the same command again to retry them.", file=sys.stderr
        )
    return 1 if failed else 0


def _outcome(trial, record, reason):
    """Returns what to say of a trial that has ended."""
    if reason is not None:
        return f"FAILED  {reason.splitlines()[0][:300]}"
    facts = {**trial.recipe, **record, "starts_anew": trial.starts_anew}
    return "; ".join(
        [
            f"done in {format_seconds(record['seconds'])}, best {record['accuracy_best']:.2%}, "
            f"last {record['accuracy_last']:.2%}",
            *caveats(facts),
        ]
    )


def _failure_to_finish(trial, study, record, store):
    """Writes the record of a trained trial, and returns why that failed, as on a full disk, or `None`."""
    try:
        store.finish(trial, study, record)
    except OSError as error:
        return describe_error(error)
    return None


def _incomplete(trainer):
    """Returns `{trial: record}` of the finished trials that lack something that is wanted; damaged ones are named."""
    trials, store = trainer.plan.trials, trainer.store
    records = {trial: record for trial in trials if (record := store.found(trial)) is not None}
    return {
        trial: record for trial, record in records.items() if not is_complete(record, trainer.wanted[trial.dataset])
    }


def _evaluate_again(incomplete, trainer):
    """Evaluates finished trials on what is asked for now, and returns the number of those where that failed."""
    failed = 0
    for trial, record in incomplete.items():
        print(f"{trial.label}  evaluating from its weights", flush=True)
        try:
            trainer.evaluate_again(trial, record)
        except StoreError as error:
            failed += 1
            print(f"{trial.label}  FAILED  {error}")
        except Exception as error:  # whatever ends one, the others go on
            failed += 1
            print(f"{trial.label}  FAILED  {describe_error(error).splitlines()[0][:300]}")
    return failed
