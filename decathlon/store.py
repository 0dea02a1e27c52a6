"""Prepared data sets: decoded once into memory-mapped uint8 arrays, opened in an instant, checked by their hashes.

On disk: `DATA/NAME-SIZE/SPLIT.{images,labels}.npy`, `mean.npy` (float32, per pixel, of the training images in
[0, 1]) and `meta.json`, which holds the hashes of the arrays and of itself. Opening compares the arrays' headers with
it, `Dataset.check` their contents. A data set is written into a hidden directory that is renamed when whole, so that
what has a name is complete. `DATA` is `$KLS_DATA`, else `~/.cache/kls`.
"""

import hashlib
import io
import json
import os
import platform
import re
import secrets
import shutil
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from decathlon.arguments import check_array, check_kind, check_path, check_whole, shown
from decathlon.catalog import CATALOG
from decathlon.display import Shown
from decathlon.sources import Source, listed, open_image, repeated
from decathlon.sources.embedded import VERSION as EMBEDDED_VERSION
from decathlon.sources.embedded import open_embedded

SMALLEST_SIDE, LARGEST_SIDE = 8, 1024
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SIZE_PATTERN = re.compile(r"[0-9]{1,9}(?:x[0-9]{1,9})?")
DIRECTORY_PATTERN = re.compile(rf"({NAME_PATTERN.pattern})-({SIZE_PATTERN.pattern})")
SCRATCH_PATTERN = re.compile(rf"\.partial-{NAME_PATTERN.pattern}@([^@/\\]*)@([0-9a-f]{{8}})@([0-9]+)")
FILE_PATTERN = re.compile(rf"meta\.json|mean\.npy|{NAME_PATTERN.pattern}\.(?:images|labels)\.npy")
FIELDS = {str: ("name", "source", "evaluation"), list: ("class_names", "image_shape"), dict: ("counts", "sha256")}
UNLABELLED = -1
IMAGES, LABELS, MEAN = np.dtype("|u1"), np.dtype("<i8"), np.dtype("<f4")  # of the arrays on disk
RUN = secrets.token_hex(4)  # tells this process from an earlier one of the same number, as happens in containers


class DataError(Exception):
    """Data that is absent, incomplete or corrupt; the message says what to do."""


class NotPreparedError(DataError):
    """A data set that has to be prepared first."""


