"""Where images come from: each module opens a `Source`, and a source yields the examples of a split.

Keeping decoding and resizing out of the sources lets the store do both in parallel, and name what is corrupt.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Example(NamedTuple):
    """One image with a name to report it by: encoded, as `bytes` or a file, or a uint8 array (H, W) or (H, W, C)."""

    key: str
    image: bytes | Path | np.ndarray
    label: int


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        description: What it is and its version, for the record.
        class_names: One name per class.
        channels: 1 or 3.
        counts: Images per split.
        evaluation: The split that accuracies are measured on.
        read: `read(split)` yields the `Example`s of a split in a fixed order.
    """

    description: str
    class_names: list[str]
    channels: int
    counts: dict[str, int]
    evaluation: str
    read: Callable[[str], Iterator[Example]]


class SourceError(Exception):
    """A source that cannot be read as it stands; the message says what to change."""
