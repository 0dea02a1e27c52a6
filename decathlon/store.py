"""Prepared datasets: decoded once into memory-mapped uint8 arrays, opened in an instant, checked by their hashes.

On disk: `DATA/NAME-SIZE/SPLIT.{images,labels}.npy`, `mean.npy` (float32, per pixel, of the training images in
[0, 1]) and `meta.json`, which holds the hashes of the arrays and of itself. Opening compares the arrays' headers with
it, `Dataset.check` their contents. They are written by `decathlon.preparation`. `DATA` is `$KLS_DATA`, else
`~/.cache/kls`.
"""

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from decathlon.arguments import check_array, check_kind, check_path, check_whole, shown
from decathlon.catalog import CATALOG
from decathlon.display import Shown
from decathlon.sources import listed, repeated

SMALLEST_SIDE, LARGEST_SIDE = 8, 1024
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SIZE_PATTERN = re.compile(r"[0-9]{1,9}(?:x[0-9]{1,9})?")
DIRECTORY_PATTERN = re.compile(rf"({NAME_PATTERN.pattern})-({SIZE_PATTERN.pattern})")
FIELDS = {str: ("name", "source", "evaluation"), list: ("class_names", "image_shape"), dict: ("counts", "sha256")}
UNLABELLED = -1
IMAGES, LABELS, MEAN = np.dtype("|u1"), np.dtype("<i8"), np.dtype("<f4")  # of the arrays on disk


class DataError(Exception):
    """Data that is absent, incomplete or corrupt; the message says what to do."""


class SizesDifferError(DataError):
    """Images of several sizes that are to be kept as they are."""


class NotPreparedError(DataError):
    """A dataset that has to be prepared first."""


@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """A prepared dataset.

    Attributes:
        name: Its name.
        path: Its directory.
        meta: The record made when it was prepared.

    Example:

    ```python
    digits = decathlon.open("digits")
    images, labels = digits.split("train")
    ```
    """

    name: str
    path: Path
    meta: dict = field(hash=False)

    @property
    def class_names(self):
        return self.meta["class_names"]

    @property
    def classes(self):
        return len(self.meta["class_names"])

    @property
    def image_shape(self):
        return tuple(self.meta["image_shape"])

    @property
    def size(self):
        return size_label(self.image_shape)

    @property
    def counts(self):
        return self.meta["counts"]

    @property
    def evaluation(self):
        return self.meta["evaluation"]

    @cached_property
    def mean(self):
        """Per-pixel mean of the training images, float32 in [0, 1], of shape `image_shape`."""
        return np.load(self.path / "mean.npy", allow_pickle=False)

    @property
    def fingerprint(self):
        """Hash of the contents of all arrays: two datasets with the same images and labels share it."""
        hashes = json.dumps(self.meta["sha256"], sort_keys=True)
        return hashlib.sha256(hashes.encode()).hexdigest()[:16]

    def split(self, name):
        """Returns the memory-mapped `(images, labels)` of a split: uint8 `(N, H, W, C)` and int64 `(N,)`."""
        if name not in list(self.counts):
            raise DataError(f"{self.name} has the splits {', '.join(self.counts)}. Received: {shown(name)}.")
        files = (self.path / f"{name}.{part}.npy" for part in ("images", "labels"))
        images, labels = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
        return images, labels

    def check(self):
        """Re-hashes the arrays and the record and returns the names of the files that are missing or changed."""
        expected = self.meta["sha256"]
        with ThreadPoolExecutor() as pool:
            found = pool.map(file_hash, [self.path / name for name in expected])
            wrong = [name for name, sha256 in zip(expected, found, strict=True) if sha256 != expected[name]]
        try:
            record_is_whole = json.loads((self.path / "meta.json").read_bytes()) == self.meta and _is_whole(self.meta)
        except (OSError, ValueError):
            record_is_whole = False
        return sorted(wrong if record_is_whole else [*wrong, "meta.json"])

    def _facts(self):
        names = ("name", "size", "classes", "counts", "evaluation")
        return {name: getattr(self, name) for name in names} | {"source": self.meta["source"]}


def default_data_dir():
    """Returns `$KLS_DATA`, else `~/.cache/kls`."""
    return Path(os.environ.get("KLS_DATA") or Path.home() / ".cache" / "kls")


