"""Results on disk: one directory per trial, `results.csv` over all that are finished.

`record.json` is written last, so that a trial with a record is finished. Tables and figures are made from records
and logits alone.
"""

import csv
import io
import json
import zipfile
from dataclasses import asdict

import numpy as np

from kls.utils.files import atomic_write

CLASS_LOSSES = "class_losses"
UNFAMILIAR = -1  # the label of every unfamiliar image
COLUMNS = (
    "trial", "study", "dataset", "model", "loss", "gamma", "seed", "epochs", "accuracy_best", "accuracy_last",
    "ece", "nll", "brier", "seconds", "images_per_second", "image_size", "batch_size", "precision", "train_images",
    "method",
)  # fmt: skip


class StoreError(Exception):
    """Stored results that are absent or damaged; the message says what to do."""


class RunStore:
    """The directory of a study's results.

    Args:
        out: The directory; made when first written to.
    """

    def __init__(self, out):
        self.out = out

    def directory(self, trial):
        return self.out / "trials" / trial.id

    def record(self, trial):
        """Returns the record of a finished trial, or `None`."""
        return _read_record(self.directory(trial) / "record.json")

    def failure(self, trial):
        """Returns the reason why a trial failed last time, or `None`."""
        path = self.directory(trial) / "failure.txt"
        return path.read_text() if path.is_file() else None

    def begin(self, trial):
        """Makes a trial's directory, writes its recipe and forgets an earlier failure."""
        directory = self.directory(trial)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / "trial.json", json.dumps(asdict(trial), indent=1))
        (directory / "failure.txt").unlink(missing_ok=True)
        return directory

    def finish(self, trial, study, record):
        """Writes a trial's record and `results.csv`."""
        record = {"trial": trial.id, "study": study, "method": trial.method, **asdict(trial), **record}
        write_atomically(self.directory(trial) / "record.json", json.dumps(record, indent=1))
        self.write_results()

    def fail(self, trial, reason):
        """Records why a trial failed."""
        write_atomically(self.directory(trial) / "failure.txt", reason)

    def records(self):
        """Returns the records of all finished trials, in an order that depends on them alone."""
        records = map(_read_record, (self.out / "trials").glob("*/record.json"))
        return sorted(
            filter(None, records),
            key=lambda r: (r["study"], r["dataset"], r["model"], -r["gamma"], r["seed"], r["trial"]),
        )

    def write_results(self):
        """Writes `results.csv`, a row per finished trial; a column `auroc_NAME` per unfamiliar data set."""
        records = self.records()
        aurocs = sorted({name for record in records for name in record if name.startswith("auroc_")})
        text = io.StringIO()
        columns = (*COLUMNS, *aurocs)
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write_atomically(self.out / "results.csv", text.getvalue())

    def write_history(self, trial, history):
        """Writes `history.csv`, a row of logs per epoch."""
        text = io.StringIO()
        names = list(dict.fromkeys(name for logs in history for name in logs))
        writer = csv.DictWriter(text, ["epoch", *names], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": i, **logs} for i, logs in enumerate(history, start=1))
        write_atomically(self.directory(trial) / "history.csv", text.getvalue())

    def write_class_losses(self, trial, losses, accuracies):
        """Keeps the mean loss and the accuracy of each class after each epoch, both of shape `(E, K)`."""
        self.write_arrays(trial, CLASS_LOSSES, {"losses": losses, "accuracies": accuracies})

    def class_losses(self, trial_id):
        """Returns `(losses, accuracies)` as `write_class_losses` took them, or `None` if they were not kept."""
        found = self.arrays(trial_id, CLASS_LOSSES)
        return found and (found["losses"], found["accuracies"])

    def write_arrays(self, trial, name, arrays):
        """Keeps `{name: array}` beside a trial's weights."""
        _write_arrays(self.directory(trial) / f"{name}.npz", arrays)

    def arrays(self, trial_id, name):
        """Returns what `write_arrays` took, or `None` if nothing of that name was kept."""
        path = self.out / "trials" / trial_id / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def write_outputs(self, trial, name, logits, labels, features=None, scores=None):
        """Keeps what a network makes of a split or data set.

        Args:
            trial: The `Trial`.
            name: Name of the split or data set.
            logits: Kept as float32.
            labels: Class indices, or `UNFAMILIAR`.
            features: Kept as float16 where they fit, else as float32.
            scores: `{name: array}` to keep too.
        """
        path = self.outputs_path(trial.id, name)
        path.parent.mkdir(exist_ok=True)
        arrays = {"logits": logits.astype(np.float32), "labels": labels, **(scores or {})}
        if features is not None:
            with np.errstate(over="ignore"):
                half = features.astype(np.float16)
            arrays["features"] = half if np.isfinite(half).all() else features.astype(np.float32)
        _write_arrays(path, arrays)

    def outputs(self, trial, name):
        """Returns all that was kept of a split or data set: `logits`, `labels`, `features` and scores by name."""
        return read_outputs(self.outputs_path(trial.id, name))

    def teacher_logits_path(self, teachers):
        """Returns where the logits of teachers' training images are kept, for all of their students."""
        return self.out / "teacher_logits" / f"{'-'.join(teacher.id for teacher in teachers)}.npy"

    def outputs_path(self, trial_id, name):
        return self.out / "trials" / trial_id / "logits" / f"{name}.npz"

    def logits(self, trial, name):
        """Returns `(logits, labels)` of a split or data set."""
        return read_logits(self.outputs_path(trial.id, name))

    def figure_path(self, name):
        """Returns where a figure belongs, in a directory that is there."""
        path = self.out / "figures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def read_outputs(path):
    """Returns the arrays of a file that `RunStore.write_outputs` wrote.

    Raises:
        StoreError: If it is absent or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        if not {"logits", "labels"} <= arrays.keys():
            raise ValueError(f"it holds {', '.join(arrays) or 'nothing'}")
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read ({error}). Delete {path.parents[1]} and train it again.") from error
    return arrays


def read_logits(path):
    """Returns `(logits, labels)` of a file that `RunStore.write_outputs` wrote; errors as in `read_outputs`."""
    found = read_outputs(path)
    return found["logits"], found["labels"]


def _write_arrays(path, arrays):
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def write_atomically(path, text):
    """Writes a text file aside and renames it, so that it is there whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def _read_record(path):
    """Returns a record, or `None` where there is none or a damaged one: then the trial is not finished.

    Records of earlier versions do not name their method, which was always smoothing.
    """
    try:
        record = json.loads(path.read_text())
        return {"method": f"gamma={record['gamma']:g}", **record}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
