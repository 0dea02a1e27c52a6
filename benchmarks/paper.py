"""What the commands of all papers share: their options, and what happens when one is given."""

import argparse
from dataclasses import fields, replace

from decathlon.options import positive
from kls.models import names
from kls.study.command import parse_command, run_command
from kls.study.options import add_study_options
from kls.study.study import Study


def paper_parser(study, about, one_model=False):
    """Returns an `argparse.ArgumentParser` with the options that mean the same in every paper's study.

    Args:
        study: Name of the study, and of its package.
        about: The package's docstring; its first two paragraphs say what the study is.
        one_model: Whether the study trains one model alone, so that none can be named.
    """
    description = " ".join(about.split("\n\n")[:2])
    parser = argparse.ArgumentParser(f"python -m benchmarks.{study}", description=description)
    add = parser.add_argument
    add("--list", action="store_true", help="show what the study covers")
    add("--datasets", nargs="+", metavar="NAME", help="prepared datasets (default: the preset's)")
    add(
        "--preset",
        choices=("quick", "paper"),
        default="quick",
        help="quick: bundled data, minutes; paper: the paper's protocol",
    )
    add("--epochs", type=positive, metavar="N", help="epochs; the learning rate's milestones scale along")
    if not one_model:
        add("--model", choices=names(), metavar="NAME", help="one model for all datasets; a wrong name lists all")
    add_study_options(parser, study)
    return parser


def run_paper(parser, arguments, list_rows, make_plan, report, class_losses=False):
    """Carries out the command of a paper's study.

    Args:
        parser: The `paper_parser`, with the study's own options.
        arguments: The command line, or `None` for that of this process.
        list_rows: Function of the data directory that returns what the study covers, as a text.
        make_plan: Function of the options to the `Plan` and its opened datasets, as `Sources`.
        report: Function of the `Study` and its `Results` that prints and writes the tables and figures.
        class_losses: Whether the report needs the loss of each class after each epoch.

    Returns:
        Exit code, as of `run_command`.
    """
    options = parse_command(parser, arguments)
    if options.list:
        print(list_rows(options.data_dir))
        return 0

    def make_study():
        plan, sources = make_plan(options)
        return Study.of(plan, sources, options.out, options.features, options.scores, class_losses)

    def show(study, results):
        report(study, results)
        out = study.store.out
        print(f"\nTables and figures: {out / 'tables'}, {out / 'figures'}; every trial: {out / 'results.csv'}")

    return run_command(options, make_study, show)


def changed(row, options):
    """Returns a row of a preset with what the command line says of it.

    Args:
        row: A frozen dataclass.
        options: `{name: value}`; those that are called as fields of the row, and given, take their place.
    """
    given = {field.name: options[field.name] for field in fields(row) if options.get(field.name)}
    return replace(row, **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