def open_dataset(name, size=None, data_dir=None):
    """Opens a prepared dataset; the bundled ones are made on the spot.

    Args:
        name: Name of the dataset.
        size: Side in pixels, or `"HxW"`; may be left out where only one size is prepared, or one is the catalogue's
            default.
        data_dir: The data directory; `$KLS_DATA` or `~/.cache/kls` by default.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: If `name` is no name, or if `size` is none that an image can be brought to.
        NotPreparedError: If it is not prepared, with the command that prepares it.
        DataError: If its record or an array's header is not what was written when it was prepared.
    """
    data_dir = check_data_dir(data_dir)
    check_name(name)
    entry = CATALOG.get(name)
    if entry is not None and entry.source == "bundled":
        from decathlon.preparation import open_or_make_bundled

        return open_or_make_bundled(name, entry.size if size is None else _check_size(size), data_dir)
    sizes = prepared_sizes(name, data_dir)
    if size is not None and str(size) not in sizes:
        size = _check_size(size)
    if size is None and len(sizes) > 1:
        if entry is None or str(entry.size) not in sizes:
            raise DataError(f"{name} is prepared in several sizes, {', '.join(sizes)}: say which.")
        size = entry.size
    wanted = str(size) if size is not None else next(iter(sizes), None)
    if wanted not in sizes:
        at_size = f" at {size} pixels" if size is not None else ""
        raise NotPreparedError(f"{name} is not prepared{at_size}. Run: {prepare_command(name, size)}")
    return load(data_dir / f"{name}-{wanted}")


def open_like(name, image_shape, data_dir=None):
    """Opens a prepared dataset at the side of images of another, where it is prepared at that side.

    Args:
        name: Name of the dataset.
        image_shape: `(height, width, channels)` of the other images.
        data_dir: The data directory; `$KLS_DATA` or `~/.cache/kls` by default.

    Returns:
        A `Dataset`; `conform` brings its images to the shape.

    Raises:
        ValueError: If `name` is no name, or if `image_shape` is no shape.
        NotPreparedError: If it is not prepared, with the command that prepares it.
        DataError: If its record or an array's header is not what was written when it was prepared.
    """
    data_dir = check_data_dir(data_dir)
    check_name(name)
    entry = CATALOG.get(name)
    side = size_label(_check_shape(image_shape))
    sizes = prepared_sizes(name, data_dir)
    if side in sizes or (entry is not None and entry.source == "bundled" and side.isdigit()):
        return open_dataset(name, side, data_dir)
    return open_dataset(name, sizes[-1] if sizes else None, data_dir)


def check_data_dir(data_dir):
    """Returns the data directory as a `Path`, the default for `None`; raises `ValueError` for what is no path."""
    return default_data_dir() if data_dir is None else check_path(data_dir, "data_dir")


def check_name(name, argument="name"):
    """Raises `ValueError` for what is no plain file name."""
    if not (isinstance(name, str) and NAME_PATTERN.fullmatch(name)):
        raise ValueError(
            f"`{argument}` must consist of letters, digits, '-', '_' and '.'. Received: {argument}={shown(name)}"
        )


def _check_size(size):
    """Returns a size as a side, or as `"HxW"` where the sides differ; raises `ValueError` for anything else."""
    is_text = isinstance(size, str) and SIZE_PATTERN.fullmatch(size)
    sides = [int(side) for side in size.split("x")] if is_text else [size]
    height, width = (check_whole(side, "size", SMALLEST_SIDE, LARGEST_SIDE) for side in (sides[0], sides[-1]))
    return height if height == width else f"{height}x{width}"


def _check_shape(image_shape):
    check_kind(image_shape, "image_shape", tuple | list, "(height, width, channels)")
    sides = tuple(check_whole(side, "image_shape", 1) for side in image_shape)
    if len(sides) != 3 or sides[2] not in (1, 3):
        raise ValueError(
            "`image_shape` must be (height, width, channels) with 1 or 3 channels. "
            f"Received: image_shape={shown(image_shape)}"
        )
    return sides


def conform(images, image_shape):
    """Returns images brought to a shape: resized and cropped as in `prepare`, grey or in colour.

    Args:
        images: uint8 array of shape `(N, H, W, C)`.
        image_shape: `(height, width, channels)` with 1 or 3 channels.

    Returns:
        uint8 array of shape `(N, height, width, channels)`; the images themselves where they have it.

    Raises:
        ValueError: If `images` are no such array, or if `image_shape` is no such shape.
        DataError: If they would have to be resized to a shape that is not square.

    Example:

    >>> conform(np.zeros((2, 32, 32, 3), np.uint8), (28, 28, 1)).shape
    (2, 28, 28, 1)
    """
    from decathlon.preparation import decode

    height, width, channels = image_shape = _check_shape(image_shape)
    if check_array(images, "images").dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"`images` must be uint8 of shape (N, H, W, C). Received: images={shown(images)}")
    if images.shape[1:] == image_shape:
        return images
    if images.shape[1:3] == (height, width):
        size = None
    elif height == width:
        size = check_whole(height, "image_shape", 1, LARGEST_SIDE)
    else:
        raise DataError(f"Images can be resized to squares alone. Received: {size_label(image_shape)}")
    return np.stack([decode(np.asarray(image), channels, size) for image in images])


