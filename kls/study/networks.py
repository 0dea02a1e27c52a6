"""The network of a trial: built, and if it is trained already, read from disk."""

from dataclasses import replace

import keras

import kls
from kls.models import classifier_of
from kls.study.devices import has_accelerator
from kls.study.heads import all_layers, head_layer, head_network, parted, with_new_head
from kls.study.models import as_logits
from kls.study.trial import ALL
from kls.utils.feature_extractor import Network
from kls.utils.files import atomic_write
from kls.utils.last_layer import is_graph

LAST_RATE = 1e-6  # where a cosine schedule ends
MONTE_CARLO_PASSES = 20
MOST_UNINTERRUPTED = 32


class TrainingError(Exception):
    """A trial that cannot end with a result; the message is the reason."""


def build_network(trial, dataset, own=None, synchronized=False):
    """Builds a trial's network, which takes the dataset's images as they are, without training it.

    Args:
        trial: The `Trial`.
        dataset: Its opened dataset.
        own: The `OwnModel` of the trial's network, unless that is a registered one.
        synchronized: Whether batch normalisation sees the batch of all replicas.

    Returns:
        The network, and whether it returns logits: `False` if a model of the user's own returns probabilities, without
        the dropout of Monte Carlo, whose log-probabilities are logits.
    """
    shape, classes = dataset.image_shape, dataset.classes
    if trial.of_features:
        return _head(trial, *shape, classes, own), True
    if own is None:
        own_penalty = {} if trial.weight_decay is None else {"l2": 0.0}
        options = {"classifier_activation": None, "synchronized": synchronized, **own_penalty}
        model, from_logits = kls.models.build(trial.model, shape, classes, **options), True
    else:
        model, from_logits = as_logits(own(shape, classes), own.ending)
        if trial.fine_tune is not None:
            model, from_logits = with_new_head(model, classes, trial.fine_tune), True
    if not trial.method.whole:
        model = classifier_of(model)
    decay_weights(model, trial.weight_decay)
    return on_pixels(_with_dropout(model, trial), trial, dataset), from_logits or bool(trial.method.dropout)


def _head(trial, width, classes, own):
    """Returns the head that a trial of features trains."""
    head = head_network(width, classes, own.rates)
    decay_weights(head, trial.weight_decay)
    return _with_dropout(head, trial)


def _with_dropout(model, trial):
    """Returns a network with the dropout that a trial's method asks for."""
    rate = trial.method.dropout
    return kls.monte_carlo(model, rate, MONTE_CARLO_PASSES) if rate else model


def on_pixels(model, trial, dataset):
    """Returns a model that takes a dataset's samples as they are: pixels are scaled, and the mean image subtracted.

    The layers of a functional model stand in the new one's graph, for whoever looks for one of them by its name.
    """
    samples = inputs = keras.Input(dataset.image_shape)
    if trial.scaling != "none":
        samples = kls.layers.Pixels(dataset.mean if trial.scaling == "mean" else None)(inputs)
    return keras.Model(inputs, (model.call if is_graph(model) else model)(samples), name=model.name)


def backbone_network(trial, dataset, own):
    """Returns the frozen backbone of a trial's network, which takes the dataset's images as they are.

    Args:
        trial: The `Trial`.
        dataset: Its opened dataset.
        own: The `OwnModel` of its network.
    """
    backbone, _ = parted(as_logits(own(dataset.image_shape, dataset.classes), own.ending)[0])
    return on_pixels(backbone, trial, dataset)


def decay_weights(model, weight_decay):
    """Penalises all trainable weights of a model or layer as PyTorch's SGD does, unless `weight_decay` is `None`.

    That adds the gradient of `weight_decay / 2 |w|^2`. Keras's `weight_decay` of an optimizer is another thing: it
    stays outside the momentum.
    """
    if weight_decay is not None:
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(weight_decay / 2)


def trained_network(trial, dataset, store, own=None, synchronized=False):
    """Builds the network of a finished trial with its weights; returns what `build_network` does.

    Raises:
        StoreError: If it is not finished, or if these are not the weights that it ended with.
    """
    weights = store.weights(trial)
    network, from_logits = build_network(trial, dataset, own, synchronized)
    network.load_weights(weights)
    return network, from_logits


def whole_network(trial, dataset, store, own=None):
    """Returns the trained network of a trial, of a head with its backbone before it.

    Args:
        trial: The `Trial`.
        dataset: Its opened dataset, of images.
        store: The `RunStore`.
        own: As in `build_network`.
    """
    if not trial.of_features:
        return trained_network(trial, dataset, store, own)[0]
    network, _ = build_network(replace(trial, fine_tune=ALL), dataset, own)
    begin_with_head(network, trial, store, own)
    return network


def begin_with_head(network, trial, store, own):
    """Gives a network, in place of its new head, the one that a trial of features has trained.

    Args:
        network: What `build_network` returned for images.
        trial: The finished `Trial` of the head.
        store: The `RunStore`.
        own: The `OwnModel` of the network.
    """
    layer = head_layer(network)
    head = _head(trial, *layer.kernel.shape, own)
    head.load_weights(store.weights(trial))
    layer.set_weights(head_layer(head).get_weights())


def save_weights(model, path):
    """Stores the weights of a trained network, without those of its optimizer, which Keras would store too.

    Args:
        model: A functional Keras model.
        path: File to write, as `Model.load_weights` of the same network, not compiled, reads it.
    """
    with atomic_write(path) as file:
        keras.Model(model.inputs, model.outputs, name=model.name).save_weights(file.name)


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
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(0.0, 1 - 1 / window))


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


def taken_apart(network):
    """Returns a network's classifier taken apart for its outputs, a `kls.utils.feature_extractor.Network`."""
    return Network(classifier_of(network))


def learning_rate(trial, steps_per_epoch):
    """Returns a trial's first learning rate, or the whole schedule where that goes step by step."""
    if trial.schedule != "cosine":
        return trial.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        trial.learning_rate, trial.epochs * steps_per_epoch, alpha=LAST_RATE / trial.learning_rate
    )
