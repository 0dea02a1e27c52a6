import keras
import numpy as np
import pytest

from kls.calibration.namespaces import ARRAYS, TENSORS

VALUES = np.random.default_rng(0).normal(size=(7, 9)).astype("float32")


@pytest.mark.parametrize("xp", [ARRAYS, TENSORS], ids=["arrays", "tensors"])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_the_kth_largest_is_that_of_a_sorted_row(xp, k):
    found = keras.ops.convert_to_numpy(xp.kth_largest(VALUES, k))
    np.testing.assert_array_equal(found, np.sort(VALUES)[:, ::-1][:, k - 1 : k])


@pytest.mark.parametrize(("xp", "dtype"), [(ARRAYS, "float64"), (TENSORS, "float32")])
def test_floats_and_their_limits_are_those_of_the_dtype(xp, dtype):
    assert keras.backend.standardize_dtype(xp.as_float(VALUES.astype("float16")).dtype) == dtype
    assert (xp.lowest, xp.tiny) == (float(np.finfo(dtype).min), float(np.finfo(dtype).tiny))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_both_have_one_softmax(name):
    of_tensors = keras.ops.convert_to_numpy(getattr(TENSORS, name)(VALUES))
    np.testing.assert_allclose(of_tensors, getattr(ARRAYS, name)(VALUES), rtol=1e-5, atol=1e-6)
