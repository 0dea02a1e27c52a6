"""Paths as arguments, and atomic writes: a file is there whole or not at all."""

import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path

from kls.utils.arrays import shown

PARTIAL = ".partial-"  # how the names of files begin that are being written
EXCLUSIVE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def as_path(value, name):
    """Returns a path that is a text or a path.

    Args:
        value: What was received.
        name: Name of the argument.

    Raises:
        ValueError: If it is anything else, empty, or holds a null character.

    Example:

    >>> as_path("runs/mine", "directory").name
    'mine'
    """
    if isinstance(value, str | os.PathLike) and str(value) and "\0" not in str(value):
        return Path(value)
    raise ValueError(f"`{name}` must be a path. Received: {name}={shown(value)}")


@contextmanager
def atomic_write(path):
    """Yields a new binary file that takes the place of `path` when the block ends well; its directory is made.

    Until then it lies beside `path` under a name of its own, `file.name`, which ends as `path` does. It is removed if
    the block ends with an error.

    Args:
        path: Path of the file.

    Raises:
        ValueError: If `path` is no path.
        OSError: If the file cannot be written, as on a full disk. The error names `path`.
    """
    path = as_path(path, "path")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{PARTIAL}{os.getpid()}-{secrets.token_hex(8)}-{path.name}")
    try:
        with open(aside, "xb", opener=_open_new) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError) and error.filename in (None, str(aside)):
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(error.errno, reason, str(path)) from error
        raise


def write_atomically(path, text):
    """Writes a text file aside and renames it, so that it is there whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def remove_partial(directory):
    """Removes what killed processes left of atomic writes in a directory and below; none may be under way there."""
    for path in Path(directory).rglob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


def _open_new(path, flags):
    return os.open(path, flags | EXCLUSIVE, 0o666)
