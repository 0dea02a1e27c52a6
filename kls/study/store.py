"""Results on disk: one directory per trial, `results.csv` over all that are finished.

`record.json` is written last, so that a trial with a record is finished. Tables and figures are made from records
and logits alone. One command at a time writes into the directory; reading is always safe.
"""

import json
import sys
import zipfile
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from kls.study.records import (
    HISTORY,
    RECORD,
    WEIGHTS,
    StoreError,
    check_file,
    hash_files,
    how_to_go_on,
    read_record,
    seal,
)
from kls.utils.escaping import escape_csv
from kls.utils.files import atomic_write, remove_partial, write_atomically

CLASS_LOSSES = "class_losses"
OOD = -1  # the label of every OOD sample
VALIDATION = "validation"  # the split that a best method is chosen on
COLUMNS = (
    "trial", "study", "dataset", "model", "loss", "gamma", "seed", "epochs", "accuracy_best", "accuracy_last",
    "ece", "nll", "brier", "seconds", "images_per_second", "image_size", "batch_size", "precision", "train_images",
    "method",
)  # fmt: skip
PATIENCE = 60  # seconds until a process whose command was killed has ended, too
DEVIATIONS = {"float32": 0.01, "mixed_bfloat16": 0.1}  # of another processor, as a share of the largest logit


