"""Trains one trial: data, model and loss by its recipe, resumed where it was stopped."""

import math
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import keras
import numpy as np

import kls
from benchmarks.runner import reuse
from benchmarks.runner.data import outlier_images
from benchmarks.runner.networks import (
    OPTIMIZERS,
    OVERFITTING,
    TrainingError,
    accuracy_name,
    compiled_model,
    network_of,
    precision_policy,
    save_weights,
    trained_model,
)
from benchmarks.runner.outputs import Wanted, evaluation_batches, measure, write_outputs
from benchmarks.runner.plan import PlanError
from benchmarks.runner.records import WEIGHTS
from benchmarks.runner.store import is_whole, mark_whole
from decathlon.batches import Augmentation, Batches, Denoising, Noise, WithOutliers
from decathlon.mixing import mixing_named
from kls.feeding import feed
from kls.overfitting import ClassLosses, OverfittingWeights

HELD_OUT = 10  # one training image in so many, where the loss follows overfitting
NOTHING_ELSE = Wanted()


def train(
    trial,
    dataset,
    store,
    parents=(),
    outliers=(),
    soft_labels=None,
    strategy="none",
    wanted=NOTHING_ELSE,
    callbacks=(),
):
    """Trains a trial, or goes on with it, and stores its history, weights and logits.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        store: The `RunStore`.
        parents: The finished `Trial`s that it starts from.
        outliers: The opened `Dataset`s whose training images are outliers.
        soft_labels: Label distributions of the training images in place of their labels, shape `(N, K)`.
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
    compiled = reuse.take(trial, strategy)
    if compiled is None:
        keras.utils.clear_session()
        keras.utils.set_random_seed(trial.seed)
    with precision_policy(trial.precision), _scope(strategy) as replicas:
        logits = stored_logits(parents, dataset, store) if trial.offline else None
        training = training_batches(trial, dataset, outliers, soft_labels, logits)
        evaluation = evaluation_batches(trial, dataset, *dataset.split(dataset.evaluation), replicas)
        validation = Denoising(evaluation, None) if trial.loss == "denoising" else evaluation
        stopwatch = Stopwatch(len(training) * trial.batch_size)
        class_losses = [ClassLosses({"evaluation": evaluation})] if wanted.class_losses else []
        if compiled is None:
            online = () if trial.offline else parents
            origins = [trained_model(parent, dataset, store, synchronized=replicas > 1) for parent in online]
            model = compiled_model(trial, dataset, len(training), origins, synchronized=replicas > 1)
            compiled = reuse.CompiledModel(model, trial, strategy)
        else:
            compiled.begin(trial, dataset)
        model = compiled.model
        recorders = [stopwatch, *class_losses, *weight_callbacks(trial, model, dataset, training)]
        checkpoint = kls.FullStateCheckpoint(directory / "checkpoint", callbacks=recorders)
        training.epoch = checkpoint.epoch
        if checkpoint.epoch < trial.epochs:
            model.fit(
                feed(training, endless=True),
                steps_per_epoch=len(training),
                epochs=trial.epochs,
                initial_epoch=checkpoint.epoch,
                validation_data=feed(validation),
                shuffle=False,
                verbose=0,
                callbacks=[*rate_callbacks(trial), *recorders, StopUnlessFinite(), *callbacks, checkpoint],
            )
        else:
            checkpoint.restore(model)
        outputs = write_outputs(compiled.network, trial, dataset, store, wanted)
    for recorded in class_losses:
        store.write_class_losses(trial, recorded.losses["evaluation"], recorded.accuracies["evaluation"])
    store.write_history(trial, checkpoint.history)
    student = getattr(model, "student", model)
    save_weights(student, directory / WEIGHTS)
    accuracy = f"val_{accuracy_name(trial)}"
    best_hits = max(round(logs[accuracy] * len(evaluation.images)) for logs in checkpoint.history)
    record = {
        "accuracy_best": best_hits / len(evaluation.images),
        "accuracy_train": checkpoint.history[-1][accuracy_name(trial)],
        "seconds": round(stopwatch.seconds, 2),
        "images_per_second": round(stopwatch.images_per_second, 1),
        "train_images": image_count(trial, dataset),
        "evaluation_images": len(evaluation.images),
        "classes": dataset.classes,
        "parameters": student.count_params(),
        **outputs,
        **measure(store, trial, outputs),
    }
    reuse.keep(compiled)
    return record


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

    Raises:
        StoreError: If files of the trial are damaged, or its weights do not give the logits that it stored.
    """
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
        name
        for name, other in wanted.unfamiliar.items()
        if record["ood"].get(name, other.fingerprint) != other.fingerprint
    ]
    with precision_policy(trial.precision):
        network = network_of(trained_model(trial, dataset, store))
        if changed:
            store.forget(trial, changed)
        outputs = write_outputs(network, trial, dataset, store, wanted)
    outputs["features"] = sorted({*record["features"], *outputs["features"]})
    outputs["scores"] = {name: sorted({*kept.get(name, ()), *sets}) for name, sets in outputs["scores"].items()}
    outputs["ood"] = record["ood"] | outputs["ood"]
    return {**record, **outputs, **measure(store, trial, outputs)}


