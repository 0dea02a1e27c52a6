"""The command `python -m benchmarks.ldl`; what it does is told in `benchmarks.ldl`."""

import argparse
import sys
from pathlib import Path

from benchmarks.ldl import STUDY
from benchmarks.ldl import __doc__ as about
from benchmarks.ldl.methods import GAMMA, HUMAN, METHODS
from benchmarks.options import add_common_options, model_name, name_of, parse


def main(arguments=None):
    """Runs the study and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = parse(_parser(), arguments)
    from benchmarks.ldl.plan import list_settings, make_plan
    from benchmarks.ldl.report import report
    from kls.study.command import run_paper

    if options.list:
        print(list_settings(options.data_dir))
        return 0
    return run_paper(
        options, make_plan, lambda plan, store, ood: report(plan, store, options.data_dir), class_losses=True
    )


def _parser():
    parser = argparse.ArgumentParser("python -m benchmarks.ldl", description=about.split("\n\n")[0])
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(METHODS)}, vanilla-MIXING, on-ldl-MIXING; each with + for the long schedule (default: the "
        "preset's)",
    )
    parser.add_argument("--students", nargs="+", type=model_name, metavar="MODEL", help="networks that learn")
    parser.add_argument(
        "--teacher",
        type=name_of("kls.models:names", known=(HUMAN,)),
        metavar="MODEL",
        help=f"network that one teacher is, or {HUMAN}: label distributions from --labels",
    )
    parser.add_argument(
        "--ensemble", nargs="+", type=model_name, metavar="MODEL", help="networks that several teachers are"
    )
    parser.add_argument(
        "--augment",
        metavar="MIXING",
        help="how images are mixed: mixup, cutmix, ricap, cutout, or a layer such as keras_cv.GridMask",
    )
    parser.add_argument(
        "--gamma", type=float, metavar="G", help=f"probability of the true class in ls (default: {GAMMA})"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help=f"for --teacher {HUMAN}: .npz with counts (N, K), how often people gave each training image each label",
    )
    add_common_options(parser, STUDY)
    return parser


if __name__ == "__main__":
    sys.exit(main())
