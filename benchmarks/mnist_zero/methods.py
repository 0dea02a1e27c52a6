"""The names of the ways of training."""

import argparse
import re

CROSS_ENTROPY, CLASSIFIER, STD = "cross-entropy", "classifier", re.compile(r"std-(\d+(?:\.\d+)?)")


def method_named(text):
    """Parses the name of a method.

    Raises:
        argparse.ArgumentTypeError: If there is none of that name.
    """
    if text not in (CROSS_ENTROPY, CLASSIFIER) and not STD.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"must be {CROSS_ENTROPY}, {CLASSIFIER} or std-W with a number W. Received: {text}"
        )
    return text
