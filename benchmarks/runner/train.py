"""Trains one trial: data, model and loss by its recipe, resumed where it was stopped."""

import time
from contextlib import contextmanager
from functools import cache

import keras
import numpy as np

import kls
from benchmarks.runner.outputs import evaluation_batches, measure, write_outputs
from benchmarks.runner.plan import PlanError
from decathlon.batches import Augmentation, Batches
from kls.feeding import feed

STRATEGIES = ("none", "mirrored")


class TrainingError(Exception):
    """A trial that cannot end with a result; the message is the reason."""


def train(trial, dataset, store, strategy="none", unfamiliar=None, keep_features=False, callbacks=()):
    """Trains a trial, or goes on with it, and stores its history, weights and logits.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        store: The `RunStore`.
        strategy: `"none"` or `"mirrored"` (all devices of this machine, TensorFlow).
        unfamiliar: `{name: Dataset}` whose logits to store too.
        keep_features: Whether to store the features before the last layer too.
        callbacks: Further Keras callbacks, for progress.

    Returns:
        Dictionary of the measures for `RunStore.finish`.

    Raises:
        TrainingError: If the loss is not finite, or the recipe asks for what is not there.
    """
    if trial.loss != "smoothed_ce" or trial.parents:
        raise TrainingError(f"there is no way yet to train loss={trial.loss!r} with parents={trial.parents}")
    directory = store.begin(trial)
    keras.utils.clear_session()
    keras.utils.set_random_seed(trial.seed)
    with precision_policy(trial.precision), _scope(strategy) as replicas:
        training, evaluation = batches(trial, dataset, replicas)
        stopwatch = Stopwatch(len(training) * trial.batch_size)
        checkpoint = kls.FullStateCheckpoint(directory / "checkpoint", callbacks=[stopwatch])
        training.epoch = checkpoint.epoch
        model = compiled_model(trial, dataset, synchronized=replicas > 1)
        if checkpoint.epoch < trial.epochs:
            model.fit(
                feed(training, endless=True),
                steps_per_epoch=len(training),
                epochs=trial.epochs,
                initial_epoch=checkpoint.epoch,
                validation_data=feed(evaluation),
                shuffle=False,
                verbose=0,
                callbacks=[
                    keras.callbacks.LearningRateScheduler(lambda epoch: trial.learning_rate * trial.rate_factor(epoch)),
                    stopwatch,
                    StopUnlessFinite(),
                    *callbacks,
                    checkpoint,
                ],
            )
        else:
            checkpoint.restore(model)
        outputs = write_outputs(model, trial, dataset, store, unfamiliar or {}, keep_features, replicas)
    store.write_history(trial, checkpoint.history)
    model.save_weights(directory / "weights.weights.h5")
    logits, labels = store.logits(trial, dataset.evaluation)
    best_hits = max(round(logs["val_accuracy"] * len(evaluation.images)) for logs in checkpoint.history)
    return {
        "accuracy_best": best_hits / len(evaluation.images),
        "accuracy_last": float(np.mean(logits.argmax(axis=-1) == labels)),
        "seconds": round(stopwatch.seconds, 2),
        "images_per_second": round(stopwatch.images_per_second, 1),
        "train_images": len(training.images),
        "evaluation_images": len(evaluation.images),
        "classes": dataset.classes,
        "parameters": model.count_params(),
        **outputs,
        **measure(store, trial, outputs),
    }


def evaluate_again(trial, record, dataset, store, strategy, unfamiliar, keep_features):
    """Stores the outputs of a finished trial that are asked for now, from its weights, without training.

    Args:
        trial: The `Trial`.
        record: Its record.
        dataset: The opened `decathlon.Dataset`.
        store: The `RunStore`.
        strategy: `"none"` or `"mirrored"`.
        unfamiliar: `{name: Dataset}` whose logits to store.
        keep_features: Whether to store features; those that were stored before are.

    Returns:
        The record with what is new.
    """
    keras.utils.clear_session()
    with precision_policy(trial.precision), _scope(strategy) as replicas:
        model = build_model(trial, dataset, synchronized=replicas > 1)
        model.load_weights(store.directory(trial) / "weights.weights.h5")
        keep_features = keep_features or bool(record.get("features"))
        outputs = write_outputs(model, trial, dataset, store, unfamiliar, keep_features, replicas)
    outputs["features"] = sorted({*record.get("features", ()), *outputs["features"]})
    outputs["ood"] = record.get("ood", {}) | outputs["ood"]
    return {**record, **outputs, **measure(store, trial, outputs)}


