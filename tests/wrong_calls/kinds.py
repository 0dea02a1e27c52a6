"""Kinds of arguments: for each the values that a reader of the docstring would call nonsense."""

import math

import numpy as np

HUGE = 10**400  # beyond all floats
NO_NUMBERS = (None, "0.5", b"1", [0.5], {}, object(), True, 1j, math.nan, np.full(2, 0.5))


def optional(values):
    """Wrong values of an argument that may be `None`."""
    return [value for value in values if value is not None]


def number(allowed):
    """Wrong values where a real number of an interval is wanted, such as `"(0, 1]"`."""
    low, high = (float(end) for end in allowed[1:-1].split(","))

    def is_allowed(value):
        above = low <= value if allowed[0] == "[" else low < value
        return above and (value <= high if allowed[-1] == "]" else value < high)

    candidates = dict.fromkeys((low - 1, low, high, high + 1, -math.inf, math.inf))
    return [*NO_NUMBERS, HUGE, *(value for value in candidates if not is_allowed(value))]


def whole(least, most=None):
    """Wrong values where a whole number from `least` to `most` is wanted."""
    beyond = [] if most is None else [most + 1, HUGE]
    return [*NO_NUMBERS, least + 0.5, math.inf, least - 1, -HUGE, *beyond]


def seed():
    """Wrong values of a seed of NumPy."""
    return whole(0)


def layer_seed():
    """Wrong values of a seed of a Keras layer, which may be `None`."""
    return ["0", b"0", 0.5, [0], {}, object(), 1j, math.nan]


def flag():
    """Wrong values where a truth value is wanted."""
    return ["False", "no", 2, 0.5, [], object(), np.array([True, False])]


def choice(first, *others):
    """Wrong values where one of a few is wanted."""
    wrong = [None, "", "nonsense", b"x", 7, 0.5, True, [first], {}, object()]
    return wrong if not isinstance(first, str) else [*wrong, first.upper(), f" {first}"]


def text():
    """Wrong values where a name is wanted, whatever it is."""
    return [None, 5, 0.5, b"x", ["x"], {}, object(), True]


def path():
    """Wrong values where a path is wanted."""
    return [None, 5, 0.5, b"x", ["x"], {}, object(), True, "", "a\0b"]


def model():
    """Wrong values where a Keras model is wanted."""
    import keras

    return [None, 5, "resnet20v1", [], {}, object(), np.zeros((2, 3)), keras.Model, keras.layers.Dense(3), len]


def function():
    """Wrong values where a function is wanted."""
    return [None, 5, "ece", [], {}, object(), np.zeros(3)]


def no_mapping():
    """What is no dictionary."""
    return [5, "abc", b"x", [], [1, 2], (), object(), np.zeros(3)]


def mapping():
    """Wrong values where a dictionary of at least one thing is wanted."""
    return [None, {}, *no_mapping()]


def no_array(valid):
    """What is no array of real numbers, though some of it looks like `valid`."""
    valid = np.asarray(valid)
    return [
        None,
        "abc",
        {},
        object(),
        valid.astype(str),
        valid.astype(bytes),
        valid.astype(object),
        valid.astype(complex),
        np.zeros(valid.shape, "datetime64[s]"),
        np.ma.masked_array(valid, np.arange(valid.size).reshape(valid.shape) == 0),
        [[1], [1, 2]],
        valid[:0],
    ]


def labels(valid, classes, distributions=False, least=0):
    """Wrong values where class indices are wanted; a matrix that is not one-hot too, unless `distributions` are fine.

    Args:
        valid: Class indices of shape `(N,)`, N other than K.
        classes: K.
        distributions: Whether label distributions of shape `(N, K)` are taken.
        least: The least label: -1 where it marks an outlier.
    """
    valid = np.asarray(valid)
    ambiguous = np.ones((len(valid), classes), int)
    return [
        *no_array(valid),
        1,
        valid[:-1],
        np.append(valid, 0),
        valid[None],
        valid[:, None, None],
        np.zeros((len(valid), classes + 1), int),
        *(changed(valid, value) for value in (least - 1, classes, 10**9, 0.5, math.nan, math.inf, -math.inf)),
        changed(valid.astype(np.uint64), np.uint64(2**63)),
        *([] if distributions else [ambiguous, ambiguous / classes, 0 * ambiguous]),
    ]


