import keras
import numpy as np
import pytest
from keras import layers

from kls.utils.data import batches_of
from kls.utils.feature_extractor import Network

from .networks import RNG, X, Y, expected, hidden_and_head, inner, on_tensorflow, weighted


class Batches(keras.utils.PyDataset):
    def __init__(self, *batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.fixture(scope="module")
def network():
    return Network(weighted(inner("softmax")))


class TestData:
    def check(self, network, data, labels=Y, **arguments):
        found = network.outputs(data, features=True, **arguments)
        features, logits = expected()
        np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-5)
        if labels is None:
            assert found.labels is None
        else:
            np.testing.assert_array_equal(found.labels, labels)

    @pytest.mark.parametrize("batch_size", [1, 4, 20, 21, 22, 128, 10**9])
    def test_arrays_in_batches_of_any_size(self, network, batch_size):
        self.check(network, X, None, batch_size=batch_size)
        self.check(network, (X, Y), batch_size=batch_size)

    @pytest.mark.parametrize("labels", [Y[:, None], np.eye(3)[Y], Y.astype("uint8")])
    def test_labels_come_as_they_are(self, network, labels):
        found = network.outputs((X, labels), batch_size=8).labels
        np.testing.assert_array_equal(found, labels)
        assert found.dtype == labels.dtype

    def test_one_sample(self, network):
        assert network.outputs(X[:1], features=True).features.shape == (1, 5)

    def test_arrays_of_other_types(self, network):
        for array in (X.astype("float64"), np.asfortranarray(X), keras.ops.convert_to_tensor(X)):
            self.check(network, (array, Y), batch_size=8)

    def test_a_py_dataset(self, network):
        parts = [slice(0, 8), slice(8, 16), slice(16, 21)]
        self.check(network, Batches(*((X[part], Y[part]) for part in parts)))
        self.check(network, Batches(*((X[part], Y[part], np.ones(8)) for part in parts)))
        self.check(network, Batches(*([X[part], Y[part]] for part in parts)))
        self.check(network, Batches(*((X[part],) for part in parts)), None)
        self.check(network, Batches(*(X[part] for part in parts)), None)

    def test_batches_of_every_size(self, network):
        parts = [slice(0, 3), slice(3, 12), slice(12, 13), slice(13, 21)]
        self.check(network, Batches(*((X[part], Y[part]) for part in parts)))

    @on_tensorflow
    @pytest.mark.parametrize("arrays", [X, (X,), (X, Y), (X, Y, np.ones(21))], ids=["x", "(x,)", "(x, y)", "(x, y, w)"])
    def test_tf_data(self, network, arrays):
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices(arrays).batch(8)
        labels = Y if isinstance(arrays, tuple) and len(arrays) > 1 else None
        self.check(network, dataset, labels)
        self.check(network, dataset.prefetch(tf.data.AUTOTUNE), labels)

    @on_tensorflow
    def test_tf_data_is_read_with_autotuning_off(self, monkeypatch):
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).map(lambda x, y: (x, y), tf.data.AUTOTUNE).batch(8)
        seen = []
        with_options = type(dataset).with_options
        monkeypatch.setattr(
            type(dataset), "with_options", lambda data, options: seen.append(options) or with_options(data, options)
        )
        assert [len(images) for images, _ in batches_of(dataset)] == [8, 8, 5]
        assert [options.autotune.enabled for options in seen] == [False]

    @pytest.mark.parametrize("dtype", [None, "uint8"])
    def test_whole_numbers_with_a_rescaling_model(self, dtype):
        images = RNG.integers(0, 256, (11, 6)).astype("uint8")
        model = keras.Sequential([layers.Input((6,), dtype=dtype), layers.Rescaling(1 / 255), *hidden_and_head()])
        found = Network(weighted(model)).outputs(images, features=True, batch_size=4)
        features, logits = expected(images / 255)
        np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-5)

    def test_image_scores_see_every_image_once(self, network):
        def sums(net, images):
            assert net is network
            return np.asarray(images).sum(axis=1)

        found = network.outputs((X, Y), batch_size=8, image_scores={"sum": sums, "twice": lambda n, x: 2 * sums(n, x)})
        np.testing.assert_array_equal(found.scores["sum"], X.sum(axis=1))
        np.testing.assert_array_equal(found.scores["twice"], 2 * X.sum(axis=1))
        assert network.outputs(X).scores == {}


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ([X, Y], "Received: list"),
            ((x for x in [X]), "Received: generator"),
            ((), "Received: a tuple of nothing"),
            ((X, 3), "Received: a tuple of ndarray, int"),
            (np.float32(1), "Received: float32"),
            (X[:0], "one or more images. Received: 0, none"),
            ((X, Y[:20]), "Received: 21, 20"),
            (Batches(), "one batch at least"),
        ],
    )
    def test_what_is_no_data(self, network, data, message):
        with pytest.raises(ValueError, match=f"`data` must .*{message}"):
            network.outputs(data)

    @pytest.mark.parametrize(
        "batch", [{"image": X, "label": Y}, ({"image": X}, Y)], ids=["a dictionary", "images in a dictionary"]
    )
    def test_batches_of_dictionaries(self, network, batch):
        with pytest.raises(ValueError, match="Batches must be images, or pairs"):
            network.outputs(Batches(batch))

    @on_tensorflow
    def test_an_empty_tf_data(self, network):
        import tensorflow as tf

        with pytest.raises(ValueError, match="one batch at least"):
            network.outputs(tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(8))

    @on_tensorflow
    def test_an_endless_tf_data_before_it_is_read(self):
        import tensorflow as tf

        with pytest.raises(ValueError, match="`data`"):
            batches_of(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).repeat())

    @on_tensorflow
    def test_a_tf_data_without_batches(self, network):
        import tensorflow as tf

        with pytest.raises(ValueError, match="Batches must be images, or pairs"):
            network.outputs(tf.data.Dataset.from_tensor_slices((X, Y)))

    @pytest.mark.parametrize("images", [X[:, :5], X[0], np.zeros((2, 8, 8, 1), "float32")])
    @pytest.mark.parametrize("before", [None, X, X[:5]], ids=["at first", "after others", "after a few"])
    def test_images_of_another_shape(self, images, before):
        network = Network(weighted(inner()))
        if before is not None:
            network.outputs(before)
        with pytest.raises(ValueError, match=r"`data` must hold images of shape \(None, 6\)"):
            network.outputs(images)

    @pytest.mark.parametrize(
        ("last", "shape"),
        [
            ([layers.Flatten(), layers.Lambda(lambda x: x[:, 0])], r"\(21,\)"),
            ([layers.Reshape((2, 3)), layers.Dense(4)], r"\(21, 2, 4\)"),
            ([layers.Reshape((6, 1, 1))], r"\(21, 6, 1, 1\)"),
        ],
    )
    def test_outputs_that_are_no_logits(self, last, shape):
        with pytest.raises(ValueError, match=rf"logits or probabilities of shape \(N, K\).*{shape}"):
            Network(keras.Sequential([layers.Input((6,)), *last])).outputs(X)

    @pytest.mark.parametrize("sizes", [(3, 3), (3, 2)])
    @pytest.mark.parametrize("kind", [list, dict])
    def test_two_outputs(self, sizes, kind):
        x = keras.Input((6,))
        outputs = {f"out{i}": layers.Dense(size)(x) for i, size in enumerate(sizes)}
        model = keras.Model(x, outputs if kind is dict else list(outputs.values()))
        with pytest.raises(ValueError, match=r"`model` must have one output\. Received: a model of 2"):
            Network(model).outputs(X)

    def test_two_inputs(self):
        first, second = keras.Input((6,)), keras.Input((6,))
        model = keras.Model([first, second], layers.Dense(3)(layers.Add()([first, second])))
        with pytest.raises(ValueError, match=r"`model` must have one input\. Received: a model of 2"):
            Network(model)
