"""The network of a trial: built, compiled and, if it is trained already, read from disk."""

from contextlib import contextmanager
from functools import partial

import keras
import numpy as np

import kls
from benchmarks.runner.devices import has_accelerator
from kls.network import Network
from kls.overfitting import OverfittingCE
from kls.regularizers import L2
from kls.targets import smoothing_weights
from kls.utils.files import atomic_write

LAST_RATE = 1e-6  # where a cosine schedule ends
MONTE_CARLO_PASSES = 20
NEGATIVES = 16384
MOST_UNINTERRUPTED = 32
OPTIMIZERS = {
    "adam": kls.optimizers.Adam,
    "momentum": partial(kls.optimizers.SGD, momentum=0.9),
    "nesterov": partial(kls.optimizers.SGD, momentum=0.9, nesterov=True),
}
DENOISING = "denoising_classifier"
OVERFITTING = {"overfitting_loss": "loss", "overfitting_label": "label"}


class TrainingError(Exception):
    """A trial that cannot end with a result; the message is the reason."""


class AssignableSmoothedCE(kls.SmoothedCE):
    """`kls.SmoothedCE` of logits whose gamma can be changed after the training step is compiled.

    Compiled steps see changes of variables of the model, its optimizer and its metrics alone (on JAX): one of the
    metrics must have `weights` as an attribute, since those of metrics are no part of the model's weights.

    Args:
        gamma: Float in (1/K, 1], as in `kls.SmoothedCE`.
        classes: Integer K >= 2.

    Attributes:
        weights: Variable `(a, b)` of the label `a * one_hot + b`, float32.

    Example:

    >>> loss = AssignableSmoothedCE(gamma=1.0, classes=2)
    >>> loss.assign_gamma(0.75)
    >>> keras.ops.convert_to_numpy(loss.weights).tolist()
    [0.5, 0.25]
    """

    def __init__(self, gamma, classes):
        super().__init__(gamma, from_logits=True)
        self.classes = classes
        self.weights = keras.Variable(smoothing_weights(gamma, classes), dtype="float32", trainable=False)

    def assign_gamma(self, gamma):
        """Makes `gamma` the probability of the true class from the next step on."""
        self.weights.assign(smoothing_weights(gamma, self.classes))
        self.gamma = float(gamma)

    def label_weights(self, classes):
        return self.weights[0], self.weights[1]


def build_model(trial, dataset, synchronized=False):
    """Builds a trial's model, which returns logits, and in denoising an image too."""
    if trial.model == DENOISING:
        model = kls.models.DenoisingClassifier(
            dataset.image_shape, dataset.classes, classifier_activation=None, synchronized=synchronized
        )
        return model if trial.loss == "denoising" else kls.models.classifier_of(model)
    own_penalty = {} if trial.weight_decay is None else {"l2": 0.0}
    model = kls.models.build(
        trial.model,
        dataset.image_shape,
        dataset.classes,
        classifier_activation=None,
        synchronized=synchronized,
        **own_penalty,
    )
    if trial.weight_decay is not None:
        decay_weights(model, trial.weight_decay)
    return kls.monte_carlo(model, trial.dropout, MONTE_CARLO_PASSES) if trial.dropout else model


def decay_weights(model, weight_decay):
    """Penalises all trainable weights of a model or layer as PyTorch's SGD does.

    That adds the gradient of `weight_decay / 2 |w|^2`. Keras's `weight_decay` of an optimizer is another thing: it
    stays outside the momentum.
    """
    for variable in model.trainable_variables:
        variable.regularizer = L2(weight_decay / 2)


def trained_model(trial, dataset, store, synchronized=False):
    """Builds the model of a finished trial with its weights.

    Raises:
        StoreError: If it is not finished, or if these are not the weights that it ended with.
    """
    weights = store.weights(trial)
    model = build_model(trial, dataset, synchronized)
    model.load_weights(weights)
    return model


def save_weights(model, path):
    """Stores the weights of a trained network, without those of its optimizer, which Keras would store too.

    Args:
        model: A functional Keras model.
        path: File to write, as `Model.load_weights` of the same network, not compiled, reads it.
    """
    with atomic_write(path) as file:
        keras.Model(model.inputs, model.outputs, name=model.name).save_weights(file.name)