@dataclass(frozen=True, repr=False)
class Dataset(Shown):
    """A prepared data set.

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
        return _size_label(self.image_shape)

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
        """Hash of the contents of all arrays: two data sets with the same images and labels share it."""
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
            found = pool.map(_sha256, [self.path / name for name in expected])
            wrong = [name for name, sha256 in zip(expected, found, strict=True) if sha256 != expected[name]]
        try:
            record_is_whole = json.loads((self.path / "meta.json").read_bytes()) == self.meta and _is_whole(self.meta)
        except (OSError, ValueError):
            record_is_whole = False
        return sorted(wrong if record_is_whole else [*wrong, "meta.json"])

    def _facts(self):
        return {
            "name": self.name,
            "size": self.size,
            "classes": self.classes,
            "counts": self.counts,
            "evaluation": self.evaluation,
            "source": self.meta["source"],
        }


def default_data_dir():
    """Returns `$KLS_DATA`, else `~/.cache/kls`."""
    return Path(os.environ.get("KLS_DATA") or Path.home() / ".cache" / "kls")


def open_dataset(name, size=None, data_dir=None):
    """Opens a prepared data set; the embedded ones are made on the spot.

    Args:
        name: Name of the data set.
        size: Side in pixels, or `"HxW"`; may be left out where only one size is prepared, or one is the catalogue's
            default.
        data_dir: The data room's directory; `$KLS_DATA` or `~/.cache/kls` by default.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: If `name` is no name, or if `size` is none that an image can be brought to.
        NotPreparedError: If it is not prepared, with the command that prepares it.
        DataError: If its record or an array's header is not what was written when it was prepared.
    """
    data_dir = _data_dir(data_dir)
    _check_name(name)
    entry = CATALOG.get(name)
    if entry is not None and entry.source == "embedded":
        return _open_embedded(name, entry.size if size is None else _check_size(size), data_dir)
    sizes = prepared_sizes(name, data_dir)
    if size is not None and str(size) not in sizes:
        size = _check_size(size)
    if size is None and len(sizes) > 1 and entry is not None and str(entry.size) in sizes:
        size = entry.size
    if size is None and len(sizes) > 1:
        raise DataError(f"{name} is prepared in several sizes, {', '.join(sizes)}: say which.")
    wanted = str(size) if size is not None else next(iter(sizes), None)
    if wanted not in sizes:
        at_size = f" at {size} pixels" if size is not None else ""
        raise NotPreparedError(f"{name} is not prepared{at_size}. Run: {prepare_command(name, size)}")
    return load(data_dir / f"{name}-{wanted}")


def open_like(name, image_shape, data_dir=None):
    """Opens a prepared data set at the side of images of another, where it is prepared at that side.

    Args:
        name: Name of the data set.
        image_shape: `(height, width, channels)` of the other images.
        data_dir: The data room's directory; `$KLS_DATA` or `~/.cache/kls` by default.

    Returns:
        A `Dataset`; `conform` brings its images to the shape.

    Raises:
        ValueError: If `name` is no name, or if `image_shape` is no shape.
        NotPreparedError: If it is not prepared, with the command that prepares it.
        DataError: If its record or an array's header is not what was written when it was prepared.
    """
    data_dir = _data_dir(data_dir)
    _check_name(name)
    entry = CATALOG.get(name)
    side = _size_label(_check_shape(image_shape))
    sizes = prepared_sizes(name, data_dir)
    if side in sizes or (entry is not None and entry.source == "embedded" and side.isdigit()):
        return open_dataset(name, side, data_dir)
    return open_dataset(name, sizes[-1] if sizes else None, data_dir)


def _data_dir(data_dir):
    return default_data_dir() if data_dir is None else check_path(data_dir, "data_dir")


def _check_name(name, argument="name"):
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
        raise DataError(f"Images can be resized to squares alone. Received: {_size_label(image_shape)}")
    return np.stack([decode(np.asarray(image), channels, size) for image in images])


def _open_embedded(name, size, data_dir):
    def is_current(dataset):
        return dataset.meta["source"].endswith(f"version {EMBEDDED_VERSION}")

    def make():
        check_request(name, size, data_dir)
        prepare(name, open_embedded(name, size), size, data_dir)

    return open_or_make(data_dir, f"{name}-{size}", is_current, make)


def open_or_make(data_dir, directory, is_current, make):
    """Opens a prepared data set that is current; one that is not, or is damaged, is made anew.

    Args:
        data_dir: The data room's directory.
        directory: Name of its directory in there: `NAME-SIZE`.
        is_current: `is_current(dataset)` says whether what is there is what would be made. It may raise a `DataError`
            for what must be kept.
        make: `make()` prepares it there; another process may do the same meanwhile.

    Returns:
        A `Dataset`.

    Raises:
        ValueError: If `directory` is no such name.
        DataError: If something is there that cannot be one that `make` has made.
    """
    if not DIRECTORY_PATTERN.fullmatch(directory):
        raise ValueError(f"`directory` must be NAME-SIZE. Received: directory={directory!r}")
    path = check_path(data_dir, "data_dir") / directory
    found = _current(path, is_current)
    if found is not None:
        return found
    _remove(path)
    try:
        make()
    except DataError:
        if _current(path, is_current) is None:  # else another process has just made it
            raise
    return load(path)


def _current(path, is_current):
    """Returns the data set of a directory, or `None` if it is not current or is damaged."""
    try:
        dataset = read(path)
    except DataError:
        return None
    if is_current(dataset):
        with suppress(DataError):
            return load(path)
    return None


def _remove(path):
    """Removes a data set, whole or partial, and nothing else: a directory of such a name with such files in it.

    Raises:
        DataError: If it is anything else.
    """
    name_is_ours = DIRECTORY_PATTERN.fullmatch(path.name) or SCRATCH_PATTERN.fullmatch(path.name)
    if not name_is_ours or path.is_symlink() or path.is_file():
        raise DataError(f"{path} was not removed: it is no directory of a data set.")
    try:
        foreign = sorted(entry.name for entry in os.scandir(path) if not _is_own_file(entry))
    except FileNotFoundError:  # there is none, or another process has just removed it
        return
    if foreign:
        raise DataError(f"{path} was not removed: it holds files of no data set, {listed(foreign)}. Move them away.")
    shutil.rmtree(path, ignore_errors=True)


def _is_own_file(entry):
    return FILE_PATTERN.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


def prepare_command(name, size=None):
    """Returns the command that prepares a data set."""
    entry = CATALOG.get(name)
    options = "" if size is None else f" --size {size}"
    if entry is None:
        return f"python -m decathlon prepare {name} --folder DIR{options}   (or --npz FILE)"
    if entry.source == "folder":
        return f"python -m decathlon prepare {name} --folder DIR{options}   (from {entry.url})"
    return f"python -m decathlon prepare {name}{options}"


def prepared_sizes(name, data_dir):
    """Returns the sizes at which a data set is prepared, as they stand in its directories' names."""
    return sorted((size for found, size in _prepared(data_dir) if found == name), key=lambda s: (len(s), s))


