"""How data reach Keras: one helper for `fit`, `evaluate` and `predict`, one for whoever needs batch after batch."""

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from kls.utils.arrays import as_numbers, check_bool, check_whole, shown

AHEAD = 2  # batches that are made before they are used


def feed(batches, endless=False):
    """Wraps seeded batches in the form that the backend's `fit`, `evaluate` and `predict` take without a wait.

    On TensorFlow that is a `tf.data.Dataset` without autotuning: the destructor of an autotuned iterator waits for a
    thread that sleeps for up to a minute, so that `fit` returns late (TensorFlow 2.21). Other backends get a generator
    to train on, since Keras ends an epoch of a `PyDataset` once before the first, and else the batches. Batches go to
    the device in the dtype that they have, uint8 as a quarter of the bytes of float32.

    Args:
        batches: A `keras.utils.PyDataset` with `batch(epoch, index) -> (images, labels)` and the first `epoch`,
            such as `decathlon.Batches`; labels are an array, or a dictionary of arrays for a model of several outputs.
            What a batch holds must depend on epoch and index alone.
        endless: Whether to go on with the next epoch after the last batch, for `fit`; give `steps_per_epoch` too.

    Returns:
        What to pass as `x`.

    Raises:
        ValueError: If `batches` or `endless` are something else.

    Example:

    ```python
    model.fit(feed(batches, endless=True), steps_per_epoch=len(batches), epochs=3, shuffle=False)
    ```
    """
    check_bool(endless, "endless")
    if not (isinstance(batches, keras.utils.PyDataset) and hasattr(batches, "batch")):
        raise ValueError(
            f"`batches` must be a `keras.utils.PyDataset` with `batch(epoch, index)`. Received: {shown(batches)}"
        )

    def places():
        for epoch in itertools.count(batches.epoch):
            for index in range(len(batches)):
                yield epoch, index
            if not endless:
                return

    if keras.backend.backend() != "tensorflow":
        return _made_ahead(batches.batch, places()) if endless else batches
    import tensorflow as tf

    def generate():
        return itertools.starmap(batches.batch, places())

    def specification(values):
        array = np.asarray(values)
        return tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype))

    signature = keras.tree.map_structure(specification, batches.batch(batches.epoch, 0))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    if not endless:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return _as_it_comes(dataset.prefetch(AHEAD))


def _made_ahead(make, places):
    """Yields `make(*place)` of each place, made in a thread of its own while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(make, *place) for place in itertools.islice(places, AHEAD))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(thread.submit(make, *place) for place in itertools.islice(places, 1))


def batches_of(data, batch_size=128):
    """Yields `(images, labels)` of each batch once, in order; labels are `None` where there are none.

    They are NumPy arrays.

    Args:
        data: An array of images, a pair `(images, labels)` of arrays, a `keras.utils.PyDataset`, or a
            `tf.data.Dataset` of batches (iterated with autotuning off: see `feed`). What a batch holds after images
            and labels, such as sample weights, is left out.
        batch_size: Samples per batch, for arrays.

    Raises:
        ValueError: If `data` is something else, is empty or endless, if images and labels differ in number, or if
            images are no real numbers.

    Example:

    >>> [len(images) for images, labels in batches_of(np.zeros((5, 8, 8, 1)), batch_size=2)]
    [2, 2, 1]
    """
    check_whole(batch_size, "batch_size", 1)
    if isinstance(data, keras.utils.PyDataset):
        return (_pair(data[index]) for index in range(len(data)))
    if hasattr(data, "element_spec"):
        import tensorflow as tf

        if data.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ValueError("`data` must end. Received: a `tf.data.Dataset` that repeats for ever")
        return (_pair(element) for element in _as_it_comes(data))
    arrays = data if isinstance(data, tuple) else (data,)
    if not 1 <= len(arrays) <= 2 or not all(hasattr(array, "shape") and len(array.shape) for array in arrays):
        raise ValueError(
            "`data` must be an array of images, a tuple (images, labels) of arrays, a `keras.utils.PyDataset` or a "
            f"`tf.data.Dataset`. Received: {_describe(data)}"
        )
    images, labels = arrays[0], arrays[1] if len(arrays) == 2 else None
    if len(images) == 0 or (labels is not None and len(labels) != len(images)):
        found = "none" if labels is None else len(labels)
        raise ValueError(f"`data` must hold a label for each of one or more images. Received: {len(images)}, {found}")
    return (
        _pair(tuple(array[start : start + batch_size] for array in arrays))
        for start in range(0, len(images), batch_size)
    )


def check_labels(labels, name):
    """Returns labels as they are.

    Args:
        labels: Those of a batch or of all data, `None` where there are none.
        name: What the error calls the data.

    Raises:
        ValueError: If there are none.
    """
    if labels is None:
        raise ValueError(
            f"`{name}` must have labels: a pair (images, labels), or batches of them. Received: images alone"
        )
    return labels


def full_batches(data, batch_size=128):
    """Yields `(images, labels, count)` of each batch, smaller ones filled up to the size of the first.

    Whoever compiles for a batch compiles once: only the first `count` images are of the data.

    Args:
        data: As `batches_of` takes it.
        batch_size: Samples per batch, for arrays.

    Raises:
        ValueError: As `batches_of` does.

    Example:

    >>> [(len(images), count) for images, labels, count in full_batches(np.zeros((5, 8, 8, 1)), batch_size=2)]
    [(2, 2), (2, 2), (2, 1)]
    """
    full = None
    for images, labels in batches_of(data, batch_size):
        count = len(images)
        full = full or count
        if count < full:
            images = np.concatenate([images, np.repeat(images[-1:], full - count, axis=0)])
        yield images, labels, count


def _as_it_comes(dataset):
    """Returns a `tf.data.Dataset` that no replica shards, whose iterators are destroyed without a wait: see `feed`."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)


def _pair(element):
    """Returns the images and labels of a batch as arrays; masked labels stay so, for whoever takes them to refuse."""
    parts = element if isinstance(element, tuple | list) else (element,)
    if not all(hasattr(part, "shape") and len(part.shape) for part in parts[:2] if part is not None):
        raise ValueError(
            f"Batches must be images, or pairs (images, labels), of arrays. Received: {_describe(element)}"
        )
    images, labels = parts[0], parts[1] if len(parts) > 1 else None
    return as_numbers(images, "data"), None if labels is None else np.asanyarray(labels)


def _describe(data):
    if isinstance(data, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in data) or 'nothing'}"
    return type(data).__name__
