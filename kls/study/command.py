"""What happens when a study's command is given: plan, run, report; errors as sentences and exit codes."""

import signal
import sys
from contextlib import contextmanager

from tabulate import tabulate

from decathlon.store import DataError
from kls.study.data import open_sources
from kls.study.estimate import RATE_STEPS, Rehearsal, epoch_images, measure_rate, training_steps
from kls.study.networks import TrainingError
from kls.study.progress import format_seconds
from kls.study.report.caveats import caveats_of_plan
from kls.study.report.escaping import escape_markdown
from kls.study.results import finished
from kls.study.run import STOPPED, check_parents
from kls.study.store import StoreError
from kls.study.study import Study


def run_paper(options, make_plan, report, class_losses=False):
    """Carries out the command of a paper's study.

    Args:
        options: The parsed command line, with the options that all studies share.
        make_plan: Function of the options to `(Plan, ood)`, the names of OOD datasets as `open_sources` takes them.
        report: Function of `(plan, store, ood)` that prints and writes the tables and figures of what is finished.
        class_losses: Whether the report needs the loss of each class after each epoch.

    Returns:
        Exit code, as of `run_command`.
    """

    def make_study():
        plan, ood = make_plan(options)
        sources = open_sources(plan, options.data_dir, ood)
        study = Study.of(plan, sources, options.out, options.features, options.scores, class_losses)
        return study, lambda: report(plan, study.store, ood)

    return run_command(options, make_study)


def run_command(options, make_study):
    """Carries out a study's command.

    Args:
        options: The parsed command line, with the options that all studies share.
        make_study: Function that returns the `Study` and a function that reports what is finished.

    Returns:
        Exit code: 0, 1 if a trial failed or is left out, 2 if the study cannot be run as asked or tables cannot be
        written, 130 if stopped.
    """
    try:
        with _termination_as_interrupt():
            study, report = make_study()
            if options.dry_run:
                check_parents(study.plan(), study.store, study.trainer.sources.datasets)
                print(describe(study))
                return 0
            with study.store.writing():
                code = study.execute(options.workers, options.strategy)
                report()
    except (StoreError, TrainingError, DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return STOPPED
    return max(code, 2 if study.store.unwritten else 1 if study.store.left_out else 0)


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


def describe(study):
    """Returns a study's plan as a table with the time that it would take, measured on this machine.

    Args:
        study: The `Study`.
    """
    plan, trainer = study.plan(), study.trainer
    lines, total = [], 0.0
    rates = {}
    for trial in plan.trials:
        images = epoch_images(trial, trainer.sources.datasets[trial.dataset]) * trial.epochs
        if study.store.is_finished(trial):
            lines.append((trial.id, trial.label, f"{images:,}", "finished"))
            continue
        kind = _kind(trial, plan.parents(trial))
        if kind not in rates:
            rates[kind] = measure_rate(trainer.training(trial, Rehearsal), trainer.compile_function)
        seconds = images / rates[kind]
        total += seconds
        lines.append((trial.id, trial.label, f"{images:,}", format_seconds(seconds)))
    steps = {trial: training_steps(trial, trainer.sources.datasets[trial.dataset]) for trial in plan.trials}
    header = ("trial", "recipe", "training images", "estimated time")
    lines = [tuple(map(escape_markdown, line)) for line in lines]
    return (
        tabulate(lines, header, "pipe", disable_numparse=True)
        + f"\n\nAbout {format_seconds(total)} of training in all, one trial after the other, from {RATE_STEPS} timed "
        "steps of each kind of trial on this machine; building and evaluating come on top."
        + "".join(f"\n\n{caveat}" for caveat in caveats_of_plan(steps))
    )


def _kind(trial, parents):
    """Returns what trials have in common whose steps take equally long."""
    method = trial.method
    return (
        *(trial.dataset, trial.model, trial.batch_size, trial.precision, *(parent.model for parent in parents)),
        *(type(method), method.cost(trial), method.mixing, method.dropout, method.offline),
    )


def finished_records(plan, store):
    """Returns the records of a plan's finished trials, and prints why others failed or are left out.

    Args:
        plan: The `Plan`.
        store: The `RunStore`.

    Returns:
        List of records in the plan's order, and `{trial: reason}`.
    """
    records, failures = finished(plan, store)
    print_failures(failures)
    return records, failures


def print_failures(failures):
    """Prints `{trial: reason}`, a line each."""
    for trial, reason in failures.items():
        print(f"failed: {trial.label}: {reason.splitlines()[0]}")
