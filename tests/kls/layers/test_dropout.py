import keras
import numpy as np
import pytest

from kls.layers import Dropout, MonteCarloDropout

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the fused kernel is TensorFlow's")


def images(shape=(8, 5, 6, 3), dtype="float32", seed=0):
    return (np.random.default_rng(seed).normal(2, 3, size=shape)).astype(dtype)


class TestDropout:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    @pytest.mark.parametrize("rate", [0.01, 0.3, 0.97])
    def test_drops_its_rate_in_each_dtype(self, dtype, rate):
        count = 400_001  # an odd number: the last draw has its pair cut off
        found = keras.ops.cast(
            Dropout(rate, seed=1, dtype=dtype)(keras.ops.ones((count,), dtype), training=True), "float32"
        )
        dropped = float(np.mean(np.asarray(found) == 0))
        assert dropped == pytest.approx(rate, abs=4.5 * np.sqrt(rate * (1 - rate) / count))
        kept = 2**16 - round(rate * 2**16)
        scale = float(keras.ops.cast(keras.ops.cast(2**16 / kept, dtype), "float32"))
        assert set(np.unique(found)) == {np.float32(0), np.float32(scale)}

    @pytest.mark.parametrize(("rate", "kept"), [(1e-5, 2**16 - 1), (1e-6, 2**16), (1 - 1e-6, 1)])
    def test_scales_by_the_rate_that_it_has(self, rate, kept):
        found = np.asarray(Dropout(rate, seed=1)(keras.ops.ones((400_000,)), training=True))
        assert set(np.unique(found)) <= {np.float32(0), np.float32(2**16 / kept)}
        assert found.max() == np.float32(2**16 / kept)

    def test_gradients_pass_where_values_do(self):
        import tensorflow as tf

        x = tf.constant(images((4, 5, 5, 3)))
        layer = Dropout(0.4, seed=2)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        np.testing.assert_allclose(tape.gradient(y, x), np.where(y == 0, 0, 2**16 / 39322), rtol=1e-6)

    def test_neighbours_and_calls_are_drawn_apart(self):
        layer = Dropout(0.5, seed=3)
        first, second = (np.asarray(layer(np.ones(200_000, "float32"), training=True)) > 0 for _ in range(2))
        for one, other in ((first, second), (first[1:], first[:-1]), (first[2:], first[:-2])):
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.01

    @pytest.mark.parametrize("arguments", [{"rate": 0.0}, {"rate": 1.0}, {"rate": 0.5, "noise_shape": (None, 1)}])
    def test_the_rest_is_keras(self, arguments):
        x = images((6, 7))
        ours, theirs = Dropout(**arguments, seed=4), keras.layers.Dropout(**arguments, seed=4)
        np.testing.assert_array_equal(ours(x, training=True), theirs(x, training=True))
        np.testing.assert_array_equal(ours(x), x)


class TestMonteCarloDropout:
    def test_drops_and_scales_in_inference_and_in_training(self):
        layer = MonteCarloDropout(0.2, seed=0)
        for training in (True, False, None):
            found = np.asarray(layer(np.ones((100, 100), "float32"), training=training))
            assert set(np.unique(found)) == {0.0, np.float32(2**16 / 52429)}  # 0.2 is 13,107 of 2^16
            assert (found > 0).mean() == pytest.approx(0.8, abs=0.02)

    def test_the_same_seed_gives_the_same_draws_and_each_call_others(self):
        x = np.ones((4, 50), "float32")
        one, two = MonteCarloDropout(0.5, seed=7), MonteCarloDropout(0.5, seed=7)
        first = np.asarray(one(x))
        np.testing.assert_array_equal(first, two(x))
        assert (first != np.asarray(one(x))).any()

    def test_config_round_trip(self):
        layer = MonteCarloDropout(0.3, seed=5, noise_shape=(None, 1), name="mine")
        again = keras.layers.deserialize(keras.layers.serialize(layer))
        assert type(again) is MonteCarloDropout
        assert again.get_config() == layer.get_config()
        assert (again.rate, again.seed) == (0.3, 5)