def prepared_names(data_dir):
    """Returns the names of all prepared data sets."""
    return sorted({name for name, _ in _prepared(data_dir)})


def prepared(name, data_dir):
    """Returns a data set as it stands, once per size at which it is prepared."""
    _check_name(name)
    return [load(Path(data_dir) / f"{name}-{size}") for size in prepared_sizes(name, data_dir)]


def _prepared(data_dir):
    """Returns the `(name, size)` of all prepared data sets."""
    directories = (meta.parent.name for meta in Path(data_dir).glob("*/meta.json"))
    return [match.groups() for match in map(DIRECTORY_PATTERN.fullmatch, directories) if match]


def prepare(name, source, size=None, data_dir=None, skip_bad=0, progress=None):
    """Decodes, resizes and stores every split of a source.

    Images are resized (bilinear, antialiased) so that the shorter side is `size`, then cropped at the centre.

    Args:
        name: Name to open it by.
        source: A `Source`.
        size: Side in pixels; `None` keeps the images' size, which must then be the same for all.
        data_dir: The data room's directory.
        skip_bad: How many corrupt or missing images to leave out instead of failing.
        progress: Called with `(split, done, total)` now and then.

    Returns:
        The prepared `Dataset`.

    Raises:
        ValueError: If `name`, `source`, `size`, `skip_bad` or `progress` is not usable.
        DataError: If it is prepared already, or if images are corrupt or missing: they are counted and named.

    Warns:
        UserWarning: Of each of the source's remarks.
    """
    data_dir = _data_dir(data_dir)
    check_request(name, size, data_dir, skip_bad)
    size = None if size is None else int(size)
    check_kind(source, "source", Source, "a `Source`, such as `decathlon.sources.folder.open_folder` returns")
    check_kind(progress, "progress", Callable | None, "a function or None")
    for remark in source.remarks:
        warnings.warn(remark, stacklevel=2)
    with _scratch_directory(data_dir, name) as scratch:
        writer = _Writer(scratch, source, size, progress)
        for split, count in source.counts.items():
            writer.write(split, source.read(split), count)
        _check_bad(name, writer, skip_bad)
        _write_mean(scratch)
        meta = {
            "name": name,
            "source": source.description,
            "class_names": source.class_names,
            "image_shape": list(writer.image_shape),
            "counts": writer.counts,
            "evaluation": source.evaluation,
            "skipped": writer.bad,
            "left_out": source.left_out,
            "sha256": {file.name: _sha256(file) for file in sorted(scratch.glob("*.npy"))},
        }
        meta["hash"] = _hash(meta)
        (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
        target = data_dir / f"{name}-{_size_label(writer.image_shape)}"
        _refuse_existing(target)
        scratch.rename(target)
    return load(target)


def check_request(name, size, data_dir, skip_bad=0):
    """Raises what `prepare` would raise for its arguments, so that a source need not be opened to know."""
    _check_name(name)
    if size is not None:
        check_whole(size, "size", SMALLEST_SIDE, LARGEST_SIDE)
    check_whole(skip_bad, "skip_bad", 0)
    if size is not None:
        _refuse_existing(Path(data_dir) / f"{name}-{size}")


def decode(image, channels, size):
    """Returns an image as uint8 of shape `(H, W, channels)`: decoded, turned upright, resized and cropped.

    Args:
        image: Encoded `bytes`, the `Path` of a file of them, or a uint8 array of shape `(H, W)` or `(H, W, C)`.
        channels: 1 or 3.
        size: Side in pixels, or `None` to keep the image's own.

    Raises:
        ValueError: If the image is of another type, or its pixels are floats or 32-bit integers.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(f"`image` must be uint8 of shape (H, W) or (H, W, C). Received: image={shown(image)}")
        image = image[..., None] if image.ndim == 2 else image
        sides = image.shape[:2] if size is None else (size, size)
        if image.shape == (*sides, channels):
            return image
        image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    else:
        check_kind(image, "image", bytes | Path, "`bytes`, a `Path` or a uint8 array")
        encoded = image.read_bytes() if isinstance(image, Path) else image
        image = ImageOps.exif_transpose(open_image(io.BytesIO(encoded)))
    if image.mode in ("F", "I"):
        raise ValueError(f"pixels of mode {image.mode} have no known range; 8 or 16 bits have")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).reshape(image.height, image.width, channels)


class _Writer:
    """Streams the splits into .npy files, and keeps count of what could not be read."""

    def __init__(self, directory, source, size, progress):
        self.directory = directory
        self.channels = source.channels
        self.classes = len(source.class_names)
        self.size = size
        self.progress = progress
        self.image_shape = (size, size, source.channels) if size is not None else None
        self.counts = {}
        self.bad = []
        self.missing = 0

    def write(self, split, examples, expected):
        _check_name(split, "split")
        labels, read = [], 0
        decode_example = partial(_try_decode, channels=self.channels, size=self.size)
        with open(self.directory / f"{split}.images.npy", "wb") as file:
            for key, image, label, problem in _in_order(decode_example, examples):
                read += 1
                if self.progress and (read % 256 == 0 or read == expected):
                    self.progress(split, read, expected)
                if problem:
                    self.bad.append(f"{split}: {key} ({problem})")
                    continue
                self._check_shape(key, image)
                self._check_label(split, key, label)
                if not labels:
                    _write_header(file, 0, self.image_shape)
                file.write(image.tobytes())
                labels.append(label)
            if labels:
                file.seek(0)
                _write_header(file, len(labels), self.image_shape)
        if not labels:
            raise DataError(f"{split}: none of the {read} images could be read. {'; '.join(self.bad[:3])}")
        np.save(self.directory / f"{split}.labels.npy", np.array(labels, LABELS))
        self.counts[split] = len(labels)
        self.missing += max(0, expected - read)

    def _check_label(self, split, key, label):
        if not (isinstance(label, Integral) and UNLABELLED <= label < self.classes):
            raise DataError(
                f"{split}: the label of {key} must be in 0..{self.classes - 1}, or {UNLABELLED} for none. "
                f"Received: {shown(label)}"
            )

    def _check_shape(self, key, image):
        if self.image_shape is None:
            self.image_shape = image.shape
        if image.shape != self.image_shape:
            raise DataError(
                f"Images differ in size: {key} is {_size_label(image.shape)}, the first "
                f"{_size_label(self.image_shape)}. Give --size to bring them to one."
            )


def _try_decode(example, channels, size):
    try:
        return example.key, decode(example.image, channels, size), example.label, None
    except Exception as error:  # damaged files make Pillow raise anything, down to struct.error and TypeError
        return example.key, None, example.label, f"{type(error).__name__}: {error}".split("<")[0].strip()


def _in_order(function, items):
    """Maps a function over items in threads, keeps the order and reads ahead by a bounded number of items."""
    ahead = 64
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_header(file, count, shape):
    """Writes a .npy header; NumPy pads it so that one for more rows fits in the same place."""
    description = {"descr": IMAGES.str, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, description)


def _check_bad(name, writer, skip_bad):
    if len(writer.bad) + writer.missing <= skip_bad:
        return
    shown = "\n  ".join(writer.bad[:20]) + ("\n  ..." if len(writer.bad) > 20 else "")
    missing = f" and {writer.missing} missing" if writer.missing else ""
    raise DataError(
        f"{name}: {len(writer.bad)} corrupt{missing} images:\n  {shown}\n"
        f"To leave them out: --skip-bad {len(writer.bad) + writer.missing}"
    )


def _write_mean(directory):
    images = np.load(directory / "train.images.npy", mmap_mode="r")
    total = np.zeros(images.shape[1:], np.float64)
    for start in range(0, len(images), 4096):
        total += images[start : start + 4096].sum(axis=0, dtype=np.float64)
    np.save(directory / "mean.npy", (total / (255 * len(images))).astype(MEAN))


@contextmanager
def _scratch_directory(data_dir, name):
    """A directory to write into, gone afterwards unless renamed; what a killed run left behind is swept up first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for leftover in data_dir.glob(".partial-*"):
        if _is_abandoned(leftover.name):
            with suppress(DataError):
                _remove(leftover)
    scratch = data_dir / f".partial-{name}@{platform.node()}@{RUN}@{os.getpid()}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        _remove(scratch)


def _is_abandoned(scratch):
    """Whether the process that wrote there is gone; of other machines' processes that cannot be known."""
    match = SCRATCH_PATTERN.fullmatch(scratch)
    if match is None or match[1] != platform.node():
        return False
    run, pid = match[2], int(match[3])
    return run != RUN if pid == os.getpid() else not _is_running(pid)


def _is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refuse_existing(path):
    if path.exists():
        raise DataError(f"{path} is there already. To prepare it anew, delete it first.")


def load(path):
    """Opens the data set of a directory: its record must be as it was written, and so must the arrays' headers.

    Raises:
        DataError: If that is not so; the message names the file, what is expected and what is found.
    """
    dataset = read(path)
    record = path / "meta.json"
    if "hash" not in dataset.meta:
        raise _damaged(record, "it was prepared by an earlier version, whose records have no hash", path)
    if not _is_whole(dataset.meta):
        raise _damaged(record, "it has been changed since it was prepared", path)
    if repeated(dataset.class_names):
        raise _damaged(
            record, f"its class names must differ. Found twice: {listed(repeated(dataset.class_names))}", path
        )
    arrays = {"mean.npy": (MEAN, dataset.image_shape)}
    for split, count in dataset.counts.items():
        arrays[f"{split}.images.npy"] = IMAGES, (count, *dataset.image_shape)
        arrays[f"{split}.labels.npy"] = LABELS, (count,)
    if arrays.keys() != dataset.meta["sha256"].keys():
        raise _damaged(record, f"it must have hashes of {listed(sorted(arrays), len(arrays))}", path)
    for name, (dtype, shape) in arrays.items():
        _check_header(path / name, dtype, shape)
    return dataset


def read(path):
    """Returns the data set of a directory as its record describes it, which may be wrong."""
    file = path / "meta.json"
    try:
        meta = json.loads(file.read_bytes())
        whole = all(isinstance(meta[field], kind) for kind, fields in FIELDS.items() for field in fields)
        if not (whole and all(isinstance(name, str) for name in meta["class_names"])):
            raise TypeError("a field is of another type")
        directory = f"{meta['name']}-{_size_label(meta['image_shape'])}"
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} holds no data set.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged: delete {path} and prepare it anew.") from error
    if directory != path.name:
        raise _damaged(file, f"it must be that of {path.name}. Found: that of {directory!r}", path)
    return Dataset(meta["name"], path, meta)


