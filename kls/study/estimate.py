"""How long a trial would take: how much there is to do, and a few timed steps on this machine."""

import time
from functools import cached_property

import keras
import numpy as np

from kls.study.devices import precision_policy
from kls.study.networks import build_network
from kls.study.train import compiled_model
from kls.study.train_heads import Stack, trains_together
from kls.study.training import Training

WARM_UP_STEPS = 3
RATE_STEPS = 8
PIXELS_PER_IMAGE = 512  # what an image costs besides its own pixels, roughly: each layer has a price of its own
PIXELS_OF_A_HEAD = 50  # what the features of an image cost all heads of a group, in pixels of an image, roughly


def steps_per_epoch(trial, dataset):
    """Returns the number of batches that a trial trains on per epoch: whole ones alone."""
    _, labels = dataset.split("train")
    rows = trial.method.trained_on(trial, labels)
    return (len(labels) if rows is None else int(rows.sum())) // trial.batch_size


def training_steps(trial, dataset):
    """Returns the number of batches that a trial trains on in all epochs."""
    return trial.epochs * steps_per_epoch(trial, dataset)


def epoch_work(trial, dataset):
    """Returns the cost of an epoch, by which epochs of different trials compare.

    Args:
        trial: The `Trial`.
        dataset: Its opened dataset.
    """
    images = steps_per_epoch(trial, dataset) * trial.batch_size
    pixels = PIXELS_OF_A_HEAD if trial.of_features else np.prod(dataset.image_shape[:2]) + PIXELS_PER_IMAGE
    return float(trial.method.cost(trial) * images * pixels)


class Rehearsal(Training):
    """A training before the trials that it starts from are finished: their weights, and features, do not matter."""

    @cached_property
    def _data(self):
        return _blank(self.dataset) if self.trial.of_features else super()._data

    def other_images(self):
        if not self.trial.of_features:
            return super().other_images()
        return np.concatenate([_blank(other)[0] for other in self.others])

    def initial_network(self):
        self.head = None
        return super().initial_network()

    def _network_of(self, parent, own):
        return build_network(parent, self.dataset, own)

    def parent_logits(self):
        return np.zeros((len(self.images), len(self.parent_trials), self.dataset.classes), np.float32)


def _blank(features):
    """Returns training features and labels, the former zeros: none are computed."""
    labels = features.source.split("train")[1]
    return np.zeros((len(labels), *features.image_shape), np.float32), labels


def measure_rate(rehearsals, compile_function=None):
    """Returns the images per second of `RATE_STEPS` training steps of a group of trials, after the model is compiled.

    Args:
        rehearsals: The `Rehearsal`s of trials that are trained at once, most often of a single one.
        compile_function: As in `train`.
    """
    first = rehearsals[0]
    trial = first.trial
    keras.utils.set_random_seed(trial.seed)
    batches = trial.method.batches(first)
    with precision_policy(trial.precision):
        if trains_together(trial):
            model = Stack(rehearsals, len(batches)).model
        else:
            model = compiled_model(first, len(batches), compile_function)
        for step in range(WARM_UP_STEPS + RATE_STEPS):
            if step == WARM_UP_STEPS:
                start = time.perf_counter()
            model.train_on_batch(*batches.batch(0, step % len(batches)))
    return RATE_STEPS * trial.batch_size / (time.perf_counter() - start)


def seconds_of_features(missing):
    """Returns how long it would take to compute features, from a second batch of images.

    Args:
        missing: Pairs `(Features, split)` of a single backbone, as `Trainer.missing_features` returns them.
    """
    if not missing:
        return 0.0
    features, split = missing[0]
    images = features.backbone.first_images(features.source, split)
    features.backbone.of(images)
    start = time.perf_counter()
    features.backbone.of(images)
    per_image = (time.perf_counter() - start) / len(images)
    return per_image * sum(features.counts[split] for features, split in missing)


def seconds_of(study):
    """Returns how long the training of each trial would take, those not finished, and the features that they read.

    Args:
        study: The `kls.Study`.

    Returns:
        `{trial: seconds}`, the trials of a group sharing its time, and the seconds of the features.
    """
    trainer, store = study.trainer, study.store
    waiting = [trial for trial in study.plan().trials if not store.is_finished(trial)]
    rates, found = {}, {}
    for group in trainer.groups(waiting):
        trial = group[0]
        kind = _kind(trial, trainer.plan.parents(trial))
        if kind not in rates:
            rehearsals = [trainer.training(member, Rehearsal) for member in group]
            rates[kind] = measure_rate(rehearsals, trainer.compile_function)
        images = training_steps(trial, trainer.sources.datasets[trial.dataset]) * trial.batch_size
        found |= dict.fromkeys(group, images / rates[kind] / len(group))
    return found, seconds_of_features(trainer.missing_features(waiting))


def _kind(trial, parents):
    """Returns what trials have in common whose steps take equally long."""
    method = trial.method
    return (
        *(trial.dataset, trial.model, trial.batch_size, trial.precision, *(parent.model for parent in parents)),
        *(type(method), method.cost(trial), method.mixing, method.dropout, method.offline, trial.fine_tune),
    )
