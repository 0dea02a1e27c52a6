"""Parsers of command lines' arguments."""

import argparse
from pathlib import Path


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