class RunStore:
    """The directory of a study's results.

    Args:
        out: The directory; made when first written to.

    Attributes:
        left_out: Why trials are left out of all tables, a sentence each.
        unwritten: Why tables and figures could not be written, a sentence each.
    """

    def __init__(self, out):
        self.out = out
        self.left_out = []
        self.unwritten = []

    @contextmanager
    def writing(self):
        """Keeps other commands from writing into the directory until the block or the process ends.

        A directory that cannot be written to can still be read in the block.

        Raises:
            StoreError: If another command is writing there.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with self.going_on_if_unwritten():
                try:
                    stack.enter_context(self._lock("writer", timeout=0))
                except Timeout:
                    raise StoreError(
                        f"Another command is writing in {self.out}. Wait until it has ended, or give another --out."
                    ) from None
            yield

    @contextmanager
    def claim(self, trial):
        """Keeps other processes from writing a trial's files until the block or the process ends.

        The workers of a command that was killed outlive it for a moment: they are waited for. What they left half
        written is removed.

        Raises:
            StoreError: If another process does not end.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._lock(trial.id, PATIENCE))
            except Timeout:
                raise StoreError(f"Another process is still writing in {self.directory(trial)}.") from None
            remove_partial(self.directory(trial))
            yield

    def _lock(self, name, timeout):
        path = self.out / ".locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path).acquire(timeout)

    @contextmanager
    def going_on_if_unwritten(self):
        """Says what cannot be written and goes on, where what is shown does not depend on it."""
        try:
            yield
        except OSError as error:
            self.unwritten.append(str(error))
            print(f"error: cannot write: {error}", file=sys.stderr)

    def directory(self, trial):
        return self.out / "trials" / trial.id

    def record(self, trial):
        """Returns the record of a finished trial, or `None`.

        Raises:
            StoreError: If it is damaged.
        """
        return read_record(self.directory(trial))

    def found(self, trial):
        """Returns the record of a finished trial, or `None`, also where it is damaged, which is said."""
        with self._leaving_out():
            return self.record(trial)

    def is_finished(self, trial):
        """Whether a trial has a record, be it damaged."""
        return (self.directory(trial) / RECORD).exists()

    def failure(self, trial):
        """Returns the reason why a trial that is not finished failed last time, or `None`."""
        path = self.directory(trial) / "failure.txt"
        return path.read_text() if path.is_file() and not self.is_finished(trial) else None

    def begin(self, trial):
        """Makes a trial's directory, writes its recipe and forgets an earlier failure."""
        directory = self.directory(trial)
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / "trial.json", json.dumps(trial.recipe, indent=1))
        (directory / "failure.txt").unlink(missing_ok=True)
        return directory

    def finish(self, trial, study, record):
        """Writes a trial's record, with the hashes of the trial's files, and `results.csv`."""
        method = trial.method
        names = {"trial": trial.id, "study": study, "method": method.label, "loss": method.name, "gamma": method.gamma}
        record = {**record, **names, "starts_anew": trial.starts_anew, "recipe": trial.recipe}
        self._write_record(trial, {**record, "sha256": hash_files(self.directory(trial))})
        (self.directory(trial) / "failure.txt").unlink(missing_ok=True)
        self.write_results()

    def forget(self, trial, names):
        """Takes OOD datasets, which are others now, out of a finished trial's record."""
        record = self.record(trial)
        for name in names:
            del record["ood"][name], record[f"auroc_{name}"]
            record["sha256"].pop(f"logits/{name}.npz", None)
        self._write_record(trial, record)

    def _write_record(self, trial, record):
        write_atomically(self.directory(trial) / RECORD, json.dumps(seal(record), indent=1))

    def fail(self, trial, reason):
        """Records why a trial failed."""
        write_atomically(self.directory(trial) / "failure.txt", reason)

    def records(self):
        """Returns the records of all finished trials, in an order that depends on them alone.

        Damaged ones are left out, and named.
        """
        records = []
        for path in sorted((self.out / "trials").glob(f"*/{RECORD}")):
            with self._leaving_out():
                records.append(read_record(path.parent))
        return sorted(records, key=lambda r: (r["study"], r["dataset"], r["model"], -r["gamma"], r["seed"], r["trial"]))

    def believed(self, records):
        """Returns those records whose trials have the history and the outputs that they had; the others are named.

        Args:
            records: Records of finished trials.
        """
        found = []
        for record in records:
            with self._leaving_out():
                found.append(self._checked(record))
        return found

    def _checked(self, record):
        """Returns a record whose outputs are checked: the latest, if another command writes the trial's meanwhile."""
        try:
            self.check_outputs(record)
        except StoreError:
            latest = read_record(self.out / "trials" / record["trial"])
            if latest in (record, None):
                raise
            return self._checked(latest)
        return record

    @contextmanager
    def _leaving_out(self):
        """Names what is damaged, once, and goes on without it."""
        try:
            yield
        except StoreError as error:
            if str(error) not in self.left_out:
                self.left_out.append(str(error))
                print(f"left out: {error}", file=sys.stderr)

    def check_outputs(self, record):
        """Raises `StoreError` unless a trial's files, but for its weights, are those that it wrote.

        The accuracies of its record must be those of its logits and of its history.
        """
        directory = self.out / "trials" / record["trial"]
        for name in record["sha256"]:
            if name != WEIGHTS:
                check_file(directory, record, name)
        logits, labels = read_logits(self.outputs_path(record["trial"], record["evaluation"]))
        epochs = pd.read_csv(directory / HISTORY, dtype=str)["val_accuracy"].map(float)
        count = record["evaluation_images"]
        found = {
            "accuracy_last": float(np.mean(logits.argmax(axis=-1) == labels)),
            "accuracy_best": max(round(accuracy * count) for accuracy in epochs) / count,
        }
        for name, value in found.items():
            if record[name] != value:
                raise StoreError(
                    f"{directory / RECORD} is damaged: its {name} is {record[name]}, that of the files beside it "
                    f"{value}. {how_to_go_on(directory)}"
                )

    def weights(self, trial):
        """Returns the path of a finished trial's weights.

        Raises:
            StoreError: If it is not finished, or if these are not the weights that it ended with.
        """
        record, directory = self.record(trial), self.directory(trial)
        if record is None:
            raise StoreError(f"{trial.label} has to be trained first: there is no record in {directory}.")
        check_file(directory, record, WEIGHTS)
        return directory / WEIGHTS

    def write_results(self):
        """Writes `results.csv`, a row per finished trial; a column `auroc_NAME` per OOD dataset."""
        records = self.records()
        with self.going_on_if_unwritten():
            write_atomically(self.out / "results.csv", frame_of(records, object).map(escape_csv).to_csv(index=False))

    def write_history(self, trial, history):
        """Writes `history.csv`, a row of logs per epoch."""
        frame = pd.DataFrame([{"epoch": i, **logs} for i, logs in enumerate(history, start=1)])
        write_atomically(self.directory(trial) / HISTORY, frame.to_csv(index=False))

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
        """Keeps what a network makes of a split or dataset.

        Logits that the record of a finished trial tells of stay as they are: others are refused.

        Args:
            trial: The `Trial`.
            name: Name of the split or dataset.
            logits: Kept as float32.
            labels: Class indices, or `OOD`.
            features: Kept as float16 where they fit, else as float32.
            scores: `{name: array}` to keep too.

        Raises:
            StoreError: If the network of a finished trial gives other logits than it did, further from these than
                another processor's rounding explains.
        """
        path = self.outputs_path(trial.id, name)
        record = self.record(trial)
        if record is not None:
            if name in (record["evaluation"], *record["ood"]) or has_outputs(record, name):
                logits = _stored_logits(path, logits, DEVIATIONS[trial.precision])
            record["sha256"].pop(f"logits/{name}.npz", None)  # until `finish`, it would be that of the old file
            self._write_record(trial, record)
        arrays = {"logits": logits.astype(np.float32), "labels": labels, **(scores or {})}
        if features is not None:
            with np.errstate(over="ignore"):
                half = features.astype(np.float16)
            arrays["features"] = half if np.isfinite(half).all() else features.astype(np.float32)
        _write_arrays(path, arrays)

    def outputs(self, trial, name):
        """Returns all that was kept of a split or dataset: `logits`, `labels`, `features` and scores by name."""
        return read_outputs(self.outputs_path(trial.id, name))

    def teacher_logits_path(self, teachers):
        """Returns where the logits of teachers' training images are kept, for all of their students."""
        return self.out / "teacher_logits" / f"{'-'.join(teacher.id for teacher in teachers)}.npy"

    def features_path(self, key):
        """Returns where the features of a split are kept, for all heads that are trained or judged on them."""
        return self.out / "features" / f"{key}.npy"

    def outputs_path(self, trial_id, name):
        return self.out / "trials" / trial_id / "logits" / f"{name}.npz"

    def logits(self, trial, name):
        """Returns `(logits, labels)` of a split or dataset."""
        return read_logits(self.outputs_path(trial.id, name))

    def show(self, table, frame):
        """Prints a table and writes it with its numbers into `tables`."""
        with self.going_on_if_unwritten():
            table.show(self.out / "tables", frame)

    def show_text(self, name, text):
        """Prints a text and writes it into a file of that name."""
        print(f"\n{text}", flush=True)
        with self.going_on_if_unwritten():
            write_atomically(self.out / name, f"{text}\n")

    def write_table(self, table, frame):
        """Writes a table with its numbers into `tables`."""
        with self.going_on_if_unwritten():
            table.write(self.out / "tables", frame)

    def write_figure(self, name, figure, dpi):
        """Writes a Matplotlib figure into `figures`."""
        with self.going_on_if_unwritten(), atomic_write(self.out / "figures" / f"{name}.png") as file:
            figure.savefig(file, dpi=dpi, format="png")


