"""The command `python -m benchmarks.ood`; what it does is told in `benchmarks.ood`."""

import argparse
import sys

from benchmarks.ood import SCORES, STUDY
from benchmarks.ood import __doc__ as about
from benchmarks.options import add_common_options, model_name, parse, positive


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = parse(_parser(), arguments)
    from benchmarks.ood.plan import list_rows, make_plan
    from benchmarks.ood.report import report
    from kls.study.command import run_paper

    if options.list:
        print(list_rows(options.data_dir))
        return 0
    return run_paper(options, make_plan, lambda plan, store, ood: report(plan, store, ood, options.scores))


def _parser():
    parser = argparse.ArgumentParser(
        "python -m benchmarks.ood", description=about.split("\n\n")[0] + " Repeats Lee & Cheon 2020."
    )
    softness = parser.add_mutually_exclusive_group()
    softness.add_argument(
        "--alpha",
        nargs="*",
        type=float,
        metavar="A",
        help="uniform smoothing, run beside alpha = 0 (default: the preset's)",
    )
    softness.add_argument(
        "--gamma",
        nargs="+",
        type=float,
        metavar="G",
        help="the same as probabilities of the true class, 1 - alpha (K-1)/K",
    )
    parser.add_argument(
        "--outliers",
        nargs="+",
        type=lambda text: tuple(dict.fromkeys(text.split("+"))),
        metavar="NAME[+NAME]",
        help="prepared data sets to expose a network to, each alone or several together; the first is that of Tables "
        "1 and 2",
    )
    parser.add_argument(
        "--other-student",
        type=model_name,
        metavar="MODEL",
        help="second network to learn from the exposed one",
    )
    parser.add_argument(
        "--tuning-epochs",
        type=positive,
        metavar="N",
        help="epochs of fine-tuning with outliers (default: the preset's, whatever --epochs)",
    )
    add_common_options(parser, STUDY)
    parser.set_defaults(batch_size=128, scores=SCORES)
    return parser


if __name__ == "__main__":
    sys.exit(main())
