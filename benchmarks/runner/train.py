"""Trains one trial: data, model and loss by its recipe, resumed where it was stopped."""

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial

import keras
import numpy as np

import kls
from benchmarks.runner.data import outlier_images
from benchmarks.runner.outputs import Wanted, evaluation_batches, measure, write_outputs
from benchmarks.runner.plan import PlanError
from decathlon.batches import Augmentation, Batches, WithOutliers
from kls.feeding import feed

STRATEGIES = ("none", "mirrored")
WEIGHTS = "weights.weights.h5"
LAST_RATE = 1e-6  # where a cosine schedule ends
OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "nesterov": partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
}


class TrainingError(Exception):
    """A trial that cannot end with a result; the message is the reason."""


def train(trial, dataset, store, parent=None, outliers=(), strategy="none", wanted=None, callbacks=()):
    """Trains a trial, or goes on with it, and stores its history, weights and logits.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        store: The `RunStore`.
        parent: The finished `Trial` that it starts from.
        outliers: The opened `Dataset`s whose training images are outliers.
        strategy: `"none"` or `"mirrored"` (all devices of this machine, TensorFlow).
        wanted: What to store, as `Wanted`; the logits of the evaluation split alone by default.
        callbacks: Further Keras callbacks, for progress.

    Returns:
        Dictionary of the measures for `RunStore.finish`.

    Raises:
        TrainingError: If the loss is not finite, or the recipe asks for what is not there.
    """
    check_recipe(trial)
    directory = store.begin(trial)
    keras.utils.clear_session()
    keras.utils.set_random_seed(trial.seed)
    with precision_policy(trial.precision), _scope(strategy) as replicas:
        training, evaluation = batches(trial, dataset, outliers, replicas)
        stopwatch = Stopwatch(len(training) * trial.batch_size)
        checkpoint = kls.FullStateCheckpoint(directory / "checkpoint", callbacks=[stopwatch])
        training.epoch = checkpoint.epoch
        origin = trained_model(parent, dataset, store, synchronized=replicas > 1) if parent else None
        model = compiled_model(trial, dataset, len(training), origin, synchronized=replicas > 1)
        if checkpoint.epoch < trial.epochs:
            model.fit(
                feed(training, endless=True),
                steps_per_epoch=len(training),
                epochs=trial.epochs,
                initial_epoch=checkpoint.epoch,
                validation_data=feed(evaluation),
                shuffle=False,
                verbose=0,
                callbacks=[*rate_callbacks(trial), stopwatch, StopUnlessFinite(), *callbacks, checkpoint],
            )
        else:
            checkpoint.restore(model)
        network = getattr(model, "student", model)
        outputs = write_outputs(network, trial, dataset, store, wanted or Wanted())
    store.write_history(trial, checkpoint.history)
    network.save_weights(directory / WEIGHTS)
    logits, labels = store.logits(trial, dataset.evaluation)
    best_hits = max(round(logs["val_accuracy"] * len(evaluation.images)) for logs in checkpoint.history)
    return {
        "accuracy_best": best_hits / len(evaluation.images),
        "accuracy_last": float(np.mean(logits.argmax(axis=-1) == labels)),
        "seconds": round(stopwatch.seconds, 2),
        "images_per_second": round(stopwatch.images_per_second, 1),
        "train_images": dataset.counts["train"],
        "evaluation_images": len(evaluation.images),
        "classes": dataset.classes,
        "parameters": network.count_params(),
        **outputs,
        **measure(store, trial, outputs),
    }


def evaluate_again(trial, record, dataset, store, wanted):
    """Stores the outputs of a finished trial that are asked for now, from its weights, without training.

    Args:
        trial: The `Trial`.
        record: Its record.
        dataset: The opened `decathlon.Dataset`.
        store: The `RunStore`.
        wanted: What to store, as `Wanted`; features and scores that were stored before are stored too.

    Returns:
        The record with what is new.
    """
    keras.utils.clear_session()
    kept = record.get("scores", {})
    wanted = replace(
        wanted,
        features=wanted.features or bool(record.get("features")),
        scores=tuple(dict.fromkeys((*kept, *wanted.scores))),
    )
    with precision_policy(trial.precision):
        outputs = write_outputs(trained_model(trial, dataset, store), trial, dataset, store, wanted)
    outputs["features"] = sorted({*record.get("features", ()), *outputs["features"]})
    outputs["scores"] = {name: sorted({*kept.get(name, ()), *sets}) for name, sets in outputs["scores"].items()}
    outputs["ood"] = record.get("ood", {}) | outputs["ood"]
    return {**record, **outputs, **measure(store, trial, outputs)}


def batches(trial, dataset, outliers=(), replicas=1):
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
    if trial.outliers:
        training = WithOutliers(training, outlier_images(outliers, dataset.image_shape), trial.outlier_batch_size)
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


def trained_model(trial, dataset, store, synchronized=False):
    """Builds the model of a finished trial with its weights.

    Raises:
        TrainingError: If there are none.
    """
    weights = store.directory(trial) / WEIGHTS
    if not weights.is_file():
        raise TrainingError(f"{weights} is missing: {trial.label} has to be trained first")
    model = build_model(trial, dataset, synchronized)
    model.load_weights(weights)
    return model


def compiled_model(trial, dataset, steps_per_epoch, origin=None, synchronized=False):
    """Builds and compiles what a trial trains.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        steps_per_epoch: Training steps per epoch, for the learning rate.
        origin: The model of the trial that it starts from: to be tuned, or the teacher.
        synchronized: Whether batch normalisation sees the batch of all replicas.

    Returns:
        A Keras model that returns logits; of a distillation the `kls.Distiller`.
    """
    optimizer = OPTIMIZERS[trial.optimizer](learning_rate(trial, steps_per_epoch))
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    if trial.loss == "distillation":
        student = build_model(trial, dataset, synchronized)
        model = kls.Distiller(student, origin, trial.teacher_weight, trial.temperature, from_logits=True)
        model.compile(optimizer, metrics=[accuracy])
    elif trial.loss == "outlier_exposure":
        model = origin
        loss = kls.OutlierExposure(trial.gamma, trial.outlier_weight, from_logits=True)
        model.compile(optimizer, loss, metrics=[kls.metrics.FamiliarAccuracy()])
    else:
        model = build_model(trial, dataset, synchronized)
        model.compile(optimizer, kls.SmoothedCE(trial.gamma, from_logits=True), metrics=[accuracy])
    return model


def learning_rate(trial, steps_per_epoch):
    """Returns a trial's first learning rate, or the whole schedule where that goes step by step."""
    if trial.schedule != "cosine":
        return trial.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        trial.learning_rate, trial.epochs * steps_per_epoch, alpha=LAST_RATE / trial.learning_rate
    )


def rate_callbacks(trial):
    """Returns the callbacks that set a trial's learning rate epoch by epoch."""
    if trial.schedule == "cosine":
        return []
    return [keras.callbacks.LearningRateScheduler(lambda epoch: trial.learning_rate * trial.rate_factor(epoch))]


def check_recipe(trial):
    """Raises `TrainingError` unless there is a way to train the recipe."""
    needs = {"smoothed_ce": 0, "outlier_exposure": 1, "distillation": 1}
    if trial.loss not in needs or len(trial.parents) != needs[trial.loss] or trial.optimizer not in OPTIMIZERS:
        raise TrainingError(
            f"there is no way to train loss={trial.loss!r} with optimizer={trial.optimizer!r} and "
            f"parents={trial.parents}"
        )


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
