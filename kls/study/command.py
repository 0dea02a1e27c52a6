"""What happens when a study's command is given: plan, run, report; errors as sentences and exit codes."""

import shlex
import signal
import sys
from contextlib import contextmanager

from tabulate import tabulate

from decathlon.store import DataError
from kls.study.estimate import RATE_STEPS, seconds_of, training_steps
from kls.study.networks import TrainingError
from kls.study.plan import PlanError
from kls.study.progress import format_seconds
from kls.study.report.caveats import caveats_of_plan
from kls.study.report.command import REPORT
from kls.study.run import STOPPED, check_parents
from kls.study.store import StoreError
from kls.utils.escaping import escape_markdown


def parse_command(parser, arguments=None):
    """Returns the parsed command line, with the command as text as its `command`.

    Args:
        parser: An `argparse.ArgumentParser`.
        arguments: The command line, or `None` for that of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(arguments)
    options.command = f"{parser.prog} {shlex.join(map(str, arguments))}"
    return options


def run_command(options, make_study, report):
    """Carries out a study's command.

    Args:
        options: What `parse_command` returned, with the options that all studies share.
        make_study: Function that returns the `Study`.
        report: Function of the `Study` and its `Results` that shows what is finished.

    Returns:
        Exit code: 0, 1 if a trial failed or is left out, 2 if the study cannot be run as asked or tables cannot be
        written, 130 if stopped.
    """
    try:
        with _termination_as_interrupt():
            study = make_study()
            if options.dry_run:
                check_parents(study.plan(), study.store, study.trainer.sources.datasets)
                print(describe(study))
                return 0
            with study.store.writing():
                code = study.execute(options.workers, options.strategy, options.command)
                _show(study, report)
    except (StoreError, TrainingError, DataError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return STOPPED
    return max(code, 2 if study.store.unwritten else 1 if study.store.left_out else 0)


def _show(study, report):
    """Says which trials failed, and reports those that are finished, if there are any."""
    results = study.results()
    for trial, reason in results.failures.items():
        print(f"failed: {trial.label}: {reason.splitlines()[0]}")
    if results.records:
        report(study, results)
        write_report(study, results)


def write_report(study, results):
    """Writes the report of what is finished into the directory of the results, and says where it is."""
    path = study.store.out / REPORT
    try:
        with study.store.going_on_if_unwritten():
            results.save_report(path)
            print(f"Report: {path}")
    except PlanError as error:
        print(f"No report: {error}")


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
        study: The `kls.Study`.
    """
    trials, datasets = study.plan().trials, study.trainer.sources.datasets
    steps = {trial: training_steps(trial, datasets[trial.dataset]) for trial in trials}
    seconds, of_features = seconds_of(study)
    lines = [
        (
            *(trial.id, trial.label, f"{steps[trial] * trial.batch_size:,}"),
            format_seconds(seconds[trial]) if trial in seconds else "finished",
        )
        for trial in trials
    ]
    header = ("trial", "recipe", "training images", "estimated time")
    lines = [tuple(map(escape_markdown, line)) for line in lines]
    return (
        tabulate(lines, header, "pipe", disable_numparse=True)
        + f"\n\nAbout {format_seconds(sum(seconds.values()))} of training in all, one trial after the other, from "
        f"{RATE_STEPS} timed steps of each kind of trial on this machine; building and evaluating come on top."
        + (f" The features of the images take about {format_seconds(of_features)} before." if of_features else "")
        + "".join(f"\n\n{caveat}" for caveat in caveats_of_plan(steps))
    )


def outline(study):
    """Returns a study's plan in two sentences, with the time that it would take, measured on this machine.

    Args:
        study: The `kls.Study`, whose trials differ in their methods and seeds alone.
    """
    trials = study.plan().last_phases
    methods = list(dict.fromkeys(trial.method.label for trial in trials))
    seeds = len({trial.seed for trial in trials})
    seconds, of_features = seconds_of(study)
    return (
        f"Plan: {len(methods)} methods ({', '.join(methods)}), {seeds} seed{'s' * (seeds > 1)} each: {len(trials)} "
        f"trainings of {trials[0].epochs} epochs. That takes about "
        f"{format_seconds(sum(seconds.values()) + of_features)} here."
    )
