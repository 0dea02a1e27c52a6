import keras
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kls.models.grouped_convolution import GroupedConv2D


@given(
    groups=st.integers(1, 4),
    strides=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid"]),
)
def test_is_a_convolution_whose_kernel_is_zero_between_groups(groups, strides, padding):
    x = np.random.default_rng(0).normal(size=(2, 7, 6, 3 * groups)).astype("float32")
    grouped = GroupedConv2D(2 * groups, 3, strides=strides, padding=padding, groups=groups, bias_initializer="ones")
    outputs = grouped(x)
    dense = np.zeros((3, 3, 3 * groups, 2 * groups), "float32")
    for i in range(groups):
        dense[:, :, 3 * i : 3 * i + 3, 2 * i : 2 * i + 2] = grouped.kernel[..., 2 * i : 2 * i + 2]
    expected = keras.ops.conv(x, dense, strides=strides, padding=padding) + 1
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_is_that_of_keras():
    x = np.random.default_rng(0).normal(size=(8, 5, 6, 4)).astype("float32")
    ours, theirs = GroupedConv2D(6, 3, groups=2), keras.layers.Conv2D(6, 3, groups=2)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)
