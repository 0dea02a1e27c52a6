"""Trains one trial: data, model and loss by its recipe, resumed where it was stopped."""

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import keras
import numpy as np

import kls
from kls.analysis.overfitting import ClassLosses
from kls.study import reuse
from kls.study.devices import precision_policy
from kls.study.machine import machine_note
from kls.study.networks import (
    TrainingError,
    follow_steps,
    learning_rate,
    save_weights,
    taken_apart,
    trained_network,
    uninterrupted_steps,
)
from kls.study.outputs import Wanted, measure, write_outputs
from kls.study.plan import PlanError
from kls.study.records import WEIGHTS
from kls.study.trial import OPTIMIZERS
from kls.utils.data import feed

NOTHING_ELSE = Wanted()
STRATEGIES = ("none", "mirrored")
PACKAGES = ("kls", "keras", "tensorflow", "jax", "numpy")  # whose versions are recorded


def train(training, strategy="none", wanted=NOTHING_ELSE, callbacks=(), compile_function=None):
    """Trains a trial, or goes on with it, and stores its history, weights and logits.

    Args:
        training: The trial's `Training`.
        strategy: `"none"` or `"mirrored"` (all devices of this machine, TensorFlow).
        wanted: What to store, as `Wanted`; the logits of the evaluation split alone by default.
        callbacks: Further Keras callbacks, for progress.
        compile_function: A function `(model, loss, trial)` of the user's own that compiles the model. Its optimizer and
            how its steps run are kept; loss and metrics are the trial's.

    Returns:
        Dictionary of the metrics for `RunStore.finish`.

    Raises:
        TrainingError: If the loss is not finite, or the recipe asks for what is not there.
    """
    trial, dataset, store, method = training.trial, training.dataset, training.store, training.trial.method
    directory = store.begin(trial)
    compiled = reuse.take(trial, strategy)
    if compiled is None:
        keras.utils.clear_session()
        keras.utils.set_random_seed(trial.seed)
    with precision_policy(trial.precision), _scope(strategy) as training.replicas:
        batches = method.batches(training)
        evaluation = training.evaluation_batches(*dataset.split(dataset.evaluation))
        stopwatch = Stopwatch(len(batches) * trial.batch_size)
        class_losses = [ClassLosses({"evaluation": evaluation})] if wanted.class_losses else []
        if compiled is None:
            model = compiled_model(training, len(batches), compile_function)
            compiled = reuse.CompiledModel(model, trial, strategy)
        else:
            compiled.begin(training)
        model = compiled.model
        recorders = [stopwatch, *class_losses, *method.callbacks(training, model)]
        checkpoint = kls.FullStateCheckpoint(directory / "checkpoint", callbacks=recorders)
        batches.epoch = checkpoint.epoch
        if checkpoint.epoch < trial.epochs:
            model.fit(
                feed(batches, endless=True),
                steps_per_epoch=len(batches),
                epochs=trial.epochs,
                initial_epoch=checkpoint.epoch,
                validation_data=feed(method.validation(evaluation)),
                shuffle=False,
                verbose=0,
                callbacks=[*rate_callbacks(trial), *recorders, StopUnlessFinite(), *callbacks, checkpoint],
            )
        else:
            checkpoint.restore(model)
        outputs = write_outputs(compiled.network, trial, dataset, store, wanted)
    for recorded in class_losses:
        store.write_class_losses(trial, recorded.losses["evaluation"], recorded.accuracies["evaluation"])
    history = [
        {name.replace(method.accuracy, "accuracy"): value for name, value in logs.items()}
        for logs in checkpoint.history
    ]
    record = record_of(training, history, method.network(model), outputs, evaluation, stopwatch)
    reuse.keep(compiled)
    return record


def record_of(training, history, network, outputs, evaluation, stopwatch):
    """Stores the history and the weights of a trained network and returns its metrics for `RunStore.finish`.

    Args:
        training: The trial's `Training`.
        history: The logs of each epoch, a list of dictionaries.
        network: The trained network.
        outputs: What `write_outputs` returned.
        evaluation: The batches of the evaluation split.
        stopwatch: The `Stopwatch` of the training.
    """
    trial, store = training.trial, training.store
    store.write_history(trial, history)
    save_weights(network, store.directory(trial) / WEIGHTS)
    best_hits = max(round(logs["val_accuracy"] * len(evaluation.images)) for logs in history)
    return {
        "accuracy_best": best_hits / len(evaluation.images),
        "accuracy_train": history[-1]["accuracy"],
        "seconds": round(stopwatch.seconds, 2),
        "images_per_second": round(stopwatch.images_per_second, 1),
        "train_images": len(training.images),
        "evaluation_images": len(evaluation.images),
        "classes": training.dataset.classes,
        "parameters": network.count_params(),
        "machine": machine_note(PACKAGES, keras.backend.backend()),
        **outputs,
        **measure(store, trial, outputs),
    }


