"""The images of a report: where they are, and which of them are to be looked at."""

from pathlib import Path

import numpy as np

from decathlon.store import DataError, default_data_dir, load
from kls.calibration.samples import softmax
from kls.pages.page import Text
from kls.pages.thumbnails import confidently_wrong, least_in_distribution, pictures_of
from kls.study.outputs import score_of_logits
from kls.study.report.comparisons import SCORE


def find_dataset(record, manifest=None, data_dir=None):
    """Returns the prepared dataset of a record and `""`, or `None` and why it cannot be had, a sentence.

    Args:
        record: The record of a finished trial.
        manifest: The `Manifest` of its study, which says where the dataset was.
        data_dir: The data directory to look in, in place of that.
    """
    name = record["dataset"]
    path = Path(data_dir or default_data_dir()) / f"{name}-{record['image_size']}"
    if data_dir is None and manifest is not None and name in manifest.datasets:
        if manifest.datasets[name] is None:
            return None, f"{name} was given as arrays, which are not kept."
        path = Path(manifest.datasets[name])
    try:
        dataset = load(path)
    except (DataError, OSError) as error:
        return None, str(error)
    if dataset.fingerprint != record["data"]:
        return None, f"{path} holds other images than those of this study."
    return dataset, ""


def image_parts(group):
    """Returns the images of one network that are wrong with most confidence, and those that score lowest."""
    record = group.chosen
    if group.dataset is None:
        return (Text(f"There are no images to show: {group.reason}"),)
    if not getattr(group.dataset, "are_images", True):
        return (Text("There are no images to show: the samples are features."),)
    logits, labels = group.outputs(record)
    images, own_labels = group.dataset.split(record["evaluation"])
    if not np.array_equal(own_labels, labels):
        return (Text("There are no images to show: those of the dataset are not those that were evaluated."),)
    guesses, confidence = logits.argmax(axis=1), softmax(logits).max(axis=1)
    scores = score_of_logits(logits, SCORE)
    wrong, least = confidently_wrong(labels, guesses, confidence), least_in_distribution(scores)
    network = f"the network of {record['method']}, seed {record['seed']}, as trained, on {group.evaluated}"
    given, names = (images, labels, guesses), group.class_names
    caption = f"Wrong with most confidence: {network}. Look for wrong labels here."
    lowest = f"Least in-distribution by maximum softmax probability: {network}."
    parts = [pictures_of(f"{group.prefix}wrong", caption, wrong, *given, confidence, "confidence", names)]
    if not len(wrong):
        parts = [Text(f"No image is wrong: {network}.")]
    return (*parts, pictures_of(f"{group.prefix}unusual", lowest, least, *given, scores, "score", names))
