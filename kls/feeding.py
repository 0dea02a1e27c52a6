"""How data reach Keras: one helper for `fit`, `evaluate` and `predict`."""

import itertools

import keras
import numpy as np


def feed(batches, endless=False):
    """Wraps seeded batches in the form that the backend's `fit`, `evaluate` and `predict` take without a wait.

    On TensorFlow that is a `tf.data.Dataset` with autotuning off: the destructor of an autotuned iterator waits
    for a thread that sleeps for up to a minute, so that `fit` returns late (TensorFlow 2.21). Other backends get
    a generator to train on, since Keras ends an epoch of a `PyDataset` once before the first, and else the batches.

    Args:
        batches: A `keras.utils.PyDataset` with `batch(epoch, index) -> (images, labels)` and the first `epoch`,
            such as `decathlon.Batches`. What a batch holds must depend on epoch and index alone.
        endless: Whether to go on with the next epoch after the last batch, for `fit`; give `steps_per_epoch` too.

    Returns:
        What to pass as `x`.

    Example:

    ```python
    model.fit(feed(batches, endless=True), steps_per_epoch=len(batches), epochs=3, shuffle=False)
    ```
    """

    def generate():
        for epoch in itertools.count(batches.epoch):
            for index in range(len(batches)):
                yield batches.batch(epoch, index)
            if not endless:
                return

    if keras.backend.backend() != "tensorflow":
        return generate() if endless else batches
    import tensorflow as tf

    signature = tuple(
        tf.TensorSpec((None, *array.shape[1:]), tf.as_dtype(array.dtype))
        for array in map(np.asarray, batches.batch(batches.epoch, 0))
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    if not endless:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return dataset.prefetch(2).with_options(options)
