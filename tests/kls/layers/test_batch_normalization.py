import keras
import numpy as np
import pytest

from kls.layers import BatchNormalization
from kls.study.train import mirrored_strategy

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused kernel is TensorFlow's")


def images(shape=(8, 5, 6, 3), dtype="float32", seed=0):
    return (np.random.default_rng(seed).normal(2, 3, size=shape)).astype(dtype)


def pair(channels=3, seed=1, **arguments):
    """Returns our layer and Keras's with the same weights, none of them at its initial value."""
    rng = np.random.default_rng(seed)
    layers = BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    weights = [rng.uniform(0.5, 2, channels), rng.normal(size=channels), rng.normal(size=channels)]
    for layer in layers:
        layer.build((None, None, None, channels))
        layer.set_weights([*weights, rng.uniform(0.5, 2, channels)][: len(layer.weights)])
        rng = np.random.default_rng(seed)
        weights = [rng.uniform(0.5, 2, channels), rng.normal(size=channels), rng.normal(size=channels)]
    return layers


def outputs_and_gradients(layer, x, training):
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
        value = tf.reduce_sum(tf.sin(tf.cast(y, "float32")))
    sources = [x, *(v.value for v in layer.trainable_variables)]
    return y.numpy(), [tf.cast(g, "float32").numpy() for g in tape.gradient(value, sources)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "shape", [(8, 5, 6, 3), (1, 1, 1, 3), (2, 1, 1, 3), (4, 8, 8, 3), (6, 4, 8, 12), (3, 2, 4, 30)]
)
def test_outputs_gradients_and_moving_statistics_are_those_of_keras(training, shape):
    ours, theirs = pair(shape[-1], momentum=0.7)
    x = images(shape)
    (y, gradients), (y_keras, gradients_keras) = (outputs_and_gradients(layer, x, training) for layer in (ours, theirs))
    np.testing.assert_allclose(y, y_keras, rtol=2e-5, atol=2e-5)
    for found, expected in zip(gradients, gradients_keras, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(ours.moving_mean.numpy(), theirs.moving_mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.moving_variance.numpy(), theirs.moving_variance.numpy(), rtol=1e-5, atol=1e-6)


def second_gradients(call, gamma, beta, x, upstream, compiled=False):
    """Returns the gradients by inputs, scale and offset of a mixture of a normalisation's gradients by these."""
    import tensorflow as tf

    x, upstream = tf.constant(x, gamma.dtype), tf.constant(upstream, gamma.dtype)

    def gradients():
        with tf.GradientTape() as outer:
            outer.watch([x, gamma, beta])
            with tf.GradientTape() as inner:
                inner.watch([x, gamma, beta])
                value = tf.reduce_sum(tf.sin(call(x)))
            first = inner.gradient(value, [x, gamma, beta])
            mixture = tf.reduce_sum(first[0] * upstream) + tf.reduce_sum(first[1] ** 2) + tf.reduce_sum(first[2])
        return outer.gradient(mixture, [x, gamma, beta])

    return [values.numpy() for values in (tf.function(gradients) if compiled else gradients)()]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [12, 16, 30])
def test_second_order_gradients_are_those_of_the_formula(channels, training, compiled):
    import tensorflow as tf

    layer, theirs = pair(channels)
    x, upstream = images((6, 4, 8, channels)), images((6, 4, 8, channels), seed=5)
    gamma, beta, mean, variance = (tf.constant(weight, "float64") for weight in layer.get_weights())

    def formula(values):
        moments = tf.nn.moments(values, [0, 1, 2]) if training else (mean, variance)
        if training:  # those of TensorFlow take no second gradient through the mean
            moments = moments[0], tf.reduce_mean((values - moments[0]) ** 2, [0, 1, 2])
        return gamma * (values - moments[0]) / tf.sqrt(moments[1] + layer.epsilon) + beta

    found = second_gradients(
        lambda values: layer(values, training=training), layer.gamma.value, layer.beta.value, x, upstream, compiled
    )
    expected = second_gradients(formula, gamma, beta, x, upstream)
    for values, truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, truth, rtol=1e-4, atol=1e-5 * np.abs(truth).max())
    if not training:  # in training Keras's own miss what tf.nn.moments leaves out
        of_keras = second_gradients(
            lambda values: theirs(values, training=False), theirs.gamma.value, theirs.beta.value, x, upstream
        )
        for values, truth in zip(found, of_keras, strict=True):
            np.testing.assert_allclose(values, truth, rtol=1e-4, atol=1e-5 * np.abs(truth).max())


