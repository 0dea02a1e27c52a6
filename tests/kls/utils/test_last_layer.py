import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import softmax

from kls.layers import TwoLogits
from kls.utils.feature_extractor import Network
from kls.utils.last_layer import last_layer

from .heads import HEADS, IMAGES, body, both, flat, head, made, nested, pooled


def given(model, images=IMAGES):
    """Returns what a model gives, without `predict`, which compiles it first."""
    return keras.ops.convert_to_numpy(model(images, training=False))


def without_the_last_layer(model):
    """Returns what goes into the last layer with weights, averaged over its places, and its kernel and bias."""
    inner = next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)
    last = [layer for layer in inner.layers if layer.weights][-1]
    features = given(keras.Model(inner.inputs[0], last.input))
    if features.ndim == 4:
        features = features.mean(axis=(1, 2))
    kernel = last.get_weights()[0].reshape(features.shape[1], -1)
    return features, kernel, last.get_weights()[1] if last.use_bias else np.zeros(kernel.shape[1])


class TestHeads:
    @pytest.mark.parametrize("name", HEADS)
    def test_logits_and_features_are_those_of_numpy(self, name):
        model = made(name)
        network = Network(model)
        found = network.outputs(IMAGES, features=True)
        features, kernel, bias = without_the_last_layer(model)
        logits = features @ kernel + bias
        if logits.shape[1] == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        np.testing.assert_allclose(found.features, features, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.features @ found.head[0] + found.head[1], found.logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(softmax(found.logits, axis=1), both(given(model)), rtol=1e-3, atol=1e-5)
        assert (found.exact_logits, network.has_head) == (True, True)
        assert network.check(IMAGES)[1] == logits.shape[1]

    def test_one_output_by_hand(self):
        model = keras.Sequential([layers.Input((2,)), layers.Dense(1, activation="sigmoid")])
        model.set_weights([np.array([[1.0], [-2.0]]), np.array([0.5])])
        found = Network(model).outputs(np.array([[3.0, 1.0], [0.0, 1.0]], "float32"), features=True)
        np.testing.assert_allclose(found.logits, [[0.0, 1.5], [0.0, -1.5]])
        np.testing.assert_allclose(found.head[0], [[0.0, 1.0], [0.0, -2.0]])
        np.testing.assert_allclose(found.head[1], [0.0, 0.5])
        np.testing.assert_allclose(softmax(found.logits, axis=1)[:, 1], [0.8175745, 0.1824255], rtol=1e-6)

    def test_two_logits_are_seen_through(self):
        model = flat(layers.Dense(1), TwoLogits(), layers.Softmax())
        found = Network(model).outputs(IMAGES, features=True)
        assert found.head[0].shape == (72, 2)
        np.testing.assert_allclose(softmax(found.logits, axis=1), given(model), rtol=1e-5)

    def test_a_network_of_keras(self):
        model = keras.applications.MobileNetV3Small(weights=None, include_top=True, classes=3, input_shape=(32, 32, 3))
        last = [layer for layer in model.layers if layer.weights][-1]
        kernel, bias = np.random.default_rng(0).normal(size=(1, 1, 1024, 3)), np.array([1.0, 0.0, -1.0])
        last.set_weights([kernel, bias])
        images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
        found = Network(model).outputs(images, features=True)
        assert found.features.shape == (2, 1024)
        np.testing.assert_allclose(found.features @ kernel[0, 0] + bias, found.logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(softmax(found.logits, axis=1), given(model, images), rtol=1e-4)

    def test_tensors_have_the_same_head(self):
        network = Network(made("sigmoid"))
        arrays, tensors = network.outputs(IMAGES, True), network.tensors(keras.ops.convert_to_tensor(IMAGES), True)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(tensors.logits), arrays.logits, rtol=1e-4, atol=1e-5)
        for tensor, array in zip(tensors.head, arrays.head, strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), array)

    def test_a_layer_of_the_name_in_a_loaded_model(self, tmp_path):
        made("pooling, softmax").save(tmp_path / "a.keras")
        keras.utils.clear_session()  # a new process counts the names of layers from the start
        model = keras.models.load_model(tmp_path / "a.keras")
        assert Network(model).outputs(IMAGES, features=True).features.shape == (40, 6)

    @pytest.mark.usefixtures("bfloat16")
    @pytest.mark.parametrize("name", ["pooling, softmax", "sigmoid"])
    def test_mixed_precision(self, name):
        model = made(name)
        found = Network(model).outputs(IMAGES, features=True)
        assert (found.features.dtype, found.logits.dtype) == (np.float32, np.float32)
        outputs = both(given(model).astype("float32"))
        np.testing.assert_allclose(softmax(found.logits, axis=1), outputs, atol=0.05)


class OwnDense(layers.Dense):
    pass


