"""Prepared data sets: decoded once into memory-mapped uint8 arrays, opened in an instant, checked by their hashes.

On disk: `DATA/NAME-SIZE/SPLIT.{images,labels}.npy`, `mean.npy` (float32, per pixel, of the training images in
[0, 1]) and `meta.json`. A data set is written into a hidden directory that is renamed when whole, so that what has a
name is complete. `DATA` is `$KLS_DATA`, else `~/.cache/kls`.
"""

import hashlib
import io
import json
import os
import platform
import re
import secrets
import shutil
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from decathlon.catalog import CATALOG
from decathlon.sources.embedded import VERSION as EMBEDDED_VERSION
from decathlon.sources.embedded import open_embedded

LARGEST_SIDE = 1024
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_.-]*", re.IGNORECASE)
DIRECTORY_PATTERN = re.compile(rf"({NAME_PATTERN.pattern})-(\d+(?:x\d+)?)", re.IGNORECASE)
RUN = secrets.token_hex(4)  # tells this process from an earlier one of the same number, as happens in containers


class DataError(Exception):
    """Data that is absent, incomplete or corrupt; the message says what to do."""


class NotPreparedError(DataError):
    """A data set that has to be prepared first."""


@dataclass(frozen=True)
class Dataset:
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
        if name not in self.counts:
            raise DataError(f"{self.name} has the splits {', '.join(self.counts)}. Received: {name!r}.")
        images, labels = (np.load(self.path / f"{name}.{part}.npy", mmap_mode="r") for part in ("images", "labels"))
        return images, labels

    def check(self):
        """Re-hashes the arrays and returns the names of those that are missing or changed."""
        return [
            name
            for name, sha256 in self.meta["sha256"].items()
            if not (self.path / name).is_file() or _sha256(self.path / name) != sha256
        ]


def default_data_dir():
    """Returns `$KLS_DATA`, else `~/.cache/kls`."""
    return Path(os.environ.get("KLS_DATA") or Path.home() / ".cache" / "kls")


def open_dataset(name, size=None, data_dir=None):
    """Opens a prepared data set; the embedded ones are made on the spot.

    Args:
        name: Name of the data set.
        size: Side in pixels; may be left out where only one size is prepared, or one is the catalogue's default.
        data_dir: The data room's directory; `$KLS_DATA` or `~/.cache/kls` by default.

    Returns:
        A `Dataset`.

    Raises:
        NotPreparedError: If it is not prepared, with the command that prepares it.
    """
    data_dir = Path(data_dir or default_data_dir())
    entry = CATALOG.get(name)
    embedded = entry is not None and entry.source == "embedded"
    if embedded:
        return _open_embedded(name, size or entry.size, data_dir)
    sizes = prepared_sizes(name, data_dir)
    if size is None and len(sizes) > 1 and entry is not None and str(entry.size) in sizes:
        size = entry.size
    if size is None and len(sizes) > 1:
        raise DataError(f"{name} is prepared in several sizes, {', '.join(sizes)}: say which.")
    wanted = str(size) if size is not None else next(iter(sizes), None)
    if wanted not in sizes:
        at_size = f" at {size} pixels" if size else ""
        raise NotPreparedError(f"{name} is not prepared{at_size}. Run: {prepare_command(name, size)}")
    return _load(data_dir / f"{name}-{wanted}")


def open_like(name, image_shape, data_dir=None):
    """Opens a prepared data set at the side of images of another, where it is prepared at that side.

    Args:
        name: Name of the data set.
        image_shape: `(height, width, channels)` of the other images.
        data_dir: The data room's directory; `$KLS_DATA` or `~/.cache/kls` by default.

    Returns:
        A `Dataset`; `conform` brings its images to the shape.

    Raises:
        NotPreparedError: If it is not prepared, with the command that prepares it.
    """
    data_dir = Path(data_dir or default_data_dir())
    entry = CATALOG.get(name)
    side = _size_label(image_shape)
    square = side.isdigit()
    same = side in prepared_sizes(name, data_dir) or (entry is not None and entry.source == "embedded" and square)
    if same:
        return open_dataset(name, int(side) if square else side, data_dir)
    sizes = prepared_sizes(name, data_dir)
    return open_dataset(name, sizes[-1] if sizes else None, data_dir)


def conform(images, image_shape):
    """Returns images brought to a shape: resized and cropped as in `prepare`, grey or in colour.

    Args:
        images: uint8 array of shape `(N, H, W, C)`.
        image_shape: `(height, width, channels)` with 1 or 3 channels.

    Returns:
        uint8 array of shape `(N, height, width, channels)`; the images themselves where they have it.

    Raises:
        DataError: If they would have to be resized to a shape that is not square.

    Example:

    >>> conform(np.zeros((2, 32, 32, 3), np.uint8), (28, 28, 1)).shape
    (2, 28, 28, 1)
    """
    height, width, channels = image_shape
    if images.shape[1:] == tuple(image_shape):
        return images
    if images.shape[1:3] == (height, width):
        size = None
    elif height == width:
        size = height
    else:
        raise DataError(f"Images can be resized to squares alone. Received: {_size_label(image_shape)}")
    return np.stack([decode(np.asarray(image), channels, size) for image in images])


