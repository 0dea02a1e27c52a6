"""Checks of the arguments that all model functions share."""

import numbers

import keras

from kls.targets import check_classes
from kls.utils.arrays import check_choice, shown

SMALLEST_SIDE = 8


def check_network(input_shape, classes, classifier_activation):
    """Raises `ValueError` unless a network of such images, classes and outputs can be built."""
    check_input_shape(input_shape)
    check_classes(classes)
    try:
        keras.activations.get(classifier_activation)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`classifier_activation` must be the name of one of Keras's activations, a function or None. "
            f"Received: classifier_activation={shown(classifier_activation)}"
        ) from error


def check_input_shape(input_shape):
    """Raises `ValueError` unless `input_shape` is (height, width, channels) that the networks can halve three times."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("`keras.config.image_data_format()` must be 'channels_last'. Received: 'channels_first'")
    if (
        not isinstance(input_shape, tuple | list)
        or len(input_shape) != 3
        or not all(map(_is_whole, input_shape))
        or min(input_shape[:2]) < SMALLEST_SIDE
        or input_shape[2] not in (1, 3)
    ):
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with sides of at least {SMALLEST_SIDE} and 1 or 3 "
            f"channels. Received: input_shape={shown(input_shape)}"
        )


def blocks_per_stage(depth, layers_per_block, extra_layers):
    """Returns n of `depth = layers_per_block * n + extra_layers`, or raises with the nearest valid depths."""
    message = f"`depth` must be {layers_per_block}n+{extra_layers} with n >= 1. Received: depth={shown(depth)}"
    if not _is_whole(depth):
        raise ValueError(message)
    n, rest = divmod(depth - extra_layers, layers_per_block)
    if rest == 0 and n >= 1:
        return n
    below = max(n, 1) * layers_per_block + extra_layers
    nearest = sorted({below, below + layers_per_block})
    raise ValueError(f"{message}. Nearest valid depths: {', '.join(map(str, nearest))}")


def blocks_of_depth(depth, known):
    """Returns `known[depth]`, the numbers of blocks of each stage, or raises with the depths that are known."""
    return known[check_choice(int(depth) if _is_whole(depth) else depth, "depth", known)]


def _is_whole(value):
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
