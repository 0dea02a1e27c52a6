"""Which datasets a study reads: those to train on, OOD data, and what methods read besides."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

import decathlon
from decathlon.overlap import overlap
from decathlon.sources import SourceError
from decathlon.sources.folder import open_folder
from decathlon.store import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    DataError,
    NotPreparedError,
    SizesDifferError,
    conform,
    open_like,
    prepare_command,
    prepared_sizes,
)
from kls.study.arrays import SPLITS, Arrays, arrays_of
from kls.study.plan import PlanError
from kls.utils.arrays import check_whole, shown

TAKEN_NAMES = ("train", "validation", "test", "mean")
DEFAULT_SIZE = 64  # side in pixels of a folder's images where these differ in size


@dataclass(frozen=True)
class Sources:
    """The opened datasets of a plan.

    Attributes:
        datasets: `{name: dataset}` that trials are trained on.
        ood: `{name: {OOD name: dataset}}` that their networks are held against.
        others: `{name: dataset}` that methods read besides.
    """

    datasets: dict
    ood: dict
    others: dict = field(default_factory=dict)

    def of(self, trial):
        """Returns the datasets that a trial reads: a list."""
        return [self.datasets[trial.dataset], *self.ood[trial.dataset].values(), *self.others_of(trial)]

    def others_of(self, trial):
        """Returns the datasets that a trial's method reads besides: a tuple."""
        return tuple(self.others[trial.dataset, name] for name, _ in trial.others)


def check_data(trials, sources):
    """Raises `DataError` if data that trials read have changed since they were prepared.

    Args:
        trials: `Trial`s.
        sources: The opened datasets, as `Sources`.
    """
    for dataset in {dataset.fingerprint: dataset for trial in trials for dataset in sources.of(trial)}.values():
        if changed := dataset.check():
            raise DataError(
                f"{dataset.path} is damaged: {', '.join(changed)} missing or changed since it was prepared. Delete it "
                "and prepare it anew."
            )


def is_prepared(name, data_dir):
    """Whether a dataset can be opened at some size: it is prepared, or bundled."""
    entry = decathlon.CATALOG.get(name)
    return (entry is not None and entry.source == "bundled") or bool(prepared_sizes(name, data_dir))


def open_sources(names, image_size, data_dir, ood=(), others=None):
    """Opens all datasets of a study of prepared ones.

    Args:
        names: Names of the datasets to train on.
        image_size: Their prepared side in pixels, or `None`.
        data_dir: The data directory.
        ood: As in `open_ood`.
        others: `{name of a dataset to train on: names of datasets that methods read besides}`.

    Returns:
        `Sources`.

    Raises:
        PlanError: If a dataset cannot be used; those that are not prepared are all named, with their commands.
    """
    others = others or {}
    listed = chain(names, *(ood.values() if isinstance(ood, dict) else [ood]), *others.values())
    absent = [name for name in dict.fromkeys(listed) if not is_prepared(name, data_dir)]
    if absent:
        raise PlanError(_absent(f"{name} is not prepared. Run: {prepare_command(name)}" for name in absent))
    datasets = open_datasets(names, image_size, data_dir)
    read = {name: open_others(dict.fromkeys(of), datasets[name], data_dir) for name, of in others.items()}
    return Sources(
        datasets,
        open_ood(ood, datasets.values(), data_dir),
        {(name, other): dataset for name, opened in read.items() for other, dataset in opened.items()},
    )


def open_datasets(names, image_size, data_dir):
    """Opens prepared datasets to train on.

    Args:
        names: Names of prepared datasets.
        image_size: Prepared side in pixels, or `None`.
        data_dir: The data directory.

    Returns:
        `{name: Dataset}`.

    Raises:
        PlanError: If some are not prepared: one error with the commands that prepare all of them.
    """
    return _open_all(dict.fromkeys(names), lambda name: decathlon.open(name, image_size, data_dir))


