"""Runs a plan: each trial that is not finished, one after the other or several side by side."""

import sys
from contextlib import closing
from dataclasses import asdict, dataclass

import decathlon
from benchmarks.runner.awake import cores_awake
from benchmarks.runner.caveats import caveats, caveats_of_plan
from benchmarks.runner.data import open_outliers, open_unfamiliar
from benchmarks.runner.estimate import epoch_work, steps_per_epoch, training_steps
from benchmarks.runner.memory import keep_freed_memory
from benchmarks.runner.outputs import Wanted, is_complete
from benchmarks.runner.plan import Plan, PlanError
from benchmarks.runner.progress import Watch, format_seconds, open_report
from benchmarks.runner.store import RunStore, StoreError
from benchmarks.runner.train import evaluate_again, train
from benchmarks.runner.workers import describe_error, train_side_by_side
from decathlon.store import DataError

STOPPED = 130


@dataclass(frozen=True)
class Sources:
    """The opened data sets of a plan.

    Attributes:
        familiar: `{name: Dataset}` that trials are trained on.
        unfamiliar: `{familiar name: {name: Dataset}}` that their networks are held against.
        outliers: `{trial id: [Dataset]}` of the trials that are exposed to outliers.
    """

    familiar: dict
    unfamiliar: dict
    outliers: dict

    def of(self, trial):
        """Returns the data sets that a trial reads: a list."""
        return [
            self.familiar[trial.dataset],
            *self.unfamiliar[trial.dataset].values(),
            *self.outliers.get(trial.id, ()),
        ]


def open_sources(plan, data_dir, ood=()):
    """Opens all data sets of a plan.

    Args:
        plan: The `Plan`.
        data_dir: The data room's directory.
        ood: Names of prepared data sets that are unfamiliar to the networks, or `{familiar name: names}`.

    Returns:
        `Sources`.

    Raises:
        PlanError: If a data set cannot be used.
    """
    familiar = {trial.dataset: decathlon.open(trial.dataset, trial.image_size, data_dir) for trial in plan.trials}
    exposed = {(trial.dataset, trial.outliers) for trial in plan.trials if trial.outliers}
    opened = {(name, names): open_outliers(names, familiar[name], data_dir).values() for name, names in exposed}
    outliers = {trial.id: list(opened[trial.dataset, trial.outliers]) for trial in plan.trials if trial.outliers}
    return Sources(familiar, open_unfamiliar(ood, familiar.values(), data_dir), outliers)


def check_parents(plan, store, familiar):
    """Raises `PlanError` if a trial cannot start from its parent: weights that are gone, other classes or images.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        familiar: `{name: Dataset}`.
    """
    first_children = {}
    for trial in plan.trials:
        if not store.is_finished(trial):
            for parent in plan.parents(trial):
                _check_images(trial, parent, familiar)
                first_children.setdefault(parent, trial)
    for parent, trial in first_children.items():
        if store.is_finished(parent):
            try:
                store.weights(parent)
            except StoreError as error:
                raise PlanError(f"{trial.label} cannot start from {parent.label}: {error}") from None


def _check_images(trial, parent, familiar):
    for what in ("classes", "image_shape"):
        own, inherited = (getattr(familiar[name], what) for name in (trial.dataset, parent.dataset))
        if own != inherited:
            raise PlanError(
                f"{trial.label} cannot start from {parent.label}: its {what.replace('_', ' ')} would have to be "
                f"{own}. Received: {inherited}."
            )


def check_data(trials, sources):
    """Raises `DataError` if data that trials read have changed since they were prepared.

    Args:
        trials: `Trial`s.
        sources: The opened data sets, as `Sources`.
    """
    for dataset in {dataset.path: dataset for trial in trials for dataset in sources.of(trial)}.values():
        if changed := dataset.check():
            raise DataError(
                f"{dataset.path} is damaged: {', '.join(changed)} missing or changed since it was prepared. Delete it "
                "and prepare it anew."
            )


@dataclass(frozen=True)
class Trainer:
    """Trains any trial of a plan.

    Attributes:
        plan: The `Plan`.
        store: The `RunStore`.
        sources: The opened data sets, as `Sources`.
        strategy: `"none"` or `"mirrored"`.
        wanted: `{familiar name: Wanted}`, what to store.
    """

    plan: Plan
    store: RunStore
    sources: Sources
    strategy: str
    wanted: dict

    def __call__(self, trial, report):
        """Trains a trial, whose epochs and batches it tells a report, and returns its record."""
        dataset = self.sources.familiar[trial.dataset]
        with self.store.claim(trial):
            return train(
                trial,
                dataset,
                self.store,
                parents=self.plan.parents(trial),
                outliers=self.sources.outliers.get(trial.id, ()),
                soft_labels=self.plan.soft_labels_of(trial),
                strategy=self.strategy,
                wanted=self.wanted[trial.dataset],
                callbacks=[Watch(report, trial, steps_per_epoch(trial, dataset))],
            )


