"""How long a trial would take: how much there is to do, and a few timed steps on this machine."""

import time

import keras

from benchmarks.runner.train import batches, build_model, compiled_model, precision_policy

WARM_UP_STEPS = 3
RATE_STEPS = 8
PIXELS_PER_IMAGE = 512  # what an image costs besides its own pixels, roughly: each layer has a price of its own
TEACHER_WORK = 4 / 3  # a step with a teacher's forward pass, against one without


def steps_per_epoch(trial, dataset):
    """Returns the number of batches that a trial trains on per epoch: whole ones alone."""
    return dataset.counts["train"] // trial.batch_size


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
    passes = TEACHER_WORK if trial.teacher else 1
    return passes * images * (height * width + PIXELS_PER_IMAGE)


def measure_rate(trial, dataset, parent=None, outliers=()):
    """Returns the images per second of `RATE_STEPS` training steps of a trial, after the model is compiled.

    Args:
        trial: The `Trial`.
        dataset: Its opened `decathlon.Dataset`.
        parent: The `Trial` that it starts from; its weights do not matter here.
        outliers: Its opened outlier `Dataset`s.
    """
    keras.utils.set_random_seed(trial.seed)
    training, _ = batches(trial, dataset, outliers)
    with precision_policy(trial.precision):
        origin = build_model(parent, dataset) if parent else None
        model = compiled_model(trial, dataset, len(training), origin)
        for step in range(WARM_UP_STEPS + RATE_STEPS):
            if step == WARM_UP_STEPS:
                start = time.perf_counter()
            model.train_on_batch(*training.batch(0, step % len(training)))
    return RATE_STEPS * trial.batch_size / (time.perf_counter() - start)