def training_batches(trial, dataset, outliers=(), soft_labels=None, teacher_logits=None):
    """Returns the batches that a trial is trained on.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        outliers: The opened `Dataset`s whose training images are outliers.
        soft_labels: Label distributions of the training images in place of their labels, shape `(N, K)`.
        teacher_logits: Teachers' logits of the training images, shape `(N, T, K)`, to follow their labels.
    """
    images, labels = training_data(trial, dataset)
    batches = Batches(
        images,
        labels if soft_labels is None else soft_labels,
        classes=dataset.classes,
        batch_size=trial.batch_size,
        training=True,
        mean=dataset.mean if trial.subtract_mean else None,
        augmentation=Augmentation(trial.shift, trial.flip, trial.fill),
        seed=trial.seed,
        mixing=mixing_named(trial.mixing) if trial.mixing else None,
        appended=_numbers(len(images)) if trial.distillation == "crd" else teacher_logits,
    )
    if trial.loss == "denoising":
        return Denoising(batches, Noise(trial.noise, trial.noise_sides))
    if trial.outliers:
        batches = WithOutliers(batches, outlier_images(outliers, dataset.image_shape), trial.outlier_batch_size)
    return batches


def _numbers(count):
    """Returns the numbers of images, as contrastive distillation wants them behind the labels."""
    return np.arange(count, dtype=np.float32)[:, None]


def image_count(trial, dataset):
    """Returns on how many images a trial is trained."""
    images = dataset.counts["train"]
    return images - int(held_out(trial, dataset.split("train")[1]).sum()) if trial.loss in OVERFITTING else images


def training_data(trial, dataset):
    """Returns the images and labels that a trial is trained on: all, or in memory those that it does not hold out."""
    images, labels = dataset.split("train")
    if trial.loss in OVERFITTING:
        kept = ~held_out(trial, labels)
        images, labels = images[kept], labels[kept]
    return images, labels


def held_out(trial, labels):
    """Returns a mask of the images held out for the ratios of overfitting: a tenth of each class, one at least."""
    mask = np.zeros(len(labels), bool)
    order = np.random.default_rng(trial.seed).permutation(len(labels))
    for k in np.unique(labels):
        of_class = order[labels[order] == k]
        mask[of_class[: max(1, len(of_class) // HELD_OUT)]] = True
    return mask


def stored_logits(teachers, dataset, store):
    """Returns what teachers make of the unvaried training images, computed once: logits of shape `(N, T, K)`.

    Args:
        teachers: Finished `Trial`s.
        dataset: The opened `decathlon.Dataset`.
        store: The `RunStore`.
    """
    path = store.teacher_logits_path(teachers)
    if not is_whole(path):
        models = [trained_model(teacher, dataset, store) for teacher in teachers]
        kls.teacher_logits(models, evaluation_batches(teachers[0], dataset, *dataset.split("train")), path)
        mark_whole(path)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def rate_callbacks(trial):
    """Returns the callbacks that set a trial's learning rate epoch by epoch."""
    if trial.schedule == "cosine":
        return []
    return [keras.callbacks.LearningRateScheduler(lambda epoch: trial.learning_rate * trial.rate_factor(epoch))]


def weight_callbacks(trial, model, dataset, training):
    """Returns the callbacks that make a trial's loss follow the overfitting of its classes.

    Args:
        trial: The `Trial`.
        model: Its compiled model.
        dataset: The opened `decathlon.Dataset`.
        training: The batches that it is trained on.
    """
    if trial.loss not in OVERFITTING:
        return []
    images, labels = dataset.split("train")
    mask = held_out(trial, labels)
    train = evaluation_batches(trial, dataset, training.images, training.labels)
    validation = evaluation_batches(trial, dataset, images[mask], labels[mask])
    return [OverfittingWeights(model.loss, train, validation, trial.window, every=trial.window)]


def check_recipe(trial):
    """Raises `TrainingError` unless there is a way to train the recipe."""
    needs = dict.fromkeys(("smoothed_ce", "denoising", *OVERFITTING), (0, 0))
    needs |= {"outlier_exposure": (1, 1), "distillation": (1, math.inf)}
    least, most = needs.get(trial.loss, (0, -1))
    if not least <= len(trial.parents) <= most or trial.optimizer not in OPTIMIZERS:
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