def _check_header(file, dtype, shape):
    """Raises `DataError` unless a .npy file is of a type and shape, and as long as that takes."""
    expected = f"{dtype} of shape {shape}"
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # damaged headers make NumPy's parser raise anything
        raise _damaged(file, f"it must hold {expected}. Found: {error}", file.parent) from error
    if not (array.dtype == dtype and array.shape == shape and array.flags.c_contiguous):
        order = "" if array.flags.c_contiguous else ", columns first"
        found = f"{array.dtype} of shape {array.shape}{order}"
        raise _damaged(file, f"it must hold {expected}. Found: {found}", file.parent)
    length = array.offset + array.nbytes
    if file.stat().st_size != length:
        raise _damaged(file, f"it must have {length:,} bytes. Found: {file.stat().st_size:,}", file.parent)


def _damaged(file, why, path):
    return DataError(f"{file}: {why}. Delete {path} and prepare it anew.")


def _is_whole(meta):
    return meta.get("hash") == _hash(meta)


def _hash(meta):
    """Returns the hash of a record, but for the hash that it holds."""
    rest = {key: value for key, value in meta.items() if key != "hash"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _size_label(shape):
    height, width = shape[:2]
    return str(height) if height == width else f"{height}x{width}"


def _sha256(path):
    """Returns the hash of a file, or `None` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
