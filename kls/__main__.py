"""The command `python -m kls`, and `kls`."""

import argparse
import os
import sys
from pathlib import Path

import decathlon.store
from decathlon.options import directory, positive
from kls.study.command import print_failures, run_command
from kls.study.methods import LabelSmoothing
from kls.study.precision import PRECISIONS
from kls.study.study import Study
from kls.study.train import STRATEGIES
from kls.study.trial import OPTIMIZERS


def main(arguments=None):
    """Runs a command and returns its exit code: 0, 1 if a trial failed, 2 if it cannot be run, 130 if stopped."""
    options = _parser().parse_args(arguments)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # for modules of the user's own, as `python -m` has it
    return options.run(options)


def study(options):
    """Runs `kls study`."""

    def make_study():
        gammas = [LabelSmoothing(gamma) for gamma in options.gamma or ()]
        made = Study(
            options.model,
            options.data,
            methods=[*gammas, *options.methods] or None,
            seeds=options.seeds,
            epochs=options.epochs,
            batch_size=options.batch_size,
            optimizer=options.optimizer,
            learning_rate=options.learning_rate,
            schedule="cosine" if options.schedule == "cosine" else (),
            weight_decay=options.weight_decay,
            shift=options.shift,
            flip=options.flip,
            ood=options.ood,
            out=options.out,
            precision=options.precision,
            scores=options.scores,
            features=options.features,
            image_size=options.image_size,
            data_dir=options.data_dir,
        )
        return made, lambda: report(made)

    return run_command(options, make_study)


def report(study):
    """Prints and writes the table of what is finished."""
    results = study.results()
    print_failures(results.failures)
    if results.records:
        study.store.show(*results.table())
        print(f"Table: {study.store.out / 'tables'}; every trial: {study.store.out / 'results.csv'}")


def _parser():
    parser = argparse.ArgumentParser("kls", description="What does softening the labels do to a classifier?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser(
        "study", help="train a network by several methods and compare them", description=Study.__doc__.split("\n\n")[0]
    )
    add.set_defaults(run=study)
    add.add_argument("data", metavar="DATA", help="name of a prepared dataset, or a folder of images")
    add.add_argument(
        "--model",
        required=True,
        metavar="M",
        help="a registered name, package.module:function or path/to/file.py:function; a wrong name lists all",
    )
    add.add_argument(
        "--methods",
        nargs="+",
        default=[],
        metavar="METHOD",
        help="NAME or NAME:PARAMETER=VALUE,..., as label_smoothing:gamma=0.9 or my.module:MyMethod:strength=2; a wrong "
        "name lists all (default: cross_entropy label_smoothing)",
    )
    add.add_argument(
        "--gamma", nargs="+", type=float, metavar="G", help="label smoothing with these probabilities of the true class"
    )
    add.add_argument("--seeds", type=positive, default=1, metavar="N", help="train with the seeds 0 to N-1")
    add.add_argument("--epochs", type=positive, default=20, metavar="N", help="epochs (default: %(default)s)")
    add.add_argument(
        "--batch-size", type=positive, default=64, metavar="N", help="images per step (default: %(default)s)"
    )
    add.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default: adam")
    add.add_argument("--learning-rate", type=float, default=1e-3, metavar="R", help="first one (default: %(default)s)")
    add.add_argument(
        "--schedule", choices=("cosine", "constant"), default="cosine", help="of the rate; default: cosine"
    )
    add.add_argument("--weight-decay", type=float, metavar="W", help="that of PyTorch's SGD, in place of the model's")
    add.add_argument("--shift", type=float, default=0.1, metavar="S", help="share of the side (default: %(default)s)")
    add.add_argument("--flip", action=argparse.BooleanOptionalAction, help="mirror images (default: as catalogued)")
    add.add_argument("--image-size", type=positive, metavar="N", help="side in pixels")
    add.add_argument("--ood", nargs="+", default=(), metavar="NAME", help="prepared datasets that are OOD")
    add.add_argument("--scores", nargs="+", default=(), metavar="NAME", help="OOD scores to store, such as odin or knn")
    add.add_argument("--features", action="store_true", help="store the last features beside the logits")
    add.add_argument(
        "--precision",
        choices=(*PRECISIONS, "auto"),
        default="float32",
        help="auto: mixed_bfloat16 where this machine has units for it (default: %(default)s)",
    )
    add.add_argument("--strategy", choices=STRATEGIES, default="none", help="mirrored: share batches among all devices")
    add.add_argument("--workers", type=positive, default=1, metavar="N", help="networks to train side by side")
    add.add_argument("--out", type=directory, default=Path("runs/study"), metavar="DIR", help="default: %(default)s")
    add.add_argument(
        "--data-dir",
        type=directory,
        default=decathlon.store.default_data_dir(),
        metavar="DIR",
        help="default: %(default)s",
    )
    add.add_argument("--dry-run", action="store_true", help="show the plan and the estimated time, train nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