@pytest.mark.parametrize("value", [-0.1, float("nan"), "0.9", None, True])
@pytest.mark.parametrize("name", ["momentum", "epsilon"])
def test_what_is_no_number_of_the_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be a number in \[0, .*Received: {name}={value!r}"):
        BatchNormalization(**{name: value})


def test_the_fused_kernel_is_what_runs():
    import tensorflow as tf

    layer, _ = pair()
    for training in (True, False):
        graph = tf.function(lambda x, training=training: layer(x, training=training)).get_concrete_function(
            tf.TensorSpec((None, 8, 8, 3))
        )
        assert any(operation.type.startswith("FusedBatchNorm") for operation in graph.graph.get_operations())


def test_weights_have_the_names_and_order_of_keras():
    ours, theirs = pair()
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


def test_a_frozen_layer_uses_and_keeps_its_moving_statistics():
    ours, _ = pair()
    ours.trainable = False
    before = [w.copy() for w in ours.get_weights()]
    y = ours(images(), training=True)
    np.testing.assert_array_equal(before, ours.get_weights())
    np.testing.assert_allclose(y, ours(images(), training=False), rtol=1e-6)


@pytest.mark.usefixtures("bfloat16")
def test_mixed_precision_keeps_statistics_in_float32():
    import tensorflow as tf

    ours, theirs = pair(momentum=0.5)
    x = tf.cast(images((16, 8, 8, 3)), tf.bfloat16)
    y, y_keras = ours(x, training=True), theirs(x, training=True)
    assert y.dtype == tf.bfloat16
    assert {keras.backend.standardize_dtype(w.dtype) for w in ours.weights} == {"float32"}
    np.testing.assert_allclose(tf.cast(y, "float32"), tf.cast(y_keras, "float32"), atol=0.05)
    np.testing.assert_allclose(ours.moving_mean.numpy(), theirs.moving_mean.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours.moving_variance.numpy(), theirs.moving_variance.numpy(), rtol=1e-4, atol=1e-4)


def outputs_and_gradients_in_bfloat16(layer, x, upstream, training):
    """Returns float32 outputs, and gradients by the inputs, scale and offset, of a layer fed with bfloat16."""
    import tensorflow as tf

    x = tf.cast(x, "bfloat16")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training)
    gradients = tape.gradient(y, [x, layer.gamma.value, layer.beta.value], tf.cast(upstream, y.dtype))
    return [tf.cast(values, "float32").numpy() for values in (y, *gradients)]


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4, 8, 12), (3, 2, 4, 30), (2, 4, 4, 5), (4, 3, 3, 12), (1, 1, 4, 24)])
def test_channels_that_are_no_multiple_of_16_are_as_exact_in_bfloat16(shape, training):
    ours, theirs = pair(shape[-1], momentum=0.6)
    theirs.dtype_policy = "float32"
    x = np.asarray(keras.ops.cast(images(shape), "bfloat16"), "float32")
    upstream = np.asarray(keras.ops.cast(images(shape, seed=5), "bfloat16"), "float32")
    found = outputs_and_gradients_in_bfloat16(ours, x, upstream, training)
    expected = outputs_and_gradients_in_bfloat16(theirs, x, upstream, training)
    for values, truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, truth, rtol=0.02, atol=0.01 * np.abs(truth).max())
    for own, other in zip(ours.weights[2:], theirs.weights[2:], strict=True):
        np.testing.assert_allclose(own.numpy(), other.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("channels", "pixels"), [(12, (4, 8)), (24, (2, 1)), (30, (8, 8))])
