"""The options of the command line that all studies share."""

from pathlib import Path

import decathlon.store
from decathlon.options import directory, positive
from kls.ood.scores import SCORES
from kls.study.precision import PRECISIONS
from kls.study.train import STRATEGIES


def add_study_options(parser, study, seeds=1, batch_size=64):
    """Adds the options that mean the same in every study.

    Args:
        parser: An `argparse.ArgumentParser`.
        study: Name of the study, for the default output directory.
        seeds: The default of that option.
        batch_size: The default of that option; `None` is 64, or all images where there are fewer.
    """
    add = parser.add_argument
    add(
        "--seeds",
        type=positive,
        default=seeds,
        metavar="N",
        help="train with the seeds 0 to N-1; one cannot tell one way to train from another (default: %(default)s)",
    )
    add("--image-size", type=positive, metavar="N", help="side of the images in pixels")
    usual = "%(default)s" if batch_size else "64, or all where there are fewer"
    add("--batch-size", type=positive, default=batch_size, metavar="N", help=f"images per step (default: {usual})")
    add(
        "--precision",
        choices=(*PRECISIONS, "auto"),
        default="float32",
        help="auto: mixed_bfloat16 where this machine has units for it (default: %(default)s)",
    )
    add(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="mirrored: share each batch among all devices of this machine",
    )
    add(
        "--workers",
        type=positive,
        default=1,
        metavar="N",
        help="train up to N networks side by side, each in a process with its share of the cores (of TensorFlow's "
        "threads; other backends share them out themselves); equal N end with equal bits (default: %(default)s)",
    )
    add(
        "--ood",
        nargs="+",
        default=(),
        metavar="NAME",
        help="prepared datasets that are OOD to the networks: their logits are stored, AUROC by MSP is shown",
    )
    add(
        "--scores",
        nargs="+",
        choices=SCORES,
        default=(),
        metavar="NAME",
        help="OOD scores to store, such as odin or knn; those of logits alone need not be; a wrong name lists all",
    )
    add("--features", action="store_true", help="store the last features beside the logits, for use of your own")
    out = Path("runs") / study
    add("--out", type=directory, default=out, metavar="DIR", help="results (default: %(default)s)")
    data_dir = decathlon.store.default_data_dir()
    add("--data-dir", type=directory, default=data_dir, metavar="DIR", help="prepared data (default: %(default)s)")
    add("--dry-run", action="store_true", help="show the plan, image counts and the estimated time, train nothing")
