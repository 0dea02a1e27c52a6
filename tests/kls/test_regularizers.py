import keras
import numpy as np
import pytest

from kls.regularizers import L2

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's operation")


def test_a_penalty_is_the_factor_times_the_sum_of_squares():
    weights = keras.Variable(np.array([[1.0, -2.0], [3.0, 0.5]], "float32"))
    assert float(L2(0.1)(weights)) == pytest.approx(0.1 * 14.25)
    assert float(L2(0.0)(weights)) == 0


@tensorflow_only
@pytest.mark.parametrize("l2", [1e-4, 0.3])
def test_gradients_have_the_bits_of_keras(l2):
    import tensorflow as tf

    weights = keras.Variable(np.random.default_rng(0).normal(size=(3, 3, 7, 5)).astype("float32"))
    gradients = []
    for penalty in (L2(l2), keras.regularizers.L2(l2)):
        with tf.GradientTape() as tape:
            value = penalty(weights)
        gradients.append(tape.gradient(value, weights.value).numpy())
    np.testing.assert_array_equal(*gradients)


@tensorflow_only
def test_a_weight_takes_one_operation():
    import tensorflow as tf

    weights = keras.Variable(np.ones((2, 3), "float32"))
    graph = tf.function(lambda: L2(0.1)(weights)).get_concrete_function().graph
    assert [found.type for found in graph.get_operations()].count("L2Loss") == 1


def test_a_saved_network_keeps_its_penalties(tmp_path):
    layers = [keras.Input((2,)), keras.layers.Dense(3, kernel_regularizer=L2(0.25))]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    (layer,) = keras.models.load_model(tmp_path / "model.keras").layers
    assert type(layer.kernel_regularizer) is L2
    assert layer.kernel_regularizer.l2 == 0.25
