"""What the command lines share: parsers of arguments, and warnings as lines."""

import argparse
import warnings
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def warnings_as_notes():
    """Prints warnings to the user as lines of the command."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_args, **_options: print(f"note: {message}")
        yield


def directory(text):
    """Parses the path of a directory."""
    if not text:
        raise argparse.ArgumentTypeError("must name a directory. Received: ''")
    return Path(text)


def positive(text):
    """Parses a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Received: {text}")
    return value
