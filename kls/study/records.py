"""Records of finished trials, and the checks by which they are believed.

A record holds the recipe, the metrics, the sha256 of each file that the trial wrote, and a checksum of all of these.
"""

import hashlib
import json

from kls.study.trial import recipe_id
from kls.utils.arrays import check_number, check_whole, shown
from kls.utils.files import write_atomically

RECORD = "record.json"
WEIGHTS = "weights.weights.h5"
HISTORY = "history.csv"
FILES = (WEIGHTS, HISTORY, "threshold.json", "*.npz", "logits/*.npz")
FRACTIONS = ("accuracy_best", "accuracy_last", "accuracy_train")
METRICS = ("ece", "nll", "brier", "seconds", "images_per_second")
COUNTS = ("train_images", "evaluation_images", "classes", "parameters")


class StoreError(Exception):
    """Stored results that are absent or damaged; the message says what to do."""


def _is_text(value):
    return isinstance(value, str)


def _are_texts(value):
    return isinstance(value, list) and all(map(_is_text, value))


def _maps_to(check):
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


KINDS = {
    **dict.fromkeys(("trial", "study", "method", "loss", "evaluation", "checksum"), (_is_text, "a text")),
    "recipe": (lambda value: isinstance(value, dict) and isinstance(value.get("method"), dict), "a recipe"),
    "starts_anew": (lambda value: isinstance(value, bool), "true or false"),
    "features": (_are_texts, "a list of texts"),
    **dict.fromkeys(("ood", "sha256"), (_maps_to(_is_text), "texts by name")),
    "scores": (_maps_to(_are_texts), "lists of texts by name"),
}


def seal(record):
    """Returns a record as it is written: without the recipe's values, which `recipe` holds, and with a checksum."""
    left_out = {"checksum", *record["recipe"]} - {"method"}
    record = {name: value for name, value in record.items() if name not in left_out}
    text = json.dumps(record, sort_keys=True)
    return {**record, "checksum": hashlib.sha256(text.encode()).hexdigest()}


def read_record(directory):
    """Returns the record of a trial's directory, with the values of its recipe, or `None` where there is none.

    Raises:
        StoreError: If it is damaged: it is no record, its recipe is not that of the directory's trial, a metric is
            missing or of another type, or it has been changed.
    """
    path = directory / RECORD
    try:
        record = json.loads(path.read_bytes())
        _check(record, directory.name)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged ({error}). {how_to_go_on(directory)}") from None
    return {**record["recipe"], **record}


def how_to_go_on(directory):
    """Returns a sentence on what to do about a trial that cannot be believed."""
    return f"To train it again, delete {directory}."


def _check(record, trial_id):
    if not isinstance(record, dict):
        raise ValueError(f"it must be an object. Received: {shown(record)}")
    missing = {"gamma", *FRACTIONS, *METRICS, *COUNTS, *KINDS} - record.keys()
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    for name, (fits, kind) in KINDS.items():
        if not fits(record[name]):
            raise ValueError(f"{name} must be {kind}. Received: {shown(record[name])}")
    if not record["trial"] == recipe_id(record["recipe"]) == trial_id:
        raise ValueError(f"its recipe is that of the trial {recipe_id(record['recipe'])}")
    for name in COUNTS:
        check_whole(record[name], name, 1)
    for name in METRICS:
        check_number(record[name], name, "[0, inf)")
    for name in (*FRACTIONS, *(f"auroc_{other}" for other in record["ood"])):
        check_number(record.get(name), name, "[0, 1]")
    if record != seal(record):
        raise ValueError("it was changed after it was written")


def hash_files(directory):
    """Returns the sha256 of each file that a trial has written, by its path in the trial's directory."""
    paths = sorted(path for pattern in FILES for path in directory.glob(pattern))
    return {path.relative_to(directory).as_posix(): hash_file(path) for path in paths}


def check_file(directory, record, name):
    """Raises `StoreError` unless a file is the one that the trial wrote, by its record."""
    path = directory / name
    if not path.is_file():
        raise StoreError(f"{path} is missing. {how_to_go_on(directory)}")
    if record["sha256"].get(name) != hash_file(path):
        raise StoreError(f"{path} is damaged: it was changed after it was written. {how_to_go_on(directory)}")


def hash_file(path):
    """Returns the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal_file(path):
    """Writes the sha256 of a file beside it, for `is_sealed`."""
    write_atomically(_mark(path), hash_file(path))


def is_sealed(path):
    """Whether a file is there as it was when `seal_file` was called."""
    return path.is_file() and _mark(path).is_file() and _mark(path).read_text() == hash_file(path)


def _mark(path):
    return path.with_name(f"{path.name}.sha256")
