"""The trials of the study: per class that is held out, the ways of training that are compared."""

import argparse
import re
from dataclasses import dataclass, replace

from tabulate import tabulate

import decathlon
from benchmarks.mnist_zero import STUDY
from benchmarks.paper import changed
from kls.study.data import Sources, is_prepared, open_datasets, open_ood
from kls.study.methods import CrossEntropy, Denoising
from kls.study.plan import Plan, PlanError
from kls.study.trial import trial_of

CROSS_ENTROPY, CLASSIFIER, STD = "cross-entropy", "classifier", re.compile(r"std-(\d+(?:\.\d+)?)")
PAPER_IMAGES, PAPER_VALIDATION = 54077, 5000
PAPER_SIDE, NOISE, NOISE_SIDES, HEAVY_SIDES = 28, 0.3, (10, 14), (18, 22)
VALIDATION, PROXY, TEST, HELD_OUT = "id_validation", "proxy_ood", "id_test", "held_out"  # names of stored sets


@dataclass(frozen=True)
class Setting:
    """What is trained on one dataset.

    Attributes:
        dataset: Its name.
        held_out: The classes to hold out, each in networks of its own; names or indices.
        epochs: Epochs of every network.
        methods: The ways of training.
    """

    dataset: str
    held_out: tuple[str, ...] = ("0",)
    epochs: int = 10
    methods: tuple[str, ...] = (CROSS_ENTROPY, "std-1", "std-5", CLASSIFIER)


PAPER = Setting("mnist")
QUICK = Setting("digits", epochs=15, methods=(CROSS_ENTROPY, "std-1", CLASSIFIER))


def make_plan(options):
    """Returns the plan that the command line asks for, and its opened datasets, as `Sources`.

    The datasets without their held-out classes are made in the data directory.

    Raises:
        PlanError: If datasets are not prepared, with the commands that prepare them, or a value does not fit.
    """
    for name in {VALIDATION, PROXY, TEST, HELD_OUT} & set(options.ood):
        raise PlanError(f"--ood {name}: the study stores images of its own by that name.")
    settings = _requested(options)
    datasets = open_datasets([setting.dataset for setting in settings], options.image_size, options.data_dir)
    held_out, trials = {}, []
    for setting in settings:
        dataset = datasets[setting.dataset]
        _check(dataset)
        for index in dict.fromkeys(_class_index(dataset, name) for name in setting.held_out):
            held = _without_class(dataset, index, options)
            held_out[held.name] = held
            for seed in range(options.seeds):
                trials += [_trial(setting, held, method, seed, options) for method in setting.methods]
    ood = open_ood(options.ood, held_out.values(), options.data_dir)
    return Plan(STUDY, tuple(trials)), Sources(held_out, ood)


def _requested(options):
    """Returns the settings of the preset with what the command line changes."""
    preset = QUICK if options.preset == "quick" else PAPER
    names = dict.fromkeys(options.datasets or [preset.dataset])
    return [changed(replace(preset, dataset=name), vars(options)) for name in names]


def _check(dataset):
    height, width, _ = dataset.image_shape
    if height != width or height % 4 or height < 8:
        raise PlanError(
            f"{dataset.name} must have square images, to be turned, whose side is a multiple of 4 and at least 8, to "
            f"be halved twice. Received: {dataset.size}. Prepare it with --size."
        )


def _class_index(dataset, name):
    """Returns the index of a class that is named, or given by its index."""
    if name in dataset.class_names:
        return dataset.class_names.index(name)
    if name.isdigit() and int(name) < dataset.classes:
        return int(name)
    raise PlanError(
        f"--held-out must name classes of {dataset.name}, or indices below {dataset.classes}: "
        f"{', '.join(dataset.class_names[:20])}{', ...' if dataset.classes > 20 else ''}. Received: {name}."
    )


def _without_class(dataset, index, options):
    """Returns a dataset without a class, with as many validation images as asked for, or the paper's share."""
    images = int((dataset.split("train")[1] != index).sum())
    validation = options.validation or round(images * PAPER_VALIDATION / PAPER_IMAGES)
    if validation < 2:
        raise PlanError(
            f"--validation must be at least 2 for {dataset.name}, an image to be turned and one to be covered. "
            f"Received: {validation}."
        )
    try:
        return decathlon.hold_out(dataset, index, validation, data_dir=options.data_dir)
    except ValueError as error:
        raise PlanError(f"{dataset.name} without class {index}: {error}") from None


def _trial(setting, dataset, name, seed, options):
    return trial_of(
        dataset,
        model="denoising_classifier",
        method=_method(name, dataset),
        schedule="cosine",
        epochs=setting.epochs,
        batch_size=options.batch_size,
        shift=0.0,
        flip=False,
        normalisation="scale",
        seed=seed,
        precision=options.precision,
    )


def method_named(text):
    """Parses the name of a method.

    Raises:
        argparse.ArgumentTypeError: If there is none of that name.
    """
    if text not in (CROSS_ENTROPY, CLASSIFIER) and not STD.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be {CROSS_ENTROPY}, {CLASSIFIER} or std-W with a number W. Received: {text}"
        )
    return text


def _method(name, dataset):
    """Returns the method of a name that `method_named` knows."""
    if name == CLASSIFIER:
        return CrossEntropy(title=name)
    weight = STD.fullmatch(name)
    return Denoising(
        round(NOISE * dataset.image_shape[0] / PAPER_SIDE, 3),
        scaled_sides(NOISE_SIDES, dataset),
        focal=1.0 if weight else 0.0,
        std_weight=float(weight[1]) if weight else 0.0,
        title=name,
    )


def scaled_sides(sides, dataset):
    """Returns sides in pixels of the paper's images as those of a dataset's."""
    return tuple(round(side * dataset.image_shape[0] / PAPER_SIDE) for side in sides)


def list_rows(data_dir):
    """Returns a table of what the presets cover, and which of their data are prepared.

    Args:
        data_dir: The data directory.
    """
    lines = [
        (name, setting.dataset, " ".join(setting.held_out), str(setting.epochs), " ".join(setting.methods), state)
        for name, setting in (("quick", QUICK), ("paper", PAPER))
        for state in ["prepared" if is_prepared(setting.dataset, data_dir) else "missing"]
    ]
    header = ("preset", "dataset", "held out", "epochs", "methods", "data")
    return tabulate(lines, header, "pipe", disable_numparse=True)
