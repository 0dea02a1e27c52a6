"""What a trained network makes of its evaluation split and of unfamiliar data, and the measures of that."""

import keras
import numpy as np

from benchmarks.runner.plan import PlanError
from benchmarks.runner.store import UNFAMILIAR
from decathlon.batches import Batches
from decathlon.store import DataError, conform, open_like
from kls.calibration import summarize
from kls.feeding import feed
from kls.ood import auroc
from kls.ood.scores import msp

BINS, CONVENTION = 15, "guo"
SPLITS = ("train", "validation", "test")


def open_unfamiliar(names, datasets, data_dir):
    """Opens the unfamiliar data sets of a study, at the size of the familiar ones where they are prepared at it.

    Args:
        names: Names of prepared data sets.
        datasets: The familiar `decathlon.Dataset`s.
        data_dir: The data room's directory.

    Returns:
        `{familiar name: {name: Dataset}}`, without the familiar set itself among several.

    Raises:
        PlanError: If a set is not prepared, is called like a split, or is all that a familiar set would be held
            against.
    """
    opened = {}
    for familiar in datasets:
        others = [name for name in dict.fromkeys(names) if name != familiar.name]
        if names and not others:
            raise PlanError(f"--ood must name another set than {familiar.name}, which is familiar to its network.")
        opened[familiar.name] = {name: _open_unfamiliar(name, familiar, data_dir) for name in others}
    return opened


def _open_unfamiliar(name, familiar, data_dir):
    if name in SPLITS:
        raise PlanError(f"--ood {name}: a data set of that name cannot be told from a split of the familiar one.")
    try:
        return open_like(name, familiar.image_shape, data_dir)
    except DataError as error:
        raise PlanError(f"--ood {name}: {error}") from None


def write_outputs(model, trial, dataset, store, unfamiliar, keep_features=False, replicas=1):
    """Stores a network's logits on its evaluation split and on unfamiliar data.

    Args:
        model: The trained model, which returns logits.
        trial: Its `Trial`.
        dataset: The opened familiar `decathlon.Dataset`.
        store: The `RunStore`.
        unfamiliar: `{name: Dataset}`; their images are brought to the familiar size and channels.
        keep_features: Whether to keep the features before the last layer too, as float16.
        replicas: Number of replicas that share a batch.

    Returns:
        What to record of it: the name of the evaluation split, the fingerprints of the unfamiliar sets, and of which
        features are kept.
    """
    if keep_features:
        model = keras.Model(model.inputs, [model.outputs[0], model.get_layer("classifier").input])
    sources = {dataset.evaluation: dataset.split(dataset.evaluation)}
    for name, other in unfamiliar.items():
        images, _ = other.split(other.evaluation)
        sources[name] = conform(images, dataset.image_shape), np.full(len(images), UNFAMILIAR)
    for name, (images, labels) in sources.items():
        batches = evaluation_batches(trial, dataset, images, np.maximum(labels, 0), replicas)
        found = model.predict(feed(batches), verbose=0)
        logits, features = found if keep_features else (found, None)
        store.write_logits(trial, name, logits, labels, features)
    return {
        "evaluation": dataset.evaluation,
        "ood": {name: other.fingerprint for name, other in unfamiliar.items()},
        "features": sorted(sources) if keep_features else [],
    }


def evaluation_batches(trial, dataset, images, labels, replicas=1):
    """Returns batches of images prepared as a trial's own are."""
    size = evaluation_batch_size(len(images), trial.batch_size, replicas)
    mean = dataset.mean if trial.subtract_mean else None
    return Batches(images, labels, classes=dataset.classes, batch_size=size, mean=mean)


def evaluation_batch_size(count, batch_size, replicas):
    """Returns the largest size up to `batch_size` of which every replica gets a share, also of the last batch.

    TensorFlow deals out ceil(images / replicas) to one replica after the other and cannot convolve an empty share;
    Keras builds on a first batch that is shared evenly.
    """

    def shared_by_all(images):
        return images == 0 or (replicas - 1) * -(-images // replicas) < images

    largest = min(batch_size, count) // replicas * replicas
    for size in range(largest, 0, -replicas):
        if shared_by_all(count % size):
            return size
    raise PlanError(f"{count} evaluation images cannot be shared by {replicas} replicas so that none is left empty")


def is_complete(record, unfamiliar, keep_features):
    """Whether a finished trial has stored all outputs that are asked for, of these very data."""
    kept = record.get("ood", {})
    wanted = {name: other.fingerprint for name, other in unfamiliar.items()}
    return (
        "evaluation" in record
        and all(kept.get(name) == fingerprint for name, fingerprint in wanted.items())
        and (not keep_features or {record["evaluation"], *wanted} <= set(record["features"]))
    )


def measure(store, trial, record):
    """Returns a trial's measures from its stored logits: `ece`, `nll`, `brier` and `auroc_NAME` by MSP.

    Args:
        store: The `RunStore`.
        trial: The `Trial`.
        record: What `write_outputs` returned, or a record that contains it.

    Returns:
        Dictionary for the record, the convention of the ECE included.
    """
    logits, labels = store.logits(trial, record["evaluation"])
    found = summarize(labels, logits, BINS, from_logits=True, convention=CONVENTION)
    familiar = msp(logits) if record["ood"] else None
    return {
        **{name: found[name] for name in ("ece", "nll", "brier")},
        "ece_bins": BINS,
        "ece_convention": CONVENTION,
        **{f"auroc_{name}": auroc(familiar, msp(store.logits(trial, name)[0])) for name in sorted(record["ood"])},
    }
