"""Class by class: which classes are recognised least often, and what for what is taken."""

import numpy as np

from kls.pages.page import File, Grid
from kls.utils.proportions import clopper_pearson

COUNT = 10  # rows of each table
LEVEL = 0.95
CHANCE = "These rows are picked because they are the worst on these very images, which is chance in part."


def worst_classes(name, labels, guesses, class_names):
    """Returns the classes of least recall as a `Grid`, and the recall of all as its file.

    Args:
        name: Name of the file.
        labels: Class indices of shape `(N,)`.
        guesses: `{method: predicted class indices of shape (networks, N)}`.
        class_names: Names of the classes.
    """
    import pandas as pd

    images = np.bincount(labels, minlength=len(class_names))
    recalls = {method: _recalls(labels, of, len(class_names)) for method, of in guesses.items()}
    together = np.mean(list(recalls.values()), axis=0)
    order = np.argsort(np.where(images, together, np.inf), kind="stable")[: min(COUNT, np.count_nonzero(images))]
    ends = {
        method: [clopper_pearson(round(recall[k] * images[k]), int(images[k]), LEVEL) for k in order]
        for method, recall in recalls.items()
    }
    rows = [
        (
            class_names[k],
            f"{images[k]:,}",
            *(_percent(recalls[method][k], *ends[method][row]) for method in recalls),
        )
        for row, k in enumerate(order)
    ]
    frame = pd.DataFrame({"class": list(class_names), "n": images, **{f"recall {m}": r for m, r in recalls.items()}})
    networks = len(next(iter(guesses.values())))
    return Grid(
        f"The {len(rows)} classes of least recall, the share of a class's images that are recognised, in percent: "
        f"{_mean(networks)}, with its 95 % confidence interval for new images (Clopper & Pearson). n: images. {CHANCE}",
        ("class", "n", *(f"recall % {method}" for method in recalls)),
        tuple(rows),
        File.of_frame(name, frame),
    )


def confusions(name, labels, guesses, class_names):
    """Returns the most frequent confusions as a `Grid`, and all of them as its file; `None` if there are none.

    Args:
        name: Name of the file.
        labels: As in `worst_classes`.
        guesses: As in `worst_classes`.
        class_names: As in `worst_classes`.
    """
    import pandas as pd

    classes, images = len(class_names), np.bincount(labels, minlength=len(class_names))
    counts = {method: _confused(labels, of, classes) for method, of in guesses.items()}
    together = np.sum(list(counts.values()), axis=0)
    found = np.flatnonzero(together)
    order = found[np.argsort(-together[found], kind="stable")]
    if not len(order):
        return None
    table = {
        "label": [class_names[pair // classes] for pair in order],
        "prediction": [class_names[pair % classes] for pair in order],
        "n": images[order // classes],
        **{f"images {method}": of[order] for method, of in counts.items()},
    }
    rows = [
        (
            class_names[pair // classes],
            class_names[pair % classes],
            f"{images[pair // classes]:,}",
            *(f"{of[pair]:.3g} ({100 * of[pair] / images[pair // classes]:.1f} %)" for of in counts.values()),
        )
        for pair in order[:COUNT]
    ]
    networks = len(next(iter(guesses.values())))
    return Grid(
        f"The {len(rows)} most frequent confusions: images of a class that are taken for another, and their share of "
        f"the class; {_mean(networks)}. n: images of the class. {CHANCE}",
        ("label", "prediction", "n", *(f"images {method}" for method in counts)),
        tuple(rows),
        File.of_frame(name, pd.DataFrame(table)),
    )


def _recalls(labels, guesses, classes):
    """Returns the mean recall of each class over networks, NaN without images of it."""
    right = np.mean(guesses == labels, axis=0)
    with np.errstate(invalid="ignore"):
        return np.bincount(labels, right, classes) / np.bincount(labels, minlength=classes)


def _confused(labels, guesses, classes):
    """Returns, for each pair of classes, how many images are confused: the mean over networks, without those right."""
    pairs = labels * classes + guesses
    found = np.bincount(pairs.ravel(), minlength=classes * classes) / len(guesses)
    found[:: classes + 1] = 0
    return found


def _mean(networks):
    return "one network" if networks == 1 else f"the mean over {networks} networks of different seeds"


def _percent(value, low, high):
    return f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
