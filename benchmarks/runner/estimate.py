"""How long a trial would take: a few timed steps on this machine."""

import time

import keras

from benchmarks.runner.train import batches, compiled_model, precision_policy

WARM_UP_STEPS = 3
RATE_STEPS = 8


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
