"""Datasets in one `.npz` file, laid out as `keras.datasets` returns them."""

import zipfile
import zlib

import numpy as np

from decathlon.arguments import check_path
from decathlon.sources import Example, Source, SourceError, absent_classes

SPLITS = ("train", "validation", "test")
KEYS = ("x_train", "y_train", "x_test", "y_test")


def open_npz(path):
    """Opens an `.npz` file with `x_train`, `y_train`, `x_test`, `y_test` and, optionally, `x_validation`,
    `y_validation` and `class_names`.

    Args:
        path: Path of the file. Images are uint8 of shape `(N, H, W)`, `(N, H, W, 1)` or `(N, H, W, 3)`, labels
            integers 0..K-1 of shape `(N,)` or `(N, 1)`.

    Returns:
        A `Source` with the splits `train`, `test` and, if it is there, `validation`; accuracies are measured on `test`.

    Raises:
        SourceError: If the file is not as above; the message names the key.
    """
    path = check_path(path, "path")
    arrays = _load(path)
    splits = [split for split in SPLITS if f"x_{split}" in arrays]
    images = {split: _images(arrays, f"x_{split}") for split in splits}
    labels = {split: _labels(arrays, f"y_{split}") for split in splits}
    for split in splits:
        if len(images[split]) != len(labels[split]):
            raise SourceError(
                f"{path}: x_{split} has {len(images[split])} images, y_{split} {len(labels[split])} labels."
            )
        if images[split].shape[3] != images["train"].shape[3]:
            raise SourceError(f"{path}: x_train and x_{split} differ in channels.")
    class_names = _class_names(arrays, labels["train"])
    for split, values in labels.items():
        if values.min() < 0 or values.max() >= len(class_names):
            raise SourceError(
                f"{path}: y_{split} holds {values.min()}..{values.max()}, but there are {len(class_names)} classes: "
                f"labels must be in 0..{len(class_names) - 1}."
            )

    def read(split):
        for i, (image, label) in enumerate(zip(images[split], labels[split], strict=True)):
            yield Example(f"x_{split}[{i}]", image, int(label))

    counts = {split: len(values) for split, values in labels.items()}
    present = {class_names[label] for label in np.unique(labels["train"])}
    remarks = absent_classes("train", class_names, present)
    return Source(f"npz {path.name}", class_names, images["train"].shape[3], counts, "test", read, remarks=remarks)


def _load(path):
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it holds a single array")
        with loaded as file:
            missing = [key for key in KEYS if key not in file]
            if missing:
                raise SourceError(f"{path}: missing {', '.join(missing)}; it holds {', '.join(file) or 'nothing'}.")
            known = [f"{part}_{split}" for split in SPLITS for part in "xy"]
            if ("x_validation" in file) != ("y_validation" in file):
                raise SourceError(f"{path}: x_validation and y_validation must be there both, or neither.")
            return {key: np.asarray(file[key]) for key in (*known, "class_names") if key in file}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{path}: not a readable .npz file ({error}).") from error


def _images(arrays, key):
    images = arrays[key]
    if images.dtype != np.uint8:
        raise SourceError(f"{key} must be uint8 (0 to 255). Received: {images.dtype}.")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
        raise SourceError(
            f"{key} must be of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3). Received: {arrays[key].shape}."
        )
    return images


def _labels(arrays, key):
    labels = arrays[key]
    if labels.dtype.kind not in "iu" or labels.shape[1:] not in ((), (1,)) or labels.ndim == 0:
        raise SourceError(f"{key} must be integers of shape (N,) or (N, 1). Received: {labels.dtype}{labels.shape}.")
    return labels.reshape(-1).astype(np.int64)


def _class_names(arrays, train_labels):
    if "class_names" in arrays:
        if arrays["class_names"].ndim != 1:
            raise SourceError(f"class_names must be of shape (K,). Received: {arrays['class_names'].shape}.")
        return [str(name) for name in arrays["class_names"]]
    if train_labels.max() >= len(train_labels):
        raise SourceError(
            f"y_train must hold labels below the number of its images, {len(train_labels)}, unless class_names are "
            f"given. Received: {train_labels.max()}."
        )
    return [str(i) for i in range(train_labels.max() + 1)]
