"""A dataset in memory, of arrays of the user's own."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from kls.study.plan import PlanError
from kls.utils.arrays import shown
from kls.utils.stratified import drawn_of_each_class

SPLITS = ("train", "validation", "test")
HELD_OUT_SHARE, HELD_OUT_SEED = 0.2, 0


@dataclass(frozen=True, eq=False)
class Arrays:
    """A dataset in memory: uint8 images of shape `(N, H, W, C)`, or float features of another shape `(N, ...)`.

    It has the attributes of a `decathlon.Dataset`.

    Attributes:
        name: Its name.
        splits: `{split: (samples, labels)}`, labels being class indices.
        class_names: Names of the classes.
    """

    name: str
    splits: dict
    class_names: tuple[str, ...] = field(default=())

    @property
    def classes(self):
        return len(self.class_names)

    @property
    def image_shape(self):
        return self.splits["train"][0].shape[1:]

    @property
    def size(self):
        height, width, *_ = self.image_shape if self.are_images else (*self.image_shape, 1)
        return str(height) if height == width else f"{height}x{width}"

    @property
    def are_images(self):
        return self.splits["train"][0].dtype == np.uint8

    @property
    def counts(self):
        return {name: len(labels) for name, (_, labels) in self.splits.items()}

    @property
    def evaluation(self):
        return "test" if "test" in self.splits else "validation"

    @cached_property
    def mean(self):
        """Per-pixel mean of the training images, float32 in [0, 1]."""
        return (self.splits["train"][0].mean(axis=0, dtype=np.float64) / 255).astype(np.float32)

    @cached_property
    def fingerprint(self):
        """Hash of all arrays."""
        digest = hashlib.sha256()
        for name, arrays in sorted(self.splits.items()):
            for array in arrays:
                digest.update(f"{name} {array.dtype} {array.shape} ".encode())
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:16]

    def split(self, name):
        """Returns `(samples, labels)` of a split."""
        return self.splits[name]

    def check(self):
        """Returns what has changed since it was made: nothing, as far as is known."""
        return []


def arrays_of(splits, name="arrays"):
    """Returns the `Arrays` of `{split: (samples, labels)}`, checked; an evaluation split is held out if there is none.

    Raises:
        PlanError: If splits have other names, or if samples or labels are none.
    """
    if "train" not in splits or not splits.keys() <= set(SPLITS):
        raise PlanError(f"`data` must map train, and validation or test, to pairs. Received: {', '.join(splits)}")
    for split, pair in splits.items():
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise PlanError(f"`data` must have a pair of samples and labels as {split}. Received: {shown(pair)}")
    splits = {split: _checked(split, *pair) for split, pair in splits.items()}
    shape, dtype = splits["train"][0].shape[1:], splits["train"][0].dtype
    for split, (samples, _) in splits.items():
        if samples.shape[1:] != shape or samples.dtype != dtype:
            raise PlanError(
                f"`data` must have {split} samples of shape {shape}, {dtype}, as those of train. "
                f"Received: {samples.shape[1:]}, {samples.dtype}"
            )
    classes = int(max(labels.max() for _, labels in splits.values())) + 1
    if len(splits) == 1:
        splits = _held_out(*splits["train"])
        counts = {split: len(labels) for split, (_, labels) in splits.items()}
        print(f"A fifth of each class is held out for evaluation: {counts['validation']:,} of the samples.")
    if absent := set(range(classes)) - set(splits["train"][1].tolist()):
        raise PlanError(f"`data` must have training samples of each class. Received: none of {sorted(absent)[:5]}")
    return Arrays(name, splits, tuple(map(str, range(classes))))


def _checked(split, samples, labels):
    samples, labels = np.asarray(samples), np.asarray(labels)
    if samples.dtype != np.uint8:
        if samples.dtype.kind != "f":
            raise PlanError(f"`data` must hold uint8 images or float features. Received: {samples.dtype} in {split}")
        if samples.ndim == 4:
            raise PlanError(
                f"`data` must hold uint8 images, with pixels in 0..255. Received: {samples.dtype} images in {split}"
            )
        if samples.ndim < 2:
            raise PlanError(f"`data` must hold samples of shape (N, ...). Received: shape {samples.shape} in {split}")
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise PlanError(f"`data` must hold finite numbers. Received: others in {split}")
    elif samples.ndim != 4 or samples.shape[3] not in (1, 3):
        raise PlanError(
            "`data` must hold uint8 images of shape (N, H, W, C) with 1 or 3 channels. "
            f"Received: shape {samples.shape} in {split}"
        )
    if labels.shape == (len(samples), 1):
        labels = labels[:, 0]
    if labels.shape != (len(samples),) or labels.dtype.kind not in "iu" or len(labels) == 0 or labels.min() < 0:
        raise PlanError(
            f"`data` must hold class indices of shape ({len(samples)},). Received: {labels.dtype} of shape "
            f"{labels.shape} in {split}"
        )
    return samples, labels.astype(np.int64)


def _held_out(samples, labels):
    """Returns a training and a validation split, a fifth of each class and one sample at least in the latter."""
    mask = drawn_of_each_class(labels, lambda count: round(HELD_OUT_SHARE * count), HELD_OUT_SEED)
    return {"train": (samples[~mask], labels[~mask]), "validation": (samples[mask], labels[mask])}