def test_such_channels_reach_the_kernel_in_sixteens(dtype, channels, pixels):
    import tensorflow as tf

    layer = BatchNormalization(dtype="float32" if dtype == "float32" else "mixed_bfloat16")
    graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(
        tf.TensorSpec((None, *pixels, channels), dtype)
    )
    kernels = [found for found in graph.graph.get_operations() if found.type == "FusedBatchNormV3"]
    assert kernels
    assert all(kernel.inputs[0].shape[-1] % 16 == 0 for kernel in kernels)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [({"axis": 1}, (4, 3, 5, 6)), ({"scale": False}, (4, 5, 6, 3)), ({"center": False}, (4, 5, 6, 3)), ({}, (9, 3))],
)
def test_what_the_kernel_does_not_cover_is_keras(arguments, shape):
    ours, theirs = BatchNormalization(**arguments), keras.layers.BatchNormalization(**arguments)
    x = images(shape)
    np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
    np.testing.assert_array_equal(ours.get_weights(), theirs.get_weights())


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.layers.Input((6, 6, 3)), BatchNormalization(momentum=0.8)])
    model(images((4, 6, 6, 3)), training=True)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[0]) is BatchNormalization
    assert again.layers[0].momentum == 0.8
    np.testing.assert_array_equal(again.predict(images(), verbose=0), model.predict(images(), verbose=0))


class TestTwoReplicas:
    def run(self, layer_arguments, x):
        """Returns the outputs of both halves of a batch, and each replica's moving mean and variance."""
        import tensorflow as tf

        strategy = mirrored_strategy()
        with strategy.scope():
            layer = BatchNormalization(momentum=0.5, **layer_arguments)
            layer.build((None, *x.shape[1:]))
        halves = iter(np.split(x, 2))
        values = strategy.experimental_distribute_values_from_function(lambda _: tf.constant(next(halves)))
        step = tf.function(lambda parts: strategy.run(lambda part: layer(part, training=True), args=(parts,)))
        outputs = step(values)
        statistics = [
            [tensor.numpy() for tensor in strategy.experimental_local_results(variable.value)]
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        return np.concatenate([y.numpy() for y in strategy.experimental_local_results(outputs)]), statistics

    def test_moving_statistics_are_the_mean_over_the_replicas(self):
        x = images((8, 4, 4, 3))
        y, (means, variances) = self.run({}, x)
        halves = np.split(x, 2)
        np.testing.assert_allclose(means[0], 0.5 * np.mean([h.mean(axis=(0, 1, 2)) for h in halves], axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            variances[0], 0.5 + 0.5 * np.mean([h.var(axis=(0, 1, 2)) for h in halves], axis=0), rtol=1e-5
        )
        np.testing.assert_array_equal(means[0], means[1])
        np.testing.assert_array_equal(variances[0], variances[1])
        for part, half in zip(np.split(y, 2), halves, strict=True):
            alone = keras.layers.BatchNormalization()(half, training=True)
            np.testing.assert_allclose(part, alone, atol=1e-5)

    def test_synchronized_is_one_replica_with_the_whole_batch(self):
        x = images((8, 4, 4, 3))
        y, (means, variances) = self.run({"synchronized": True}, x)
        alone = keras.layers.BatchNormalization(momentum=0.5)
        np.testing.assert_allclose(y, alone(x, training=True), atol=1e-5)
        for mean, variance in zip(means, variances, strict=True):
            np.testing.assert_allclose(mean, alone.moving_mean.numpy(), rtol=1e-5)
            np.testing.assert_allclose(variance, alone.moving_variance.numpy(), rtol=1e-5)
