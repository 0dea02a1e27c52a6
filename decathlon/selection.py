"""Datasets made from others: one class held out, to be told as out-of-distribution."""

import numpy as np

from decathlon.arguments import check_kind, check_path, check_whole
from decathlon.preparation import open_or_make, prepare
from decathlon.sources import Example, Source
from decathlon.store import UNLABELLED, DataError, Dataset


def hold_out(dataset, class_index, validation, seed=0, data_dir=None):
    """Returns a dataset without one class, whose images are held out as OOD images.

    It is prepared once, as `NAME-without-INDEX` of the same size, and anew if the base set's contents, `validation` or
    `seed` have changed since. Its splits, each in the base set's order:

    - `train`: training images of the other classes, but for those of `validation`;
    - `validation`: as many of them as `validation` says, drawn at random, uniformly;
    - `test`: images of the other classes of the base set's evaluation split. Accuracies are measured on it;
    - `held_out`: images of that class in the base set's evaluation split, labelled -1.

    The other classes are renumbered 0..K-2 in their order. The mean image is that of the new training images.

    Args:
        dataset: The base set: a `Dataset` of K >= 3 classes.
        class_index: The class to hold out, 0..K-1.
        validation: Number of training images to take for validation.
        seed: Integer from which they are drawn.
        data_dir: The data directory; that of the base set by default.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: If `class_index` is none of the classes, if `validation` leaves no image to validate or to train
            on, or if an argument is of another type.
        DataError: If the base set has fewer than three classes, is evaluated on its training images, or has no images
            of the class to evaluate on, or if a dataset of another origin has the name already.

    Example:

    >>> digits = decathlon.open("digits")
    >>> without_zero = decathlon.hold_out(digits, 0, validation=100)
    >>> without_zero.name, without_zero.classes, without_zero.counts
    ('digits-without-0', 9, {'train': 1195, 'validation': 100, 'test': 324, 'held_out': 36})
    """
    check_kind(dataset, "dataset", Dataset, "a `Dataset`")
    rows = _rows(dataset, class_index, validation, check_whole(seed, "seed", 0))
    name = f"{dataset.name}-without-{class_index}"
    origin = f"{dataset.name} without class {class_index}"
    description = f"{origin} ({dataset.class_names[class_index]}), fingerprint {dataset.fingerprint}, "
    description += f"{validation:,} images for validation, seed {seed}"
    data_dir = dataset.path.parent if data_dir is None else check_path(data_dir, "data_dir")

    def is_current(found):
        if not found.meta["source"].startswith(origin):
            raise DataError(
                f"{found.path} was not made by `hold_out`. Prepare it by another name, or delete it. Received: a set "
                f"made from {found.meta['source']}"
            )
        return found.meta["source"] == description

    def make():
        prepare(name, _source(dataset, class_index, rows, description), data_dir=data_dir)

    return open_or_make(data_dir, f"{name}-{dataset.size}", is_current, make)


def _rows(dataset, class_index, validation, seed):
    """Returns which split of the base set, and which of its rows, each split is made of."""
    if dataset.classes < 3:
        raise DataError(f"{dataset.name} must have at least 3 classes to hold one out. It has {dataset.classes}.")
    check_whole(class_index, "class_index", 0, dataset.classes - 1)
    if dataset.evaluation == "train":
        raise DataError(f"{dataset.name} is evaluated on its training images: there are no others to tell apart.")
    _, labels = dataset.split("train")
    kept = np.flatnonzero(labels != class_index)
    check_whole(validation, "validation", 1, len(kept) - 1)
    _, labels = dataset.split(dataset.evaluation)
    held_out = labels == class_index
    if not held_out.any():
        raise DataError(f"{dataset.name} has no image of class {class_index} in its split {dataset.evaluation}.")
    for_validation = np.zeros(len(kept), bool)
    for_validation[np.random.default_rng(seed).choice(len(kept), validation, replace=False)] = True
    return {
        "train": ("train", kept[~for_validation]),
        "validation": ("train", kept[for_validation]),
        "test": (dataset.evaluation, np.flatnonzero(~held_out)),
        "held_out": (dataset.evaluation, np.flatnonzero(held_out)),
    }


def _source(dataset, class_index, rows, description):
    def read(split):
        of_base, chosen = rows[split]
        images, labels = map(np.asarray, dataset.split(of_base))
        renumbered = np.where(labels == class_index, UNLABELLED, labels - (labels > class_index))
        for row in chosen:
            yield Example(f"{of_base}[{row}]", images[row], int(renumbered[row]))

    class_names = [name for label, name in enumerate(dataset.class_names) if label != class_index]
    counts = {split: len(chosen) for split, (_, chosen) in rows.items()}
    return Source(description, class_names, dataset.image_shape[2], counts, "test", read)