def _open_embedded(name, size, data_dir):
    def is_current(dataset):
        return dataset.meta["source"].endswith(f"version {EMBEDDED_VERSION}")

    def make():
        check_request(name, size, data_dir)
        prepare(name, open_embedded(name, size), size, data_dir)

    return open_or_make(data_dir / f"{name}-{size}", is_current, make)


def open_or_make(path, is_current, make):
    """Opens a prepared data set that is current; one that is not, or is damaged, is made anew.

    Args:
        path: Its directory.
        is_current: `is_current(dataset)` says whether what is there is what would be made.
        make: `make()` prepares it at `path`; another process may do the same meanwhile.

    Returns:
        A `Dataset`.
    """
    if not _is_there(path, is_current):
        shutil.rmtree(path, ignore_errors=True)
        try:
            make()
        except DataError:
            if not _is_there(path, is_current):  # else another process has just made it
                raise
    return _load(path)


def _is_there(path, is_current):
    try:
        dataset = _load(path)
    except (DataError, FileNotFoundError):
        return False
    return is_current(dataset)


def prepare_command(name, size=None):
    """Returns the command that prepares a data set."""
    entry = CATALOG.get(name)
    options = f" --size {size}" if size else ""
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
    return [_load(Path(data_dir) / f"{name}-{size}") for size in prepared_sizes(name, data_dir)]


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
        ValueError: If `name`, `size` or `skip_bad` is not usable.
        DataError: If it is prepared already, or if images are corrupt or missing: they are counted and named.
    """
    data_dir = Path(data_dir or default_data_dir())
    check_request(name, size, data_dir, skip_bad)
    with _scratch_directory(data_dir, name) as scratch:
        writer = _Writer(scratch, source.channels, size, progress)
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
            "sha256": {file.name: _sha256(file) for file in sorted(scratch.glob("*.npy"))},
        }
        (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
        target = data_dir / f"{name}-{_size_label(writer.image_shape)}"
        _refuse_existing(target)
        scratch.rename(target)
    return _load(target)


def check_request(name, size, data_dir, skip_bad=0):
    """Raises what `prepare` would raise for its arguments, so that a source need not be opened to know."""
    if not NAME_PATTERN.fullmatch(name):
        raise ValueError(f"`name` must consist of letters, digits, '-', '_' and '.'. Received: name={name!r}")
    if size is not None and not 8 <= size <= LARGEST_SIDE:
        raise ValueError(f"`size` must be in 8..{LARGEST_SIDE} pixels. Received: size={size}")
    if skip_bad < 0:
        raise ValueError(f"`skip_bad` must not be negative. Received: skip_bad={skip_bad}")
    if size is not None:
        _refuse_existing(Path(data_dir) / f"{name}-{size}")


def decode(image, channels, size):
    """Returns an image as uint8 of shape `(H, W, channels)`: decoded, turned upright, resized and cropped.

    Args:
        image: Encoded `bytes`, the `Path` of a file of them, or a uint8 array of shape `(H, W)` or `(H, W, C)`.
        channels: 1 or 3.
        size: Side in pixels, or `None` to keep the image's own.
    """
    if isinstance(image, np.ndarray):
        image = image[..., None] if image.ndim == 2 else image
        sides = image.shape[:2] if size is None else (size, size)
        if image.shape == (*sides, channels) and image.dtype == np.uint8:
            return image
        image = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    else:
        encoded = image.read_bytes() if isinstance(image, Path) else image
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if image.mode.startswith("I"):
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

    def __init__(self, directory, channels, size, progress):
        self.directory = directory
        self.channels = channels
        self.size = size
        self.progress = progress
        self.image_shape = (size, size, channels) if size is not None else None
        self.counts = {}
        self.bad = []
        self.missing = 0

    def write(self, split, examples, expected):
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
                if not labels:
                    _write_header(file, 0, self.image_shape)
                file.write(image.tobytes())
                labels.append(label)
            if labels:
                file.seek(0)
                _write_header(file, len(labels), self.image_shape)
        if not labels:
            raise DataError(f"{split}: none of the {read} images could be read. {'; '.join(self.bad[:3])}")
        np.save(self.directory / f"{split}.labels.npy", np.array(labels, np.int64))
        self.counts[split] = len(labels)
        self.missing += max(0, expected - read)

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
    description = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
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
    np.save(directory / "mean.npy", (total / (255 * len(images))).astype(np.float32))


@contextmanager
def _scratch_directory(data_dir, name):
    """A directory to write into, gone afterwards unless renamed; what a killed run left behind is swept up first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for leftover in data_dir.glob(".partial-*@*@*@*"):
        if _is_abandoned(leftover.name):
            shutil.rmtree(leftover, ignore_errors=True)
    scratch = data_dir / f".partial-{name}@{platform.node()}@{RUN}@{os.getpid()}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_abandoned(scratch):
    """Whether the process that wrote there is gone; of other machines' processes that cannot be known."""
    _, machine, run, pid = scratch.split("@")
    if machine != platform.node():
        return False
    return run != RUN if int(pid) == os.getpid() else not _is_running(int(pid))


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


def _load(path):
    meta = path / "meta.json"
    try:
        record = json.loads(meta.read_text())
        return Dataset(record["name"], path, record)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{meta} is damaged: delete {path} and prepare it anew.") from error


def _size_label(shape):
    height, width = shape[:2]
    return str(height) if height == width else f"{height}x{width}"


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