def as_dataset(data, image_size=None, data_dir=None, usual_size=DEFAULT_SIZE):
    """Returns the dataset that a study's `data` means.

    Args:
        data: Name of a prepared dataset; a folder of images, which is prepared into the data directory under a name
            made of its contents; `(x, y)`, of which a fifth of each class is held out for evaluation;
            `((x, y), (x_validation, y_validation))`; a mapping of the splits `train`, `validation` and `test` to such
            pairs; or a dataset. `x` are uint8 images of shape `(N, H, W, C)`, or float features of any shape.
        image_size: Side in pixels, of a name or a folder.
        data_dir: The data directory.
        usual_size: Side in pixels of a folder's images where these differ in size and no `image_size` is given.

    Raises:
        PlanError: If it is none of these.
    """
    if isinstance(data, decathlon.Dataset | Arrays):
        return data
    data_dir = data_dir or decathlon.store.default_data_dir()
    if isinstance(data, str) and is_prepared(data, data_dir):
        return open_datasets([data], image_size, data_dir)[data]
    if isinstance(data, str | Path):
        if not Path(data).is_dir():
            raise PlanError(f"`data` must be the name of a prepared dataset, or a folder. Received: {str(data)!r}")
        return _prepared_folder(Path(data), image_size, data_dir, usual_size)
    if isinstance(data, Mapping):
        return arrays_of(dict(data))
    if isinstance(data, tuple | list) and len(data) == 2:
        if all(isinstance(part, tuple | list) and len(part) == 2 for part in data):
            return arrays_of(dict(zip(SPLITS, data, strict=False)))
        return arrays_of({"train": data})
    raise PlanError(
        "`data` must be a prepared name, a folder, (x, y), ((x, y), (x_validation, y_validation)), a mapping of splits "
        f"or a dataset. Received: data={shown(data)}"
    )


def _prepared_folder(path, image_size, data_dir, usual_size):
    """Returns the dataset of a folder, prepared under a name made of the folder's and of its contents."""
    slug = re.sub(r"[^\w-]", "_", path.resolve().name, flags=re.ASCII) or "folder"
    name = f"{slug}.{_folder_hash(path)}"
    sizes = prepared_sizes(name, data_dir)
    if image_size is None and len(sizes) > 1:
        raise PlanError(f"`image_size` must be given: {path} is prepared at {', '.join(sizes)} pixels. Received: None")
    if sizes and (image_size is None or str(image_size) in sizes):
        return decathlon.open(name, image_size or sizes[0], data_dir)
    try:
        if image_size is not None:
            check_whole(image_size, "image_size", SMALLEST_SIDE, LARGEST_SIDE)
        source = open_folder(path)
        try:
            dataset = decathlon.prepare(name, source, image_size, data_dir)
        except SizesDifferError:
            dataset = decathlon.prepare(name, source, usual_size, data_dir)
    except (SourceError, DataError) as error:
        raise PlanError(f"`data`: {error}") from None
    except ValueError as error:
        raise PlanError(str(error)) from None
    counts = ", ".join(f"{count:,} {split}" for split, count in dataset.counts.items())
    print(f"{path}: {counts} images of {dataset.classes} classes, prepared at {dataset.size} px in {dataset.path}.")
    return dataset