def compiled_model(trial, dataset, steps_per_epoch, origins=(), synchronized=False):
    """Builds and compiles what a trial trains.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        steps_per_epoch: Training steps per epoch, for the learning rate.
        origins: The models of the trials that it starts from: one to be tuned, or the teachers.
        synchronized: Whether batch normalisation sees the batch of all replicas.

    Returns:
        A Keras model that returns logits; of a distillation the `kls.Distiller`.
    """
    optimizer = OPTIMIZERS[trial.optimizer](learning_rate(trial, steps_per_epoch))
    accuracy = kls.metrics.FamiliarAccuracy()
    metrics = [accuracy]
    if trial.loss == "outlier_exposure":
        (model,) = origins
        loss = kls.OutlierExposure(trial.gamma, trial.outlier_weight, from_logits=True)
    elif trial.loss == "distillation":
        model, loss = _distiller(trial, dataset, origins, synchronized), None
    else:
        model = _new_network(trial, dataset, synchronized)
        if trial.loss == "denoising":
            loss = {"class": kls.FocalStd(trial.focal, trial.std_weight, from_logits=True), "image": "mse"}
            metrics = {"class": metrics}
        elif trial.loss in OVERFITTING:
            loss = OverfittingCE(dataset.classes, OVERFITTING[trial.loss], from_logits=True)
            metrics.append(loss.class_weights)
        else:
            loss = AssignableSmoothedCE(trial.gamma, dataset.classes)
            accuracy.label_weights = loss.weights
    follow_steps(getattr(model, "student", model), trial.statistics * trial.epochs * steps_per_epoch)
    model.compile(optimizer, loss, metrics=metrics, steps_per_execution=uninterrupted_steps(steps_per_epoch))
    model.optimizer.build(model.trainable_variables)  # TensorFlow traces a step that creates them twice
    return model


def follow_steps(model, window):
    """Lets the moving statistics of batch normalisation average over a number of steps at most, not over more.

    Averages with momentum m are over some 1 / (1 - m) steps. Keras's 0.99 looks back over more steps than a short
    training has: the statistics lag behind the weights (Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section
    3) and still hold what they began with, so that a network is judged by other statistics than those of its images.
    Over a tenth of all steps, as TensorFlow's `ExponentialMovingAverage(num_updates)` ends with, what they began with
    counts e^-10 in the end. A layer whose own momentum is smaller keeps it: long trainings are as they were.

    Args:
        model: A Keras model that is not trained yet.
        window: Number of steps.
    """
    for layer in _layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(0.0, 1 - 1 / window))


def _layers(model):
    """Returns all layers of a model, those of nested models too."""
    return [layer for child in model.layers for layer in (_layers(child) if hasattr(child, "layers") else [child])]


def _new_network(trial, dataset, synchronized):
    """Returns a trial's network: it begins with the same weights, whoever its teachers are."""
    keras.utils.set_random_seed(trial.seed)
    return build_model(trial, dataset, synchronized)


def _distiller(trial, dataset, teachers, synchronized):
    """Returns the `kls.Distiller` of a new network, which learns from teachers."""
    student = _new_network(trial, dataset, synchronized)
    if trial.teacher_dropout:
        teachers = [kls.monte_carlo(teacher, trial.teacher_dropout, MONTE_CARLO_PASSES) for teacher in teachers]
    contrast = contrast_of(trial, dataset) if trial.distillation == "crd" else None
    distiller = kls.Distiller(
        student,
        teachers or None,
        trial.distillation or "kd",
        trial.teacher_weight,
        trial.temperature,
        from_logits=True,
        contrast=contrast,
    )
    if contrast is not None and trial.weight_decay is not None:
        decay_weights(contrast, trial.weight_decay)
    return distiller


def uninterrupted_steps(steps_per_epoch):
    """Returns how many training steps an accelerator is given before Keras's callbacks are called again.

    On JAX what Keras does in Python around a step of a small network takes an accelerator longer than the step. Keras
    goes on to the end of so many steps, which must therefore divide those of an epoch. The steps are the same.

    Args:
        steps_per_epoch: Training steps per epoch.
    """
    if keras.backend.backend() != "jax" or not has_accelerator():
        return 1
    return max(steps for steps in range(1, MOST_UNINTERRUPTED + 1) if steps_per_epoch % steps == 0)


def network_of(model):
    """Returns the network to evaluate of what a trial trains, taken apart: a `kls.network.Network`.

    Args:
        model: The trial's model, which returns logits, perhaps beside an image; or the `kls.Distiller` of one.
    """
    return Network(kls.models.classifier_of(getattr(model, "student", model)))


def accuracy_name(trial):
    """Returns what Keras's logs of a trial's training call its accuracy: the name of an output among several first."""
    return "class_accuracy" if trial.loss == "denoising" else "accuracy"


def contrast_of(trial, dataset):
    """Returns the contrastive term of a trial: its authors' number of negatives, or as many as there are."""
    _, labels = dataset.split("train")
    most = len(labels) - np.bincount(labels).max()
    return kls.ContrastiveDistillation(labels, negatives=int(min(NEGATIVES, most)), seed=trial.seed)


def learning_rate(trial, steps_per_epoch):
    """Returns a trial's first learning rate, or the whole schedule where that goes step by step."""
    if trial.schedule != "cosine":
        return trial.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        trial.learning_rate, trial.epochs * steps_per_epoch, alpha=LAST_RATE / trial.learning_rate
    )


@contextmanager
def precision_policy(name):
    """Sets the global dtype policy of new layers within."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
