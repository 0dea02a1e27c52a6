import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

import kls
from kls.targets import mix, smooth, smoothing_weights

classes = st.integers(2, 2000)
epsilons = st.floats(0, 0.99)


@given(epsilons, classes)
def test_gamma_and_epsilon_are_inverse(epsilon, k):
    gamma = kls.gamma_from_epsilon(epsilon, k)
    assert kls.epsilon_from_gamma(gamma, k) == pytest.approx(epsilon, abs=1e-12)


@given(epsilons, st.sampled_from([2, 3, 10, 50]), st.integers(0, 49))
def test_smooth_puts_what_keras_label_smoothing_puts(epsilon, k, label):
    label %= k
    gamma = kls.gamma_from_epsilon(epsilon, k)
    uniform = np.full(k, epsilon / k)
    uniform[label] += 1 - epsilon
    np.testing.assert_allclose(ops.convert_to_numpy(smooth([label], k, gamma))[0], uniform, atol=1e-6)


def test_smooth_by_hand():
    rows = ops.convert_to_numpy(smooth([2, 0], classes=3, gamma=0.5))
    np.testing.assert_allclose(rows, [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]], atol=1e-7)


@given(classes, st.floats(0.001, 1))
def test_smoothing_weights_sum_to_one(k, share):
    gamma = 1 / k + share * (1 - 1 / k)
    a, b = smoothing_weights(min(gamma, 1.0), k)
    assert a + k * b == pytest.approx(1, abs=1e-12)
    assert a >= -1e-15


@pytest.mark.parametrize("gamma", [0.1, 0.05, 0, -1, 1.01, float("nan"), "0.9", None, True])
def test_gamma_that_is_not_above_one_in_k_names_gamma_and_k(gamma):
    with pytest.raises(ValueError, match=rf"gamma={gamma!r} with K=10"):
        kls.epsilon_from_gamma(gamma, classes=10)


def test_mix_weighs_the_first_by_sample():
    mixed = mix([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], np.array([0.25, 0.5], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(mixed), [[0.25, 0.75], [0.0, 1.0]])


def test_smooth_takes_any_leading_shape():
    labels = keras.random.randint((2, 3), 0, 5, seed=1)
    assert smooth(labels, 5, 0.9).shape == (2, 3, 5)


def test_mix_takes_integers_and_further_axes():
    np.testing.assert_allclose(ops.convert_to_numpy(mix([[1, 0]], [[0, 1]], 0.25)), [[0.25, 0.75]])
    first, second = np.ones((2, 4, 3)), np.zeros((2, 4, 3))
    np.testing.assert_allclose(ops.convert_to_numpy(mix(first, second, np.array([0.25, 1.0])))[:, 0, 0], [0.25, 1.0])