def run(plan, store, sources, strategy="none", keep_features=False, scores=(), class_losses=False, workers=1):
    """Trains what is not finished, and keeps going when a trial fails.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        sources: The opened data sets, as `Sources`; finished trials see unfamiliar ones that are new, too.
        strategy: `"none"` or `"mirrored"`.
        keep_features: Whether to store features beside logits.
        scores: Names of `kls.ood.scores` to store.
        class_losses: Whether to store the loss of each class after each epoch.
        workers: How many trials to train side by side, in processes of their own; a single one stays in this process.

    Returns:
        Exit code: 0, 1 if a trial failed, 130 if stopped from the keyboard.

    Raises:
        PlanError: If a trial cannot start from its parent.
        DataError: If data that are about to be read have changed since they were prepared.
    """
    datasets = sources.familiar
    check_parents(plan, store, datasets)
    wanted = {
        name: Wanted(others, keep_features, tuple(scores), class_losses) for name, others in sources.unfamiliar.items()
    }
    waiting = [trial for trial in plan.trials if not store.is_finished(trial)]
    finished = len(plan.trials) - len(waiting)
    if finished:
        print(f"{finished} of {len(plan.trials)} trials are finished already in {store.out}.")
        store.write_results()
    incomplete = _incomplete(plan, store, wanted)
    check_data([*waiting, *incomplete], sources)
    failed = _evaluate_again(incomplete, plan.study, store, datasets, wanted)
    steps = {trial: training_steps(trial, datasets[trial.dataset]) for trial in waiting}
    print("".join(f"{caveat}\n" for caveat in caveats_of_plan(steps)), end="")
    trainer = Trainer(plan, store, sources, strategy, wanted)
    work = {trial: epoch_work(trial, datasets[trial.dataset]) for trial in waiting}
    keep_freed_memory()
    with cores_awake(), open_report(len(plan.trials), work, workers) as report:
        if workers > 1:
            trained = train_side_by_side(waiting, trainer, report, workers)
        else:
            trained = _train_in_turn(waiting, trainer, report)
        try:
            with closing(trained):
                for trial, record, reason in trained:
                    reason = reason or _failure_to_finish(trial, plan.study, record, store)
                    if reason is None:
                        outcome = "; ".join(
                            [
                                f"done in {format_seconds(record['seconds'])}, "
                                f"best {record['accuracy_best']:.2%}, last {record['accuracy_last']:.2%}",
                                *caveats({**asdict(trial), **record}),
                            ]
                        )
                    else:
                        failed += 1
                        with store.going_on_if_unwritten():
                            store.fail(trial, reason)
                        outcome = f"FAILED  {reason.splitlines()[0][:300]}"
                    report.print(f"{report.name(trial)}  {outcome}")
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


def _train_in_turn(trials, train, report):
    """Trains trials in this process; takes and yields what `workers.train_side_by_side` does."""
    for trial in trials:
        report.trial_begins(trial)
        record = reason = None
        try:
            record = train(trial, report)
        except Exception as error:  # whatever ends a trial, the others go on
            reason = describe_error(error)
        yield trial, record, reason


def _failure_to_finish(trial, study, record, store):
    """Writes the record of a trained trial, and returns why that failed, as on a full disk, or `None`."""
    try:
        store.finish(trial, study, record)
    except OSError as error:
        return describe_error(error)
    return None


def _incomplete(plan, store, wanted):
    """Returns `{trial: record}` of the finished trials that have not stored all that is wanted; damaged ones are named.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        wanted: `{familiar name: Wanted}`.
    """
    records = {trial: record for trial in plan.trials if (record := store.found(trial)) is not None}
    return {trial: record for trial, record in records.items() if not is_complete(record, wanted[trial.dataset])}


def _evaluate_again(incomplete, study, store, datasets, wanted):
    """Evaluates finished trials on what is asked for now, and returns the number of those where that failed."""
    failed = 0
    for trial, record in incomplete.items():
        print(f"{trial.label}  evaluating from its weights", flush=True)
        try:
            with store.claim(trial):
                record = evaluate_again(trial, record, datasets[trial.dataset], store, wanted[trial.dataset])
                store.finish(trial, study, record)
        except StoreError as error:
            failed += 1
            print(f"{trial.label}  FAILED  {error}")
        except Exception as error:  # whatever ends one, the others go on
            failed += 1
            print(f"{trial.label}  FAILED  {describe_error(error).splitlines()[0][:300]}")
    return failed
