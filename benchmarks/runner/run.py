"""Runs a plan: each trial that is not finished, one after the other."""

import sys

import decathlon
from benchmarks.runner.estimate import epoch_work, steps_per_epoch
from benchmarks.runner.outputs import is_complete, open_unfamiliar
from benchmarks.runner.progress import Watch, format_seconds, open_report
from benchmarks.runner.train import evaluate_again, train

STOPPED = 130


def run(plan, store, data_dir, strategy="none", ood=(), keep_features=False):
    """Trains what is not finished, and keeps going when a trial fails.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        data_dir: The data room's directory.
        strategy: `"none"` or `"mirrored"`.
        ood: Names of prepared data sets that are unfamiliar to the networks; those of finished trials see them too.
        keep_features: Whether to store features beside logits.

    Returns:
        Exit code: 0, 1 if a trial failed, 130 if stopped from the keyboard.

    Raises:
        PlanError: If an unfamiliar data set cannot be used.
    """
    datasets = {trial.dataset: decathlon.open(trial.dataset, trial.image_size, data_dir) for trial in plan.trials}
    unfamiliar = open_unfamiliar(ood, datasets.values(), data_dir)
    waiting = [trial for trial in plan.trials if store.record(trial) is None]
    finished = len(plan.trials) - len(waiting)
    if finished:
        print(f"{finished} of {len(plan.trials)} trials are finished already in {store.out}.")
    failed = _evaluate_finished(plan, store, datasets, unfamiliar, strategy, keep_features)
    if finished:
        store.write_results()
    work = sum(epoch_work(trial, datasets[trial.dataset]) * trial.epochs for trial in waiting)
    with open_report(len(plan.trials), work, len(waiting)) as report:
        for number, trial in enumerate(waiting, start=finished + 1):
            dataset = datasets[trial.dataset]
            report.trial_begins(number, trial, epoch_work(trial, dataset))
            watch = Watch(report, trial, steps_per_epoch(trial, dataset))
            try:
                others = unfamiliar[trial.dataset]
                record = train(trial, dataset, store, strategy, others, keep_features, callbacks=[watch])
            except KeyboardInterrupt:
                report.print(
                    f"Stopped in trial {number} of {len(plan.trials)}. Finished epochs are kept: "
                    "run the same command again to go on."
                )
                return STOPPED
            except Exception as error:  # whatever ends a trial, the others go on
                failed += 1
                reason = f"{type(error).__name__}: {error}"
                store.fail(trial, reason)
                report.print(f"[{number}/{len(plan.trials)}] {trial.label}  FAILED  {reason.splitlines()[0][:300]}")
                continue
            store.finish(trial, plan.study, record)
            report.print(
                f"[{number}/{len(plan.trials)}] {trial.label}  done in {format_seconds(record['seconds'])}, "
                f"best {record['accuracy_best']:.2%}, last {record['accuracy_last']:.2%}"
            )
    if failed:
        print(
            f"{failed} of {len(plan.trials)} trials failed; run the same command again to retry them.", file=sys.stderr
        )
    return 1 if failed else 0


def _evaluate_finished(plan, store, datasets, unfamiliar, strategy, keep_features):
    """Evaluates finished trials on what is asked for now, and returns the number of those where that failed."""
    failed = 0
    for trial in plan.trials:
        record, others = store.record(trial), unfamiliar[trial.dataset]
        if record is None or is_complete(record, others, keep_features):
            continue
        print(f"{trial.label}  evaluating from its weights", flush=True)
        try:
            record = evaluate_again(trial, record, datasets[trial.dataset], store, strategy, others, keep_features)
        except Exception as error:  # whatever ends one, the others go on
            failed += 1
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            print(f"{trial.label}  FAILED  {reason}. To train it again, delete {store.directory(trial)}")
            continue
        store.finish(trial, plan.study, record)
    return failed