def _folder_hash(path):
    """Returns a hash of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        with open(file, "rb") as opened:
            digest.update(f"{file.relative_to(path).as_posix()} ".encode())
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:8]


def open_ood(names, datasets, data_dir):
    """Opens the OOD datasets of a study, at the size of those to train on where they are prepared at it.

    Args:
        names: Names of prepared datasets; or `{name of a dataset to train on: names}`.
        datasets: The datasets to train on.
        data_dir: The data directory.

    Returns:
        `{name: {OOD name: Dataset}}`. A dataset that one network of several is trained on is OOD to the others alone.

    Raises:
        PlanError: If one is not prepared, is called like a split or the mean, or overlaps the ID one.
    """
    datasets = {dataset.name: dataset for dataset in datasets}
    opened = {}
    for dataset in datasets.values():
        wanted = names.get(dataset.name, ()) if isinstance(names, dict) else names
        others = [name for name in dict.fromkeys(wanted) if name != dataset.name or len(datasets) == 1]
        check_ood_names(others)
        opened[dataset.name] = open_others(others, dataset, data_dir, "--ood", of_training=False)
    return opened


def check_ood_names(names):
    """Raises `PlanError` for a name that could not be told from a split's, or from the mean's."""
    for name in names:
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w.+-]*", name)):
            raise PlanError(f"`ood` must have names of letters, digits, '_', '.', '+' and '-'. Received: {shown(name)}")
    for name in set(names) & set(TAKEN_NAMES):
        raise PlanError(
            f"--ood {name}: a dataset of that name cannot be told from a split of the ID one, or from the mean over "
            "all sets."
        )


def open_others(names, dataset, data_dir, flag="--outliers", of_training=True):
    """Opens further datasets, at the side of the training images where they are prepared at that side.

    Args:
        names: Names of prepared datasets.
        dataset: The dataset to train on.
        data_dir: The data directory.
        flag: The option that names them, for errors.
        of_training: Whether their training images are read, not those of their evaluation splits.

    Returns:
        `{name: Dataset}`.

    Raises:
        PlanError: If one is not prepared, or overlaps the one to train on.
    """
    try:
        opened = _open_all(names, lambda name: open_like(name, dataset.image_shape, data_dir))
    except (DataError, ValueError) as error:
        raise PlanError(f"{flag} {' '.join(names)}: {error}") from None
    for other in opened.values():
        if reason := overlap(dataset, other, "train" if of_training else other.evaluation):
            raise PlanError(f"{flag} {other.name}: its images are not OOD to a network of {dataset.name}: {reason}.")
    return opened


def conformed(images, shape):
    """Returns the samples of another dataset as those of a shape: images resized, features as they are."""
    if images.dtype == np.uint8 and len(shape) == 3:
        return conform(images, shape)
    if images.shape[1:] != shape:
        raise PlanError(f"`ood` must hold samples of shape {shape}. Received: shape {images.shape[1:]}")
    return images


def _open_all(names, open_one):
    opened, absent = {}, []
    for name in names:
        try:
            opened[name] = open_one(name)
        except NotPreparedError as error:
            absent.append(str(error))
    if absent:
        raise PlanError(_absent(absent))
    return opened


def _absent(reasons):
    return "\n  ".join(["datasets have to be prepared first:", *reasons])


def ood_of(ood, dataset, data_dir):
    """Returns `{name: dataset}` of the OOD data that a study's `ood` means.

    Args:
        ood: Names of prepared datasets; or `{name: data}`, each such a name, an array of samples, a pair of samples and
            labels, or a dataset.
        dataset: The dataset to train on.
        data_dir: The data directory.
    """
    if not isinstance(ood, str | Mapping | list | tuple):
        raise PlanError(f"`ood` must be names of datasets, or {{name: data}}. Received: ood={shown(ood)}")
    if not isinstance(ood, Mapping):
        return open_ood([ood] if isinstance(ood, str) else list(ood), [dataset], data_dir)[dataset.name]
    check_ood_names(ood)
    return {name: _ood_dataset(name, data, dataset, data_dir) for name, data in ood.items()}


def _ood_dataset(name, data, dataset, data_dir):
    if isinstance(data, str):
        return open_ood([data], [dataset], data_dir)[dataset.name][data]
    if isinstance(data, decathlon.Dataset | Arrays):
        return data
    samples = np.asarray(data[0] if isinstance(data, tuple | list) and data else data)
    if samples.ndim == 0 or len(samples) == 0:
        raise PlanError(f"`ood` must hold samples. Received: {name}={shown(data)}")
    labels = np.zeros(len(samples), np.int64)
    try:
        arrays = arrays_of({"train": (samples, labels), "test": (samples, labels)}, name)
    except PlanError as error:
        raise PlanError(str(error).replace("`data`", f"`ood` {name}")) from None
    if arrays.are_images != (dataset.split("train")[0].dtype == np.uint8):
        raise PlanError(f"`ood` must hold images or features, as `data` does. Received: {name}={shown(samples)}")
    conformed(arrays.split("test")[0][:1], dataset.image_shape)
    return arrays