def prepare_command(name, size=None):
    """Returns the command that prepares a dataset."""
    entry = CATALOG.get(name)
    options = "" if size is None else f" --size {size}"
    if entry is None:
        return f"python -m decathlon prepare {name} --folder DIR{options}   (or --npz FILE)"
    if entry.source == "folder":
        return f"python -m decathlon prepare {name} --folder DIR{options}   (from {entry.url})"
    return f"python -m decathlon prepare {name}{options}"


def prepared_sizes(name, data_dir):
    """Returns the sizes at which a dataset is prepared, as they stand in its directories' names."""
    return sorted((size for found, size in _prepared(data_dir) if found == name), key=lambda s: (len(s), s))


def prepared_names(data_dir):
    """Returns the names of all prepared datasets."""
    return sorted({name for name, _ in _prepared(data_dir)})


def prepared(name, data_dir):
    """Returns a dataset as it stands, once per size at which it is prepared."""
    check_name(name)
    return [load(Path(data_dir) / f"{name}-{size}") for size in prepared_sizes(name, data_dir)]


def _prepared(data_dir):
    """Returns the `(name, size)` of all prepared datasets."""
    directories = (meta.parent.name for meta in Path(data_dir).glob("*/meta.json"))
    return [match.groups() for match in map(DIRECTORY_PATTERN.fullmatch, directories) if match]


def load(path):
    """Opens the dataset of a directory: its record must be as it was written, and so must the arrays' headers.

    Raises:
        DataError: If that is not so; the message names the file, what is expected and what is found.
    """
    dataset = read(path)
    record = path / "meta.json"
    if "hash" not in dataset.meta:
        raise _damaged(record, "it was prepared by an earlier version, whose records have no hash")
    if not _is_whole(dataset.meta):
        raise _damaged(record, "it has been changed since it was prepared")
    if repeated(dataset.class_names):
        raise _damaged(record, f"its class names must differ. Found twice: {listed(repeated(dataset.class_names))}")
    arrays = {"mean.npy": (MEAN, dataset.image_shape)}
    for split, count in dataset.counts.items():
        arrays[f"{split}.images.npy"] = IMAGES, (count, *dataset.image_shape)
        arrays[f"{split}.labels.npy"] = LABELS, (count,)
    if arrays.keys() != dataset.meta["sha256"].keys():
        raise _damaged(record, f"it must have hashes of {listed(sorted(arrays), len(arrays))}")
    for name, (dtype, shape) in arrays.items():
        _check_header(path / name, dtype, shape)
    return dataset


def read(path):
    """Returns the dataset of a directory as its record describes it, which may be wrong."""
    file = path / "meta.json"
    try:
        meta = json.loads(file.read_bytes())
        whole = all(isinstance(meta[field], kind) for kind, fields in FIELDS.items() for field in fields)
        if not (whole and all(isinstance(name, str) for name in meta["class_names"])):
            raise TypeError("a field is of another type")
        directory = f"{meta['name']}-{size_label(meta['image_shape'])}"
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} holds no dataset.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged: delete {path} and prepare it anew.") from error
    if directory != path.name:
        raise _damaged(file, f"it must be that of {path.name}. Found: that of {directory!r}")
    return Dataset(meta["name"], path, meta)


def _check_header(file, dtype, shape):
    """Raises `DataError` unless a .npy file is of a type and shape, and as long as that takes."""
    expected = f"{dtype} of shape {shape}"
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # damaged headers make NumPy's parser raise anything
        raise _damaged(file, f"it must hold {expected}. Found: {error}") from error
    if not (array.dtype == dtype and array.shape == shape and array.flags.c_contiguous):
        order = "" if array.flags.c_contiguous else ", columns first"
        found = f"{array.dtype} of shape {array.shape}{order}"
        raise _damaged(file, f"it must hold {expected}. Found: {found}")
    length = array.offset + array.nbytes
    if file.stat().st_size != length:
        raise _damaged(file, f"it must have {length:,} bytes. Found: {file.stat().st_size:,}")


def _damaged(file, why):
    return DataError(f"{file}: {why}. Delete {file.parent} and prepare it anew.")


def _is_whole(meta):
    return meta.get("hash") == record_hash(meta)


def record_hash(meta):
    """Returns the hash of a record, but for the hash that it holds."""
    rest = {key: value for key, value in meta.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def size_label(shape):
    """Returns the size of images as it stands in the names of directories: `SIDE`, or `HxW` where the sides differ."""
    height, width = shape[:2]
    return str(height) if height == width else f"{height}x{width}"


def file_hash(path):
    """Returns the hash of a file, or `None` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
