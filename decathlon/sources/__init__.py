"""Where images come from: each module opens a `Source`, and a source yields the examples of a split.

Keeping decoding and resizing out of the sources lets the store do both in parallel, and name what is corrupt.
"""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


class Example(NamedTuple):
    """One image with a name to report it by: encoded, as `bytes` or a file, or a uint8 array (H, W) or (H, W, C)."""

    key: str
    image: bytes | Path | np.ndarray
    label: int


@dataclass(frozen=True)
class Source:
    """An opened dataset.

    Attributes:
        description: What it is and its version, for the record.
        class_names: One name per class.
        channels: 1 or 3.
        counts: Images per split.
        evaluation: The split that accuracies are measured on.
        read: `read(split)` yields the `Example`s of a split in a fixed order.
        left_out: Files that no split holds, counted by suffix.
        remarks: What a user should know before training on it, in sentences.

    Raises:
        SourceError: If a class name is no string, or if two classes have the same.
    """

    description: str
    class_names: list[str]
    channels: int
    counts: dict[str, int]
    evaluation: str
    read: Callable[[str], Iterator[Example]]
    left_out: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self):
        if not all(isinstance(name, str) for name in self.class_names):
            raise SourceError(
                f"{self.description}: `class_names` must be strings. Received: {listed(self.class_names)}"
            )
        twice = repeated(self.class_names)
        if twice:
            raise SourceError(
                f"{self.description}: `class_names` must differ. Received more than once: {listed(twice)}"
            )


class SourceError(Exception):
    """A source that cannot be read as it stands; the message says what to change."""


def open_image(file):
    """Opens an encoded image of one of `FORMATS`; no other decoder of Pillow's sees it.

    Args:
        file: `Path` or binary file.

    Returns:
        A Pillow image, whose pixels are not decoded yet.
    """
    return Image.open(file, formats=FORMATS)


def repeated(names):
    """Returns the names that occur more than once, once each; composed and decomposed accents are the same."""
    counts = Counter(unicodedata.normalize("NFC", name) for name in names)
    return [name for name, count in counts.items() if count > 1]


def absent_classes(split, class_names, present):
    """Returns a remark on the classes of which a split has no image, as a list that is empty if there are none."""
    absent = [name for name in class_names if name not in present]
    return [f"{split} has no image of {len(absent)} of {len(class_names)} classes: {listed(absent)}."] if absent else []


def listed(names, most=5):
    """Returns names as a text shows them, no more than `most`."""
    return ", ".join(map(repr, names[:most])) + (", ..." if len(names) > most else "")