class Pooling(layers.GlobalAveragePooling2D):
    pass


class Sigmoid(layers.Layer):
    def call(self, x):
        return 2 * keras.ops.sigmoid(x)


NOT_FOUND = {
    "relu before the pooling": lambda: keras.Sequential(
        [*body(), head(activation="relu"), layers.GlobalAveragePooling2D(), layers.Softmax()]
    ),
    "relu layer before the pooling": lambda: keras.Sequential(
        [*body(), head(), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Softmax()]
    ),
    "softmax before the pooling": lambda: keras.Sequential(
        [*body(), head(activation="softmax"), layers.GlobalAveragePooling2D()]
    ),
    "two softmaxes": lambda: flat(layers.Dense(3, activation="softmax"), layers.Softmax()),
    "maps that are not pooled": lambda: keras.Sequential([*body(), head(2), layers.Flatten()]),
    "maps": lambda: pooled(head()),
    "classes pooled apart": lambda: pooled(head(6), layers.Reshape((3, 1, 2)), layers.GlobalAveragePooling2D()),
    "strides": lambda: keras.Sequential([*body(), head(strides=2), layers.GlobalAveragePooling2D()]),
    "groups": lambda: keras.Sequential([*body(), head(groups=3), layers.GlobalAveragePooling2D()]),
    "a kernel of 3 x 3": lambda: keras.Sequential([*body(), layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()]),
    "largest place": lambda: keras.Sequential([*body(), head(), layers.GlobalMaxPooling2D()]),
    "subclass": lambda: flat(OwnDense(3)),
    "sigmoid and two logits": lambda: flat(layers.Dense(1, activation="sigmoid"), TwoLogits()),
    "another activation layer": lambda: flat(layers.Dense(3), layers.Activation("log_softmax")),
    "subclass of the pooling": lambda: keras.Sequential([*body(), head(), Pooling()]),
    "own layer called sigmoid": lambda: flat(layers.Dense(1), Sigmoid()),
    "nested relu": lambda: nested(
        keras.Sequential([*body(), head(activation="relu")]), layers.GlobalAveragePooling2D()
    ),
}


class TestOthers:
    def test_a_quantized_layer_is_not_found(self):
        model = flat(layers.Dense(3))
        model.layers[-1].quantize("int8")
        assert last_layer(model) is None

    @pytest.mark.parametrize("name", NOT_FOUND)
    def test_have_no_last_layer(self, name):
        assert last_layer(NOT_FOUND[name]()) is None

    @pytest.mark.parametrize(
        ("last", "activation"),
        [
            ([layers.Dense(1, activation="relu")], "relu"),
            ([layers.Dense(1), layers.Softmax()], "softmax"),
            ([layers.Dense(3), layers.Activation("sigmoid")], "sigmoid"),
            ([layers.Dense(1), TwoLogits(), layers.Activation("sigmoid")], "sigmoid"),
        ],
    )
    def test_activations_that_give_no_probabilities_are_refused(self, last, activation):
        with pytest.raises(ValueError, match=f"by softmax, those of one output by sigmoid.*activation {activation}$"):
            last_layer(flat(*last))


class One(keras.Model):
    """A subclass of one output: a multiple of the sum of its inputs."""

    def __init__(self, activation=None, factor=1.0):
        super().__init__()
        self.function, self.factor = keras.activations.get(activation), factor

    def call(self, x):
        return self.function(self.factor * keras.ops.sum(x, axis=1, keepdims=True))


X = np.array([[1.0, 1.0], [-3.0, 0.0], [0.5, 0.0]], "float32")
Z = np.array([2.0, -3.0, 0.5])


class TestOneOutputOfASubclass:
    def test_probabilities(self):
        network = Network(One("sigmoid"))
        found = network.outputs(X)
        p = 1 / (1 + np.exp(-Z))
        np.testing.assert_allclose(np.exp(found.logits), np.stack([1 - p, p], axis=1), rtol=1e-5)
        assert (found.exact_logits, network.gives_probabilities, network.check(X)[1]) == (False, True, 2)

    def test_logits(self):
        network = Network(One())
        np.testing.assert_allclose(network.outputs(X).logits, np.stack([0 * Z, Z], axis=1), rtol=1e-6)
        assert network.exact_logits
        found = network.outputs(X[2:])  # one in [0, 1] is a logit still
        np.testing.assert_allclose(found.logits, [[0, 0.5]])

    def test_negative_logits_are_no_logarithms(self):
        network = Network(One())
        network.outputs(X[1:2])
        assert not network.gives_log_probabilities

    def test_what_turns_out_to_be_no_probability_is_refused(self):
        with pytest.raises(ValueError, match=r"in \[0, 1\] as its one output.*\(N, 2\)\. Received: -3 to 2"):
            Network(One()).outputs(X[[2, 0, 1]], batch_size=1)
