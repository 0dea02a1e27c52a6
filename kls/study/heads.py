"""Backbones with pretrained weights, and heads: which part of a classifier is which, and what of it is trained.

The head of a classifier is its last layer and the dropout before that; the backbone is all before, up to the features.
"""

import keras

import kls
from kls.study.trial import ALL
from kls.utils.last_layer import last_layer, origin

NAME = "new_head"  # of a new last layer, unlike a layer of a backbone


def all_layers(model):
    """Returns all layers within a model in their order, those of nested models and layers too, without the models."""
    found = {}  # a layer that is used twice stands where it is used first; Keras's `_flatten_layers` turns them round
    for layer in model._layers:
        own = [] if isinstance(layer, keras.Model) else [layer]
        found |= dict.fromkeys([*own, *all_layers(layer)])
    return list(found)


def parted(model):
    """Returns the backbone of a classifier, a model up to the features, and the rates of the dropouts after it.

    Args:
        model: A Keras model that returns logits.

    Returns:
        `(backbone, rates)`, or `None` if its last layer is not found.
    """
    found = last_layer(model)
    if found is None:
        return None
    (features,), rates = found.trunk.outputs, ()
    operation, before = origin(features)
    while isinstance(operation, keras.layers.Dropout):
        features, rates = before, (operation.rate, *rates)
        operation, before = origin(features)
    return keras.Model(model.inputs[0], features), rates


def trainable_layers(backbone):
    """Returns the layers of a backbone that can be trained, in their order: with weights, but no batch normalisation.

    The statistics of batch normalisation stay those that the weights were trained with.
    """
    norm = keras.layers.BatchNormalization
    return [layer for layer in all_layers(backbone) if layer.weights and not isinstance(layer, norm)]


def head_network(width, classes, rates):
    """Returns a new head as a network of its own: features in, logits out.

    Args:
        width: Number of features.
        classes: Number of classes.
        rates: Rates of its dropouts.
    """
    features = keras.Input((width,), name="features")  # names that Keras makes up would be in the file of the weights
    dropped = features
    for number, rate in enumerate(rates):
        dropped = kls.layers.Dropout(rate, name=f"{NAME}_dropout_{number}")(dropped)
    return keras.Model(features, keras.layers.Dense(classes, dtype="float32", name=NAME)(dropped), name=NAME)


def with_new_head(model, classes, fine_tune):
    """Returns a classifier with a new head in place of its own, ready to be trained in part.

    Args:
        model: A Keras model that returns logits; its layers are changed in place.
        classes: Number of classes.
        fine_tune: What of the backbone is trained, as in `Trial`.
    """
    backbone, rates = parted(model)
    trained = trainable_layers(backbone)[0 if fine_tune == ALL else -fine_tune :]
    for layer in all_layers(backbone):
        layer.trainable = layer in trained
    (features,) = backbone.outputs
    head = head_network(features.shape[-1], classes, rates)
    return keras.Model(backbone.inputs[0], head.call(features), name=model.name)


def head_layer(network):
    """Returns the last layer of what `head_network` or `with_new_head` returned, also within another model."""
    return next(layer for layer in all_layers(network) if layer.name == NAME)
