import keras
import numpy as np
import pytest
from keras import layers

from kls.layers import TwoLogits

Z = np.array([[0.0], [2.0], [-3.0]], "float32")


def test_softmax_of_its_outputs_is_the_sigmoid():
    found = keras.ops.convert_to_numpy(keras.ops.softmax(TwoLogits()(Z)))
    np.testing.assert_allclose(found[:, 1:], 1 / (1 + np.exp(-Z)), rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def test_is_saved_and_loaded(tmp_path):
    keras.Sequential([layers.Input((1,)), TwoLogits()]).save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(loaded.predict(Z, verbose=0), np.hstack([0 * Z, Z]))


@pytest.mark.parametrize("shape", [(3, 2), (3,), (3, 1, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"`inputs` must be of shape \(N, 1\)\. Received: shape"):
        TwoLogits()(np.zeros(shape))
