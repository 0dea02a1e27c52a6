"""What a trained network makes of its evaluation split and of OOD data, and the metrics of that."""

from dataclasses import dataclass, field

import numpy as np

from decathlon.batches import Batches
from kls.calibration import summarize
from kls.ood import auroc
from kls.ood.scores import SCORES, msp
from kls.study.data import conformed
from kls.study.plan import PlanError
from kls.study.store import OOD, has_outputs
from kls.utils.feature_extractor import Outputs

BINS, CONVENTION = 15, "guo"
FEATURES_AT_ONCE = 4096  # samples of a batch that is judged, of features of one row each


@dataclass(frozen=True)
class Wanted:
    """What to store of a trained network beside the logits of its evaluation split.

    Attributes:
        ood: `{name: Dataset}` of OOD data whose logits to store too.
        splits: Names of further splits whose logits to store.
        features: Whether to store the features before the last layer.
        scores: Names of `kls.ood.scores` to store; those of logits alone need not be.
        class_losses: Whether to store the loss of each class on the evaluation split after each epoch of training.
    """

    ood: dict = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    features: bool = False
    scores: tuple[str, ...] = ()
    class_losses: bool = False

    def __post_init__(self):
        object.__setattr__(self, "scores", tuple(name for name in self.scores if needs_network(name)))


def needs_network(name):
    """Whether a score needs more than logits: features, training data or the images."""
    score = SCORES[name]()
    return score.uses_features or score.uses_training_data or score.uses_images


def write_outputs(network, trial, dataset, store, wanted):
    """Stores a network's logits on its evaluation split, other splits and OOD data, with features and scores wanted.

    Of ODIN the logits of the perturbed images are stored, from which `score_of` takes the score.

    Args:
        network: The trained `kls.utils.feature_extractor.Network`.
        trial: Its `Trial`.
        dataset: The opened dataset that it was trained on.
        store: The `RunStore`.
        wanted: A `Wanted`; OOD images are brought to the size and channels of the ID ones.

    Returns:
        What to record of it: the name of the evaluation split, the fingerprints of the OOD datasets, and of which
        data features and scores are kept.
    """
    scores = {name: SCORES[name]() for name in wanted.scores}
    by_images = {name: score.perturbed_logits for name, score in scores.items() if score.uses_images}
    with_features = wanted.features or any(score.uses_features for score in scores.values())
    to_fit = [score for score in scores.values() if score.uses_training_data]
    if to_fit:
        training = network.outputs(evaluation_batches(trial, dataset, *dataset.split("train")), with_features)
        for score in to_fit:
            score.fit_outputs(training)
    sources = {name: dataset.split(name) for name in (dataset.evaluation, *wanted.splits)}
    for name, other in wanted.ood.items():
        images, _ = other.split(other.evaluation)
        sources[name] = conformed(images, dataset.image_shape), np.full(len(images), OOD)
    for name, (images, labels) in sources.items():
        batches = evaluation_batches(trial, dataset, images, np.maximum(labels, 0))
        outputs = network.outputs(batches, with_features, image_scores=by_images)
        found = {name: score.of_outputs(outputs) for name, score in scores.items() if name not in by_images}
        features = outputs.features if wanted.features else None
        store.write_outputs(trial, name, outputs.logits, labels, features, {**outputs.scores, **found})
    return {
        "evaluation": dataset.evaluation,
        "ood": {name: other.fingerprint for name, other in wanted.ood.items()},
        "features": sorted(sources) if wanted.features else [],
        "scores": {name: sorted(sources) for name in scores},
    }


def score_of(arrays, name):
    """Returns a score of stored outputs.

    Args:
        arrays: What `RunStore.outputs` returns.
        name: Name of a score of logits, or of one that was stored.
    """
    if name not in arrays:
        return score_of_logits(arrays["logits"], name)
    return score_of_logits(arrays[name], name) if arrays[name].ndim == 2 else arrays[name]


def score_of_logits(logits, name):
    """Returns a score of logits; ODIN's of those of its perturbed images."""
    return SCORES[name]().of_outputs(Outputs(logits))


def evaluation_batches(trial, dataset, images, labels, replicas=1):
    """Returns batches of images in their order, as they are."""
    largest = FEATURES_AT_ONCE if images.ndim == 2 else trial.batch_size
    size = evaluation_batch_size(len(images), largest, replicas)
    return Batches(images, labels, classes=dataset.classes, batch_size=size)


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


def is_complete(record, wanted):
    """Whether a finished trial has stored all outputs that are wanted, of these very data."""
    sources = {record["evaluation"], *wanted.splits, *wanted.ood}
    return (
        all(record["ood"].get(name) == other.fingerprint for name, other in wanted.ood.items())
        and all(has_outputs(record, name) for name in wanted.splits)
        and (not wanted.features or sources <= set(record["features"]))
        and all(sources <= set(record["scores"].get(name, ())) for name in wanted.scores)
    )


def measure(store, trial, record):
    """Returns a trial's metrics from its stored logits: `accuracy_last`, `ece`, `nll`, `brier`, `auroc_NAME` by MSP.

    Args:
        store: The `RunStore`.
        trial: The `Trial`.
        record: What `write_outputs` returned, or a record that contains it.

    Returns:
        Dictionary for the record, the convention of the ECE included.
    """
    logits, labels = store.logits(trial, record["evaluation"])
    found = summarize(labels, logits, BINS, from_logits=True, convention=CONVENTION)
    id_scores = msp(logits) if record["ood"] else None
    return {
        "accuracy_last": float(np.mean(logits.argmax(axis=-1) == labels)),
        **{name: found[name] for name in ("ece", "nll", "brier")},
        "ece_bins": BINS,
        "ece_convention": CONVENTION,
        **{f"auroc_{name}": auroc(id_scores, msp(store.logits(trial, name)[0])) for name in sorted(record["ood"])},
    }
