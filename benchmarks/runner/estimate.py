"""How long a trial would take: how much there is to do, and a few timed steps on this machine."""

import time

import keras
import numpy as np

from benchmarks.runner.networks import build_model, compiled_model, precision_policy
from benchmarks.runner.train import image_count, training_batches

WARM_UP_STEPS = 3
RATE_STEPS = 8
PIXELS_PER_IMAGE = 512  # what an image costs besides its own pixels, roughly: each layer has a price of its own
TEACHER_WORK = 1 / 3  # a teacher's forward pass, against the student's step


def steps_per_epoch(trial, dataset):
    """Returns the number of batches that a trial trains on per epoch: whole ones alone."""
    return image_count(trial, dataset) // trial.batch_size


def training_steps(trial, dataset):
    """Returns the number of batches that a trial trains on in all epochs."""
    return trial.epochs * steps_per_epoch(trial, dataset)


def epoch_images(trial, dataset):
    """Returns how many images a trial trains on per epoch."""
    return steps_per_epoch(trial, dataset) * trial.batch_size


def epoch_work(trial, dataset):
    """Returns a measure of an epoch's cost, by which epochs of different trials compare.

    Args:
        trial: The `Trial`.
        dataset: Its opened `decathlon.Dataset`.
    """
    height, width, _ = dataset.image_shape
    images = steps_per_epoch(trial, dataset) * (trial.batch_size + (trial.outlier_batch_size or 0))
    teachers = len(trial.parents) if trial.loss == "distillation" and not trial.offline else 0
    return (1 + TEACHER_WORK * teachers) * images * (height * width + PIXELS_PER_IMAGE)


def measure_rate(trial, dataset, parents=(), outliers=(), soft_labels=None):
    """Returns the images per second of `RATE_STEPS` training steps of a trial, after the model is compiled.

    Args:
        trial: The `Trial`.
        dataset: Its opened `decathlon.Dataset`.
        parents: The `Trial`s that it starts from; their weights do not matter here.
        outliers: Its opened outlier `Dataset`s.
        soft_labels: Label distributions of the training images in place of their labels.
    """
    keras.utils.set_random_seed(trial.seed)
    logits = None
    if trial.offline:
        logits = np.zeros((dataset.counts["train"], len(parents), dataset.classes), np.float32)
    training = training_batches(trial, dataset, outliers, soft_labels, logits)
    with precision_policy(trial.precision):
        origins = [build_model(parent, dataset) for parent in parents if not trial.offline]
        model = compiled_model(trial, dataset, len(training), origins)
        for step in range(WARM_UP_STEPS + RATE_STEPS):
            if step == WARM_UP_STEPS:
                start = time.perf_counter()
            model.train_on_batch(*training.batch(0, step % len(training)))
    return RATE_STEPS * trial.batch_size / (time.perf_counter() - start)