def batches(trial, dataset, replicas=1):
    """Returns the training and the evaluation batches of a trial."""
    training = Batches(
        *dataset.split("train"),
        classes=dataset.classes,
        batch_size=trial.batch_size,
        training=True,
        mean=dataset.mean if trial.subtract_mean else None,
        augmentation=Augmentation(trial.shift, trial.flip, trial.fill),
        seed=trial.seed,
    )
    return training, evaluation_batches(trial, dataset, *dataset.split(dataset.evaluation), replicas)


def build_model(trial, dataset, synchronized=False):
    """Builds a trial's model, which returns logits."""
    return kls.models.build(
        trial.model,
        dataset.image_shape,
        dataset.classes,
        classifier_activation=None,
        synchronized=synchronized,
    )


def compiled_model(trial, dataset, synchronized=False):
    """Builds and compiles a trial's model."""
    model = build_model(trial, dataset, synchronized)
    model.compile(
        optimizer=keras.optimizers.get(
            {"class_name": trial.optimizer, "config": {"learning_rate": trial.learning_rate}}
        ),
        loss=kls.SmoothedCE(trial.gamma, from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model


class Stopwatch(keras.callbacks.Callback):
    """Sums the seconds of all epochs over restarts, and the rate of training.

    Epochs that begin a process are left out of the rate where there are others, since they compile the model.
    """

    def __init__(self, images_per_epoch):
        super().__init__()
        self.images_per_epoch = images_per_epoch
        self.seconds = 0.0
        self.first_rate = 0.0
        self.warm_epochs = 0
        self.warm_seconds = 0.0

    @property
    def images_per_second(self):
        if self.warm_epochs:
            return self.images_per_epoch * self.warm_epochs / self.warm_seconds
        return self.first_rate

    def on_train_begin(self, logs=None):
        self._cold = True

    def on_epoch_begin(self, epoch, logs=None):
        self._start = self._trained = time.perf_counter()

    def on_test_begin(self, logs=None):
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.perf_counter() - self._start
        training = self._trained - self._start
        if self._cold:
            self.first_rate = self.images_per_epoch / training
        else:
            self.warm_epochs += 1
            self.warm_seconds += training
        self._cold = False


class StopUnlessFinite(keras.callbacks.Callback):
    """Ends training with an error when an epoch's loss is not a finite number."""

    def on_epoch_end(self, epoch, logs=None):
        for name in ("loss", "val_loss"):
            if not np.isfinite(logs[name]):
                raise TrainingError(f"{name} became {logs[name]} in epoch {epoch + 1}")


@contextmanager
def precision_policy(name):
    """Sets the global dtype policy of new layers within."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_strategy(strategy, batch_size):
    """Raises `PlanError` unless the strategy works here and its replicas share a batch evenly."""
    if strategy == "none":
        return
    if keras.backend.backend() != "tensorflow":
        raise PlanError(f"--strategy {strategy} needs the TensorFlow backend. Keras runs on {keras.backend.backend()}.")
    replicas = len(_replica_devices())
    if batch_size % replicas:
        raise PlanError(f"--batch-size must be a multiple of the {replicas} replicas. Received: {batch_size}.")


def _replica_devices():
    import tensorflow as tf

    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")


@cache
def mirrored_strategy():
    """Returns the one strategy of this process.

    A second one would number its collective operations from the start again, and TensorFlow would take them for
    those of the first, of other shapes.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(_replica_devices())


@contextmanager
def _scope(strategy):
    """Enters a distribution strategy and yields its number of replicas."""
    if strategy == "none":
        yield 1
        return
    with mirrored_strategy().scope():
        yield mirrored_strategy().num_replicas_in_sync
