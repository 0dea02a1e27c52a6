"""Which data sets a study opens: familiar ones, unfamiliar ones to hold them against, outliers to train with."""

import numpy as np

import decathlon
from benchmarks.runner.plan import PlanError
from decathlon.overlap import overlap
from decathlon.store import DataError, NotPreparedError, conform, open_like, prepare_command, prepared_sizes

TAKEN_NAMES = ("train", "validation", "test", "mean")


def check_prepared(names, data_dir):
    """Raises one `PlanError` that lists all data sets which are not prepared at any size, with their commands.

    Args:
        names: Names of data sets.
        data_dir: The data room's directory.
    """
    absent = [name for name in dict.fromkeys(names) if not is_prepared(name, data_dir)]
    if absent:
        raise PlanError(_absent(f"{name} is not prepared. Run: {prepare_command(name)}" for name in absent))


def is_prepared(name, data_dir):
    """Whether a data set can be opened at some size: it is prepared, or needs not be."""
    entry = decathlon.CATALOG.get(name)
    return (entry is not None and entry.source == "embedded") or bool(prepared_sizes(name, data_dir))


def open_familiar(names, image_size, data_dir):
    """Opens data sets to train on.

    Args:
        names: Names of prepared data sets.
        image_size: Prepared side in pixels, or `None`.
        data_dir: The data room's directory.

    Returns:
        `{name: Dataset}`.

    Raises:
        PlanError: If some are not prepared: one error with the commands that prepare all of them.
    """
    return _open_all("", dict.fromkeys(names), lambda name: decathlon.open(name, image_size, data_dir))


def open_unfamiliar(names, datasets, data_dir):
    """Opens the unfamiliar data sets of a study, at the size of the familiar ones where they are prepared at it.

    Args:
        names: Names of prepared data sets; or `{familiar name: names}`.
        datasets: The familiar `decathlon.Dataset`s.
        data_dir: The data room's directory.

    Returns:
        `{familiar name: {name: Dataset}}`. A set that is familiar to one network of several is unfamiliar to the others
        alone.

    Raises:
        PlanError: If a set is not prepared, is called like a split or the mean, or overlaps the familiar one.
    """
    datasets = {dataset.name: dataset for dataset in datasets}
    opened = {}
    for familiar in datasets.values():
        wanted = names.get(familiar.name, ()) if isinstance(names, dict) else names
        others = [name for name in dict.fromkeys(wanted) if name != familiar.name or len(datasets) == 1]
        for name in set(others) & set(TAKEN_NAMES):
            raise PlanError(
                f"--ood {name}: a data set of that name cannot be told from a split of the familiar one, or from the "
                "mean over all sets."
            )
        opened[familiar.name] = _open_others("--ood", others, familiar, data_dir)
        for other in opened[familiar.name].values():
            _refuse_overlap("--ood", familiar, other, other.evaluation)
    return opened


def open_outliers(names, familiar, data_dir):
    """Opens data sets whose training images are to be outliers.

    Args:
        names: Names of prepared data sets.
        familiar: The `decathlon.Dataset` that they are outliers of.
        data_dir: The data room's directory.

    Returns:
        `{name: Dataset}`.

    Raises:
        PlanError: If a set is not prepared, or overlaps the familiar one.
    """
    opened = _open_others("--outliers", names, familiar, data_dir)
    for other in opened.values():
        _refuse_overlap("--outliers", familiar, other, "train")
    return opened


def outlier_images(outliers, image_shape):
    """Returns the training images of all outlier sets, brought to a shape: uint8 `(N, H, W, C)`.

    Args:
        outliers: `Dataset`s.
        image_shape: `(height, width, channels)`.
    """
    parts = [conform(outlier.split("train")[0], image_shape) for outlier in outliers]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _open_others(flag, names, familiar, data_dir):
    try:
        return _open_all(f"{flag}: ", names, lambda name: open_like(name, familiar.image_shape, data_dir))
    except (DataError, ValueError) as error:
        raise PlanError(f"{flag} {' '.join(names)}: {error}") from None


def _open_all(prefix, names, open_one):
    opened, absent = {}, []
    for name in names:
        try:
            opened[name] = open_one(name)
        except NotPreparedError as error:
            absent.append(str(error))
    if absent:
        raise PlanError(prefix + _absent(absent))
    return opened


def _absent(reasons):
    return "\n  ".join(["data sets have to be prepared first:", *reasons])


def _refuse_overlap(flag, familiar, other, split):
    reason = overlap(familiar, other, split)
    if reason:
        raise PlanError(
            f"{flag} {other.name}: its images are not unfamiliar to a network of {familiar.name}: {reason}."
        )
