"""What happens when a study's command is given: plan, run, report; errors as sentences and exit codes."""

import signal
import sys
from contextlib import contextmanager

from tabulate import tabulate

import decathlon.store
from benchmarks.runner.caveats import caveats_of_plan
from benchmarks.runner.escaping import escape_markdown
from benchmarks.runner.estimate import RATE_STEPS, epoch_images, measure_rate, training_steps
from benchmarks.runner.networks import TrainingError
from benchmarks.runner.plan import PlanError
from benchmarks.runner.progress import format_seconds
from benchmarks.runner.run import STOPPED, check_parents, open_sources, run
from benchmarks.runner.store import RunStore, StoreError
from benchmarks.runner.train import check_strategy
from benchmarks.runner.workers import check_workers


def run_study(options, make_plan, report, class_losses=False):
    """Carries out a study's command.

    Args:
        options: The parsed command line, with the options of `benchmarks.options.add_common_options`.
        make_plan: Function of the options to `(Plan, ood)`, with the names of unfamiliar sets as `run.open_sources`
            takes them.
        report: Function of `(plan, store, ood)` that prints and writes the tables and figures of what is finished.
        class_losses: Whether the report needs the loss of each class after each epoch.

    Returns:
        Exit code: 0, 1 if a trial failed or is left out, 2 if the study cannot be run as asked or tables cannot be
        written, 130 if stopped.
    """
    store = RunStore(options.out)
    try:
        with _termination_as_interrupt():
            code = _run(options, make_plan, report, class_losses, store)
    except (PlanError, StoreError, TrainingError, decathlon.store.DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return STOPPED
    return max(code, 2 if store.unwritten else 1 if store.left_out else 0)


def _run(options, make_plan, report, class_losses, store):
    plan, ood = make_plan(options)
    check_strategy(options.strategy, options.batch_size)
    check_workers(options.workers, options.strategy)
    sources = open_sources(plan, options.data_dir, ood)
    if options.dry_run:
        check_parents(plan, store, sources.familiar)
        print(describe(plan, store, sources))
        return 0
    with store.writing():
        code = run(
            plan,
            store,
            sources,
            options.strategy,
            options.features,
            options.scores,
            class_losses,
            workers=options.workers,
        )
        report(plan, store, ood)
    return code


@contextmanager
def _termination_as_interrupt():
    """Lets SIGTERM end the block as Ctrl-C does."""

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def describe(plan, store, sources):
    """Returns the plan as a table with the time that it would take, measured on this machine.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.
        sources: The opened data sets, as `run.Sources`.
    """
    lines, total = [], 0.0
    rates = {}
    for trial in plan.trials:
        dataset = sources.familiar[trial.dataset]
        images = epoch_images(trial, dataset) * trial.epochs
        if store.is_finished(trial):
            lines.append((trial.id, trial.label, f"{images:,}", "finished"))
            continue
        parents = plan.parents(trial)
        kind = (
            *(trial.model, trial.loss, trial.batch_size, trial.precision, trial.outlier_batch_size),
            *(trial.distillation, trial.offline, trial.mixing, trial.dropout, trial.teacher_dropout),
            *(dataset.image_shape, dataset.classes, *(parent.model for parent in parents)),
        )
        if kind not in rates:
            outliers = sources.outliers.get(trial.id, ())
            rates[kind] = measure_rate(trial, dataset, parents, outliers, plan.soft_labels_of(trial))
        seconds = images / rates[kind]
        total += seconds
        lines.append((trial.id, trial.label, f"{images:,}", format_seconds(seconds)))
    steps = {trial: training_steps(trial, sources.familiar[trial.dataset]) for trial in plan.trials}
    header = ("trial", "recipe", "training images", "estimated time")
    lines = [tuple(map(escape_markdown, line)) for line in lines]
    return (
        tabulate(lines, header, "pipe", disable_numparse=True)
        + f"\n\nAbout {format_seconds(total)} of training in all, one trial after the other, from {RATE_STEPS} timed "
        "steps of each kind of trial on this machine; building and evaluating come on top."
        + "".join(f"\n\n{caveat}" for caveat in caveats_of_plan(steps))
    )


def finished_records(plan, store):
    """Returns the records of a plan's finished trials, and prints why others failed or are left out.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.

    Returns:
        List of records in the plan's order, and `{trial: reason}`.
    """
    records = store.believed(record for trial in plan.trials if (record := store.found(trial)) is not None)
    failures = {trial: reason for trial in plan.trials if (reason := store.failure(trial)) is not None}
    for trial, reason in failures.items():
        print(f"failed: {trial.label}: {reason.splitlines()[0]}")
    return records, failures
