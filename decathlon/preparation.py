"""Preparing datasets: a source's images decoded, resized and written as the arrays that `decathlon.store` opens.

A dataset is written by an atomic write, into a hidden directory that is renamed at the end: what has a name is
complete.
"""

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
from functools import partial
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from decathlon import store
from decathlon.arguments import check_kind, check_path, check_whole, shown
from decathlon.sources import Source, listed, open_image
from decathlon.sources.bundled import VERSION as BUNDLED_VERSION
from decathlon.sources.bundled import open_bundled

SCRATCH_PATTERN = re.compile(rf"\.partial-{store.NAME_PATTERN.pattern}@([^@/\\]*)@([0-9a-f]{{8}})@([0-9]+)")
FILE_PATTERN = re.compile(rf"meta\.json|mean\.npy|{store.NAME_PATTERN.pattern}\.(?:images|labels)\.npy")
RUN = secrets.token_hex(4)  # tells this process from an earlier one of the same number, as happens in containers


def prepare(name, source, size=None, data_dir=None, skip_bad=0, progress=None):
    """Decodes, resizes and stores every split of a source.

    Images are resized (bilinear, antialiased) so that the shorter side is `size`, then cropped at the centre.

    Args:
        name: Name to open it by.
        source: A `Source`.
        size: Side in pixels; `None` keeps the images' size, which must then be the same for all.
        data_dir: The data directory.
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
    data_dir = store.check_data_dir(data_dir)
    check_request(name, size, data_dir, skip_bad)
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
            "sha256": {file.name: store.file_hash(file) for file in sorted(scratch.glob("*.npy"))},
        }
        meta["hash"] = store.record_hash(meta)
        (scratch / "meta.json").write_text(json.dumps(meta, indent=1))
        target = data_dir / f"{name}-{store.size_label(writer.image_shape)}"
        _refuse_existing(target)
        scratch.rename(target)
    return store.load(target)


def check_request(name, size, data_dir, skip_bad=0):
    """Raises what `prepare` would raise for its arguments, so that a source need not be opened to know."""
    store.check_name(name)
    check_whole(skip_bad, "skip_bad", 0)
    if size is not None:
        check_whole(size, "size", store.SMALLEST_SIDE, store.LARGEST_SIDE)
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
        self.image_shape = None
        self.counts = {}
        self.bad = []
        self.missing = 0

    def write(self, split, examples, expected):
        store.check_name(split, "split")
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
            raise store.DataError(f"{split}: none of the {read} images could be read. {'; '.join(self.bad[:3])}")
        np.save(self.directory / f"{split}.labels.npy", np.array(labels, store.LABELS))
        self.counts[split] = len(labels)
        self.missing += max(0, expected - read)

    def _check_label(self, split, key, label):
        if not (isinstance(label, Integral) and store.UNLABELLED <= label < self.classes):
            raise store.DataError(
                f"{split}: the label of {key} must be in 0..{self.classes - 1}, or {store.UNLABELLED} for none. "
                f"Received: {shown(label)}"
            )

    def _check_shape(self, key, image):
        if self.image_shape is None:
            self.image_shape = image.shape
        if image.shape != self.image_shape:
            raise store.SizesDifferError(
                f"Images differ in size: {key} is {store.size_label(image.shape)}, the first "
                f"{store.size_label(self.image_shape)}. Give --size to bring them to one."
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
    description = {"descr": store.IMAGES.str, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, description)


def _check_bad(name, writer, skip_bad):
    if len(writer.bad) + writer.missing <= skip_bad:
        return
    shown = "\n  ".join(writer.bad[:20]) + ("\n  ..." if len(writer.bad) > 20 else "")
    missing = f" and {writer.missing} missing" if writer.missing else ""
    raise store.DataError(
        f"{name}: {len(writer.bad)} corrupt{missing} images:\n  {shown}\n"
        f"To leave them out: --skip-bad {len(writer.bad) + writer.missing}"
    )


def _write_mean(directory):
    images = np.load(directory / "train.images.npy", mmap_mode="r")
    total = images.sum(axis=0, dtype=np.float64)
    np.save(directory / "mean.npy", (total / (255 * len(images))).astype(store.MEAN))


@contextmanager
def _scratch_directory(data_dir, name):
    """A directory to write into, gone afterwards unless renamed; what a killed run left behind is swept up first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for leftover in data_dir.glob(".partial-*"):
        if _is_abandoned(leftover.name):
            with suppress(store.DataError):
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
    except (ProcessLookupError, PermissionError) as error:  # that of another user is running
        return isinstance(error, PermissionError)
    return True


def _refuse_existing(path):
    if path.exists():
        raise store.DataError(f"{path} is there already. To prepare it anew, delete it first.")


def open_or_make_bundled(name, size, data_dir):
    """Opens a bundled data set; one of another version, or damaged, is made anew."""

    def is_current(dataset):
        return dataset.meta["source"].endswith(f"version {BUNDLED_VERSION}")

    def make():
        check_request(name, size, data_dir)
        prepare(name, open_bundled(name, size), size, data_dir)

    return open_or_make(data_dir, f"{name}-{size}", is_current, make)


def open_or_make(data_dir, directory, is_current, make):
    """Opens a prepared dataset that is current; one that is not, or is damaged, is made anew.

    Args:
        data_dir: The data directory.
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
    if not store.DIRECTORY_PATTERN.fullmatch(directory):
        raise ValueError(f"`directory` must be NAME-SIZE. Received: directory={directory!r}")
    path = check_path(data_dir, "data_dir") / directory
    found = _current(path, is_current)
    if found is not None:
        return found
    _remove(path)
    try:
        make()
    except store.DataError:
        if _current(path, is_current) is None:  # else another process has just made it
            raise
    return store.load(path)


def _current(path, is_current):
    """Returns the dataset of a directory, or `None` if it is not current or is damaged."""
    try:
        dataset = store.read(path)
    except store.DataError:
        return None
    if is_current(dataset):
        with suppress(store.DataError):
            return store.load(path)
    return None


def _remove(path):
    """Removes a dataset, whole or partial, and nothing else: a directory of such a name with such files in it.

    Raises:
        DataError: If it is anything else.
    """
    name_is_ours = store.DIRECTORY_PATTERN.fullmatch(path.name) or SCRATCH_PATTERN.fullmatch(path.name)
    if not name_is_ours or path.is_symlink() or path.is_file():
        raise store.DataError(f"{path} was not removed: it is no directory of a dataset.")
    try:
        foreign = sorted(entry.name for entry in os.scandir(path) if not _is_own_file(entry))
    except FileNotFoundError:  # there is none, or another process has just removed it
        return
    if foreign:
        raise store.DataError(
            f"{path} was not removed: it holds files of no dataset, {listed(foreign)}. Move them away."
        )
    shutil.rmtree(path, ignore_errors=True)


def _is_own_file(entry):
    return FILE_PATTERN.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)
