"""Classes that are recognised least often, and what is taken for what, by the baseline and the method compared."""

from kls.pages.classes import confusions, worst_classes
from kls.pages.page import Text


def class_parts(group):
    """Returns the tables of the worst classes and of the most frequent confusions of a `Group`."""
    labels, guesses = group.guesses()
    names = group.class_names
    found = confusions(f"{group.prefix}confusions", labels, guesses, names)
    unnamed = () if group.dataset is not None else (Text(f"Classes are numbers here: {group.reason}", "note"),)
    worst = worst_classes(f"{group.prefix}classes", labels, guesses, names)
    return (worst, Text("No image is wrong.") if found is None else found, *unnamed)