def has_outputs(record, name):
    """Whether a finished trial has stored what its network makes of a split or dataset."""
    return f"logits/{name}.npz" in record["sha256"]


def frame_of(records, dtype=None):
    """Returns a row per record with the columns of `results.csv`, the last of which are `auroc_NAME`."""
    frame = pd.DataFrame(records, dtype=dtype)
    aurocs = sorted(name for name in frame if name.startswith("auroc_"))
    return frame.reindex(columns=[*COLUMNS, *aurocs])


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
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} cannot be read ({error}). {how_to_go_on(path.parents[1])}") from error
    return arrays


def read_logits(path):
    """Returns `(logits, labels)` of a file that `RunStore.write_outputs` wrote; errors as in `read_outputs`."""
    found = read_outputs(path)
    return found["logits"], found["labels"]


def _stored_logits(path, logits, deviation):
    """Returns the logits of a file if others agree with them, up to a share of the largest."""
    stored, _ = read_logits(path)
    largest = np.abs(stored).max(initial=0)
    if logits.shape == stored.shape and np.abs(logits - stored).max(initial=0) <= deviation * largest:
        return stored
    raise StoreError(
        f"{path} holds other logits than its trial's weights give now: nothing was stored. "
        f"{how_to_go_on(path.parents[1])}"
    )


def _write_arrays(path, arrays):
    with atomic_write(path) as file:
        np.savez(file, **arrays)
