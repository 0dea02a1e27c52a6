"""How long a trial would take: how much there is to do, and a few timed steps on this machine."""

import time

import keras

from benchmarks.runner.train import batches, compiled_model, precision_policy

WARM_UP_STEPS = 3
RATE_STEPS = 8
PIXELS_PER_IMAGE = 512  # what an image costs besides its own pixels, roughly: each layer has a price of its own


def steps_per_epoch(trial, dataset):
    """Returns the number of batches that a trial trains on per epoch: whole ones alone."""
    return dataset.counts["train"] // trial.batch_size


def epoch_images(trial, dataset):
    """Returns how many images a trial trains on per epoch."""
    return steps_per_epoch(trial, dataset) * trial.batch_size


def epoch_work(trial, dataset):
    """Returns a measure of an epoch's cost, by which epochs of different data sets compare.

    Args:
        trial: The `Trial`.
        dataset: Its opened `decathlon.Dataset`.
    """
    height, width, _ = dataset.image_shape
    return epoch_images(trial, dataset) * (height * width + PIXELS_PER_IMAGE)


def measure_rate(trial, dataset):
    """Returns the images per second of `RATE_STEPS` training steps of a trial, after the model is compiled.

    Args:
        trial: The `Trial`.
        dataset: Its opened `decathlon.Dataset`.
    """
    keras.utils.set_random_seed(trial.seed)
    training, _ = batches(trial, dataset)
    with precision_policy(trial.precision):
        model = compiled_model(trial, dataset)
        for step in range(WARM_UP_STEPS + RATE_STEPS):
            if step == WARM_UP_STEPS:
                start = time.perf_counter()
            model.train_on_batch(*training.batch(0, step % len(training)))
    return RATE_STEPS * trial.batch_size / (time.perf_counter() - start)
