"""How long a trial would take: how much there is to do, and a few timed steps on this machine."""

import time

import keras
import numpy as np

from kls.study.devices import precision_policy
from kls.study.networks import build_network
from kls.study.train import compiled_model
from kls.study.training import Training

WARM_UP_STEPS = 3
RATE_STEPS = 8
PIXELS_PER_IMAGE = 512  # what an image costs besides its own pixels, roughly: each layer has a price of its own


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
    return float(trial.method.cost(trial) * images * (np.prod(dataset.image_shape[:2]) + PIXELS_PER_IMAGE))


class Rehearsal(Training):
    """A training before the trials that it starts from are finished: their weights do not matter."""

    def _network_of(self, parent, own):
        return build_network(parent, self.dataset, own)

    def parent_logits(self):
        return np.zeros((len(self.images), len(self.parent_trials), self.dataset.classes), np.float32)


def measure_rate(rehearsal, compile_function=None):
    """Returns the images per second of `RATE_STEPS` training steps of a trial, after the model is compiled.

    Args:
        rehearsal: The trial's `Rehearsal`.
        compile_function: As in `train`.
    """
    trial = rehearsal.trial
    keras.utils.set_random_seed(trial.seed)
    batches = trial.method.batches(rehearsal)
    with precision_policy(trial.precision):
        model = compiled_model(rehearsal, len(batches), compile_function)
        for step in range(WARM_UP_STEPS + RATE_STEPS):
            if step == WARM_UP_STEPS:
                start = time.perf_counter()
            model.train_on_batch(*batches.batch(0, step % len(batches)))
    return RATE_STEPS * trial.batch_size / (time.perf_counter() - start)