def logits(valid, finite=False):
    """Wrong values where logits of shape `(N, K)` are wanted."""
    valid = np.asarray(valid)
    return [
        *no_array(valid),
        1.0,
        valid[0],
        valid[:, :1],
        valid[:, :0],
        valid[None],
        changed(valid, math.nan),
        changed(valid, math.inf),
        np.full(valid.shape, -math.inf),
        *([changed(valid, -math.inf)] if finite else []),
    ]


def probabilities(valid):
    """Wrong values where class probabilities of shape `(N, K)` are wanted."""
    valid = np.asarray(valid)
    negative = valid.copy()
    negative[0] = [1.5, -0.5, *[0.0] * (valid.shape[1] - 2)]
    return [
        *logits(valid),
        negative,
        2 * valid,
        0 * valid,
        -valid,
        changed(valid, -math.inf),
        np.ones(valid.shape, int),
    ]


def weights(valid):
    """Wrong values where sample weights of shape `(N,)` are wanted; `None` is none."""
    valid = np.asarray(valid, float)
    return [
        *optional(no_array(valid)),
        1.0,
        valid[:-1],
        np.append(valid, 1),
        valid[None, None],
        *(changed(valid, value) for value in (-1, math.nan, math.inf)),
        0 * valid,
    ]


def scores(valid):
    """Wrong values where scores of shape `(N,)` are wanted; infinite ones are allowed."""
    valid = np.asarray(valid, float)
    return [*no_array(valid), 1.0, valid[:, None], valid[None], changed(valid, math.nan)]


def matrix(valid):
    """Wrong values where finite numbers in a matrix are wanted."""
    valid = np.asarray(valid, float)
    return [*no_array(valid), 1.0, valid[0], valid[None], *(changed(valid, value) for value in (math.nan, math.inf))]


def byte_images(valid):
    """Wrong values where uint8 images of shape `(N, H, W, C)` are wanted."""
    valid = np.asarray(valid)
    return [
        *no_array(valid),
        1,
        (valid / 255).astype(np.float32),
        valid / 255,
        valid.astype(np.int8),
        valid > 127,
        np.full(valid.shape, math.nan, np.float32),
        valid.astype(np.float32) - 128,
        valid.astype(np.int32) + 256,
        valid[..., 0],
        valid[None],
    ]


def data(images, classes=None):
    """Wrong values where data that a model is given are wanted; with labels unless `classes` is `None`.

    Args:
        images: Float images of shape `(N, H, W, C)` that the model takes.
        classes: Number of classes that it tells apart.
    """
    indices = np.arange(len(images)) % (classes or 2)
    wrong_images = [
        images[:0],
        images.astype(str),
        images.astype(object),
        images.astype(complex),
        np.ma.masked_array(images, images > 0),
        images[:, :2],
        images[0],
        np.full(images.shape, math.nan, np.float32),
    ]
    if classes is None:
        return [None, 5, "abc", {}, object(), (), (images,) * 3, (images, indices[:-1]), *wrong_images]
    wrong_labels = [
        indices[:-1],
        indices.astype(str),
        indices.astype(object),
        indices.astype(complex),
        np.ma.masked_array(indices, indices > 0),
        *(changed(indices, value) for value in (-1, classes, 10**9, 0.5, math.nan)),
        np.ones((len(images), classes)),
    ]
    return [
        *(None, 5, "abc", {}, object(), (), images, (images, None), (images,) * 3),
        *((wrong, indices[: len(wrong)]) for wrong in wrong_images),
        *((images, wrong) for wrong in wrong_labels),
    ]


def changed(valid, value):
    """Returns a copy whose first number is another, in a dtype that holds it."""
    spoiled = np.array(valid, np.result_type(valid.dtype, np.asarray(value).dtype))
    spoiled.flat[0] = value
    return spoiled
