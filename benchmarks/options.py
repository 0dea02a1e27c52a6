"""The command line that all studies share.

Keras takes seconds to import. Nothing here needs it until arguments are parsed, but for names that `kls` knows.
"""

import argparse
from importlib import import_module
from pathlib import Path

import decathlon.store
from decathlon.options import directory, positive
from decathlon.quiet import import_keras

PRECISIONS = ("float32", "mixed_bfloat16")
STRATEGIES = ("none", "mirrored")


def name_of(*places, known=()):
    """Returns a function that parses one of the names that modules hold, which it looks up when it is called.

    An option's `choices` are read for its help; this is its `type`.

    Args:
        *places: Where the names are: `module:attribute`, of a collection or of a function that returns one.
        known: Names that need no looking up.
    """

    def parse_name(text):
        if text in known:
            return text
        import_keras()
        names = [*known]
        for place in places:
            module, attribute = place.split(":")
            found = getattr(import_module(module), attribute)
            names += found() if callable(found) else found
        if text not in names:
            listed = ", ".join(map(repr, dict.fromkeys(names)))
            raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {listed})")
        return text

    return parse_name


model_name = name_of("kls.models:names")
score_name = name_of("kls.ood.scores:SCORES", known=("msp",))


def parse(parser, arguments):
    """Parses a command line and then imports Keras, which `--help` and wrong arguments do not wait for."""
    options = parser.parse_args(arguments)
    import_keras()
    return options


def add_common_options(parser, study, one_model=False):
    """Adds the options that mean the same in every study.

    Args:
        parser: An `argparse.ArgumentParser`.
        study: Name of the study, for the default output directory.
        one_model: Whether the study trains one model alone, so that none can be named.
    """
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="prepared data sets (default: the preset's)")
    parser.add_argument(
        "--preset",
        choices=("quick", "paper"),
        default="quick",
        help="quick: bundled data, minutes; paper: the paper's protocol",
    )
    parser.add_argument(
        "--epochs", type=positive, metavar="N", help="epochs; the learning rate's milestones scale along"
    )
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="train with the seeds 0 to N-1")
    if not one_model:
        parser.add_argument(
            "--model", type=model_name, metavar="NAME", help="one model for all data sets; a wrong name lists all"
        )
    parser.add_argument("--image-size", type=positive, metavar="N", help="prepared side in pixels")
    parser.add_argument(
        "--batch-size", type=positive, default=64, metavar="N", help="images per step (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=(*PRECISIONS, "auto"),
        default="float32",
        help="auto: mixed_bfloat16 where this machine has units for it (default: %(default)s)",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="mirrored: share each batch among all devices of this machine",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="train up to N networks side by side, each in a process with its share of the cores (of TensorFlow's "
        "threads; other backends share them out themselves). The same N, the same bits (default: %(default)s)",
    )
    parser.add_argument(
        "--ood",
        nargs="+",
        default=(),
        metavar="NAME",
        help="prepared data sets that are OOD to the networks: their logits are stored, AUROC by MSP is shown",
    )
    parser.add_argument(
        "--scores",
        nargs="+",
        type=score_name,
        default=(),
        metavar="NAME",
        help="scores of these data to store, such as odin or knn; those of logits alone need not be; a wrong name "
        "lists all",
    )
    parser.add_argument(
        "--features", action="store_true", help="store the last features beside the logits, for use of your own"
    )
    parser.add_argument(
        "--out", type=directory, default=Path("runs") / study, metavar="DIR", help="results (default: %(default)s)"
    )
    parser.add_argument(
        "--data-dir",
        type=directory,
        default=decathlon.store.default_data_dir(),
        metavar="DIR",
        help="prepared data (default: %(default)s)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan, image counts and the estimated time, train nothing"
    )
    parser.add_argument("--list", action="store_true", help="show what the study covers")