def compiled_model(training, steps_per_epoch, compile_function=None):
    """Builds and compiles what a trial trains.

    Args:
        training: The trial's `Training`.
        steps_per_epoch: Training steps per epoch, for the learning rate.
        compile_function: As in `train`.
    """
    trial, method = training.trial, training.trial.method
    model = method.model(training)
    loss = method.loss(training)
    follow_steps(method.network(model), trial.statistics * trial.epochs * steps_per_epoch)
    metrics = method.metrics(loss, kls.metrics.IDAccuracy())
    optimizer = OPTIMIZERS[trial.optimizer](learning_rate(trial, steps_per_epoch))
    settings = {"steps_per_execution": uninterrupted_steps(steps_per_epoch)}
    if compile_function is not None:
        compile_function(model, loss, trial)
        if not model.compiled:
            raise TrainingError("`compile` must compile the model. Received: a function that does not")
        optimizer = model.optimizer
        settings = {name: getattr(model, name) for name in ("steps_per_execution", "jit_compile", "run_eagerly")}
    model.compile(optimizer, loss, metrics=metrics, **settings)
    model.optimizer.build(model.trainable_variables)  # TensorFlow traces a step that creates them twice
    return model


def evaluate_again(training, record, wanted):
    """Stores the outputs of a finished trial that are asked for now, from its weights, without training.

    Args:
        training: The trial's `Training`.
        record: Its record.
        wanted: What to store, as `Wanted`; features and scores that were stored before are stored too.

    Returns:
        The record with what is new.

    Raises:
        StoreError: If files of the trial are damaged, or its weights do not give the logits that it stored.
    """
    trial, dataset, store = training.trial, training.dataset, training.store
    store.check_outputs(record)
    keras.utils.clear_session()
    keras.utils.set_random_seed(trial.seed)
    kept = record["scores"]
    wanted = replace(
        wanted,
        features=wanted.features or bool(record["features"]),
        scores=tuple(dict.fromkeys((*kept, *wanted.scores))),
    )
    changed = [
        name for name, other in wanted.ood.items() if record["ood"].get(name, other.fingerprint) != other.fingerprint
    ]
    with precision_policy(trial.precision):
        network, _ = trained_network(trial, dataset, store, training.own_models.get(trial.model))
        if changed:
            store.forget(trial, changed)
        outputs = write_outputs(taken_apart(network), trial, dataset, store, wanted)
    outputs["features"] = sorted({*record["features"], *outputs["features"]})
    outputs["scores"] = {name: sorted({*kept.get(name, ()), *sets}) for name, sets in outputs["scores"].items()}
    outputs["ood"] = record["ood"] | outputs["ood"]
    return {**record, **outputs, **measure(store, trial, outputs)}


def rate_callbacks(trial):
    """Returns the callbacks that set a trial's learning rate epoch by epoch."""
    if trial.schedule == "cosine" or trial.compile:
        return []
    return [keras.callbacks.LearningRateScheduler(lambda epoch: trial.learning_rate * trial.rate_factor(epoch))]


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
def quiet_tracing():
    """Keeps TensorFlow from warning that it traces again and again: each trial is a new model."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    logger = tf.get_logger()
    before = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(before)


def check_strategy(strategy, batch_size):
    """Raises `PlanError` unless the strategy works here and its replicas share a batch evenly."""
    if strategy == "none":
        return
    if keras.backend.backend() != "tensorflow":
        backend = keras.backend.backend()
        raise PlanError(f"`strategy` must be 'none' but on TensorFlow. Received: {strategy!r}, and Keras on {backend}.")
    replicas = len(_replica_devices())
    if batch_size % replicas:
        raise PlanError(f"`batch_size` must be a multiple of the {replicas} replicas. Received: {batch_size}.")


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
