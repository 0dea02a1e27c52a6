"""Checks of the arguments that all model functions share."""

import numbers

import keras

SMALLEST_SIDE = 8


def check_input_shape(input_shape):
    """Raises `ValueError` unless `input_shape` is (height, width, channels) that the networks can halve three times."""
    if keras.config.image_data_format() != "channels_last":
        raise ValueError("`keras.config.image_data_format()` must be 'channels_last'. Received: 'channels_first'")
    if (
        not isinstance(input_shape, tuple | list)
        or len(input_shape) != 3
        or not all(isinstance(n, numbers.Integral) for n in input_shape)
        or min(input_shape[:2]) < SMALLEST_SIDE
        or input_shape[2] not in (1, 3)
    ):
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with sides of at least {SMALLEST_SIDE} and 1 or 3 "
            f"channels. Received: input_shape={input_shape}"
        )


def blocks_per_stage(depth, layers_per_block, extra_layers):
    """Returns n of `depth = layers_per_block * n + extra_layers`, or raises with the nearest valid depths."""
    if not isinstance(depth, numbers.Integral):
        raise ValueError(f"`depth` must be a whole number. Received: depth={depth!r}")
    n, rest = divmod(depth - extra_layers, layers_per_block)
    if rest == 0 and n >= 1:
        return n
    below = max(n, 1) * layers_per_block + extra_layers
    nearest = sorted({below, below + layers_per_block})
    raise ValueError(
        f"`depth` must be {layers_per_block}n+{extra_layers} with n >= 1. Received: depth={depth}. "
        f"Nearest valid depths: {', '.join(map(str, nearest))}"
    )


def blocks_of_depth(depth, known):
    """Returns `known[depth]`, the numbers of blocks of each stage, or raises with the depths that are known."""
    if not isinstance(depth, numbers.Integral) or depth not in known:
        raise ValueError(f"`depth` must be one of {', '.join(map(str, known))}. Received: depth={depth!r}")
    return known[depth]
