"""The command `python -m kls`, and `kls`."""

import argparse
import os
import sys
import textwrap
from inspect import signature
from pathlib import Path

from decathlon.options import directory, positive, warnings_as_notes
from kls.commands import add_evaluate, add_guard
from kls.study.command import outline, parse_command, run_command
from kls.study.defaults import SEEDS
from kls.study.methods import LabelSmoothing
from kls.study.options import add_study_options
from kls.study.report.command import run_report
from kls.study.study import Study
from kls.study.trial import OPTIMIZERS
from kls.study.verdict import WIDTH


def main(arguments=None):
    """Runs a command and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = parse_command(_parser(), arguments)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for modules of the user's own, as `python -m` has it
    return options.run(options)


def study(options):
    """Runs `kls study`, whose options are called as the arguments of `Study` that they are."""

    def make_study():
        given = {name: value for name, value in vars(options).items() if name in signature(Study).parameters}
        gammas = [LabelSmoothing(gamma) for gamma in options.gamma or ()]
        given["methods"] = [*gammas, *options.methods] or None
        given["schedule"] = "cosine" if options.schedule == "cosine" else ()
        with warnings_as_notes():
            study = Study(**given)
        if options.model is None and not options.dry_run:
            print(textwrap.fill(outline(study), WIDTH), flush=True)
        return study

    return run_command(options, make_study, report)


def report(study, results):
    """Prints and writes the tables of what is finished."""
    study.store.show(*results.table())
    results.show_verdicts()
    if compared := results.comparison_table():
        study.store.show(*compared)
    print(f"\nTables: {study.store.out / 'tables'}; every trial: {study.store.out / 'results.csv'}")


def _parser():
    parser = argparse.ArgumentParser("kls", description="What does softening the labels do to a classifier?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "study", help="train a network by several methods and compare them", description=Study.__doc__.split("\n\n")[0]
    )
    command.set_defaults(run=study)
    add = command.add_argument
    add("data", metavar="DATA", help="name of a prepared dataset, or a folder of images")
    add(
        "--model",
        metavar="M",
        help="a registered name, keras.applications.NAME, keras_hub:PRESET, package.module:function or "
        "path/to/file.py:function; a wrong name lists all (default: EfficientNetV2B0 where Keras has its pretrained "
        "weights, else a small network)",
    )
    add(
        "--fine-tune",
        type=lambda text: int(text) if text.isdecimal() else text,
        metavar="WHAT",
        help="what to train of a network with pretrained weights: head (its last layer, on features computed once), "
        "all, or the number of topmost layers (default: head for keras.applications and keras_hub)",
    )
    add("--weights", metavar="FILE", help="weights of keras.applications.NAME or keras_hub:PRESET, to load no others")
    add(
        "--methods",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="NAME or NAME:PARAMETER=VALUE,..., as label_smoothing:gamma=0.9 or my.module:MyMethod:strength=2; a wrong "
        "name lists all (default: cross_entropy, and label smoothing with gamma 0.95, 0.9 and 0.8)",
    )
    smoothing = "label smoothing with these probabilities of the true class"
    add("--gamma", nargs="+", type=float, metavar="G", help=smoothing)
    add("--epochs", type=positive, metavar="N", help="epochs (default: 20; up to 100 where that is under 200 steps)")
    add("--optimizer", choices=OPTIMIZERS, default="adam", help="default: adam")
    add("--learning-rate", type=float, metavar="R", help="first one (default: 0.001; 0.0001 for a pretrained backbone)")
    add("--schedule", choices=("cosine", "constant"), default="cosine", help="of the rate; default: cosine")
    add("--weight-decay", type=float, metavar="W", help="that of PyTorch's SGD, in place of the model's")
    add("--shift", type=float, default=0.1, metavar="S", help="share of the side (default: %(default)s)")
    add("--flip", action=argparse.BooleanOptionalAction, help="mirror images (default: as catalogued)")
    add_study_options(command, "study", SEEDS, batch_size=None)
    _add_report(commands)
    add_evaluate(commands)
    add_guard(commands)
    return parser


def _add_report(commands):
    command = commands.add_parser("report", help="write the report of a run, without training")
    command.set_defaults(run=run_report)
    command.add_argument("directory", type=directory, metavar="RUN", help="what the study was given as --out")
    command.add_argument("--out", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    command.add_argument(
        "--data-dir", type=directory, metavar="DIR", help="prepared data, for the images (default: where they were)"
    )


if __name__ == "__main__":
    sys.exit(main())
