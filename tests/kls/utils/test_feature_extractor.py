import warnings

import keras
import numpy as np
import pytest
from keras import layers

from kls.study.train import mirrored_strategy
from kls.utils.feature_extractor import Network, looks_like_probabilities

from .networks import (
    ENDINGS,
    HEAD,
    HIDDEN,
    RNG,
    SOFTMAX,
    Opaque,
    X,
    Y,
    expected,
    hidden_and_head,
    inner,
    on_tensorflow,
    weighted,
)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


class Watch(layers.Layer):
    """Counts how often it is traced, and says whether in training."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def call(self, x, training=None):
        self.seen.append((x.shape[0], training))
        return x


def watched():
    """Returns a network of `Watch`, and the list of what it saw."""
    watch = Watch()
    model = keras.Sequential([layers.Input((6,)), watch, *hidden_and_head("softmax")])
    model.set_weights([*HIDDEN, *HEAD])
    network = Network(model)
    watch.seen.clear()
    return network, watch.seen


@pytest.fixture(scope="module")
def network():
    return Network(weighted(inner("softmax")))


@pytest.fixture(scope="module")
def convolutional():
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.Reshape((36, 3), name="row"),
            layers.Flatten(name="flat"),
            layers.Dense(4, activation="softmax", name="head"),
        ]
    )


class TestLastLayer:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_features_and_logits_of_every_ending(self, ending):
        model = weighted(ENDINGS[ending]())
        found = Network(model).outputs(X, features=True, batch_size=8)
        features, logits = expected()
        np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-5)
        assert (found.features.dtype, found.logits.dtype, found.exact_logits) == (np.float32, np.float32, True)
        np.testing.assert_array_equal(found.head[0], HEAD[0])
        np.testing.assert_array_equal(found.head[1], HEAD[1])
        given = softmax(found.logits) if ending in SOFTMAX else found.logits
        np.testing.assert_allclose(given, model.predict(X, verbose=0), rtol=1e-5, atol=1e-6)

    def test_logits_alone_are_the_same(self, network):
        np.testing.assert_array_equal(network.outputs(X).logits, network.outputs(X, features=True).logits)
        assert network.outputs(X).features is None

    def test_without_a_bias(self):
        model = keras.Sequential([layers.Input((6,)), layers.Dense(3, use_bias=False, activation="softmax")])
        model.set_weights([HIDDEN[0][:, :3]])
        found = Network(model).outputs(X, features=True)
        np.testing.assert_array_equal(found.features, X)  # the images themselves
        np.testing.assert_array_equal(found.head[1], np.zeros(3))
        np.testing.assert_allclose(found.logits, X @ HIDDEN[0][:, :3], rtol=1e-5, atol=1e-6)

    def test_saturated_probabilities_still_have_logits(self):
        model = weighted(inner("softmax"), (*HIDDEN, HEAD[0] * 1000, HEAD[1]))
        found = Network(model).outputs(X)
        np.testing.assert_allclose(found.logits, expected(head=(HEAD[0] * 1000, HEAD[1]))[1], rtol=1e-4, atol=0.1)

    def test_a_model_that_several_models_are_made_of(self):
        shared = weighted(inner())
        first, second = (
            keras.Sequential([layers.Input((6,)), layers.Rescaling(scale), shared]) for scale in (1.0, 3.0)
        )
        for model, scale in ((first, 1), (second, 3), (shared, 1)):
            found = Network(model).outputs(X, features=True)
            features, logits = expected(scale * X)
            np.testing.assert_allclose(found.features, features, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.logits, logits, rtol=1e-5, atol=1e-4)

    def test_a_last_layer_that_is_called_twice(self):
        x = keras.Input((6,))
        head = layers.Dense(3)
        first = head(layers.Rescaling(2.0)(x))
        second = head(layers.Rescaling(-1.0)(x))
        assert first is not second
        found = Network(keras.Model(x, second)).outputs(X, features=True)
        np.testing.assert_array_equal(found.features, -X)
        assert Network(keras.Model(x, first)).outputs(X, features=True).features == pytest.approx(2 * X)

    def test_a_branched_graph(self):
        x = keras.Input((6,))
        joined = layers.Concatenate()([layers.Rescaling(2.0)(x), layers.Rescaling(3.0)(x)])
        found = Network(keras.Model(x, layers.Dense(3)(joined))).outputs(X, features=True)
        np.testing.assert_allclose(found.features, np.concatenate([2 * X, 3 * X], axis=1))

    def test_a_loaded_model(self, tmp_path):
        model = weighted(SOFTMAX["nested softmax"]())
        model.save(tmp_path / "model.keras")
        again = Network(keras.models.load_model(tmp_path / "model.keras")).outputs(X, features=True)
        np.testing.assert_allclose(again.features, expected()[0], rtol=1e-5, atol=1e-5)

    def test_after_another_layer_there_are_no_features(self):
        whole = weighted(inner())
        model = keras.Sequential([*whole.layers, layers.Rescaling(2.0)])
        network = Network(model)
        assert not network.has_features
        assert network.head is None
        np.testing.assert_allclose(network.outputs(X).logits, 2 * whole.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match=r'`features` must name a layer to take them from, features="NAME"'):
            network.outputs(X, features=True)

    @pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
    def test_a_classifier_does_not_end_in_another_activation(self, activation):
        with pytest.raises(ValueError, match=f"logits, or probabilities by softmax.*{activation}"):
            Network(weighted(inner(activation)))


class TestOpaqueModels:
    def test_logits(self):
        network = Network(weighted(Opaque()))
        found = network.outputs(X, batch_size=8)
        np.testing.assert_allclose(found.logits, expected()[1], rtol=1e-5, atol=1e-5)
        assert (found.exact_logits, found.head, network.gives_probabilities) == (True, None, False)

    def test_probabilities_become_their_logarithms(self):
        network = Network(weighted(Opaque("softmax")))
        found = network.outputs(X, batch_size=8)
        np.testing.assert_allclose(np.exp(found.logits), softmax(expected()[1]), rtol=1e-4, atol=1e-7)
        assert (found.exact_logits, found.head, network.gives_probabilities) == (False, None, True)

    def test_a_probability_of_zero_counts_as_the_smallest_float32(self):
        network = Network(weighted(Opaque("softmax"), (*HIDDEN, HEAD[0] * 1000, HEAD[1])))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            smallest = network.outputs(X).logits.min()
        assert smallest == np.log(np.finfo(np.float32).tiny)

    def test_features_are_refused(self):
        with pytest.raises(ValueError, match=r"functional or Sequential.*Opaque named 'mine'"):
            Network(weighted(Opaque(name="mine"))).outputs(X, features=True)

    @pytest.mark.usefixtures("bfloat16")
    def test_probabilities_in_bfloat16_are_still_probabilities(self):
        # a third is 0.33398: the three sum to 1.002
        model = weighted(Opaque("softmax"), [0 * w for w in (*HIDDEN, *HEAD)])
        assert model.compute_dtype == "bfloat16"
        assert not Network(model).outputs(X).exact_logits

    def test_what_looks_like_probabilities(self):
        assert looks_like_probabilities(np.array([[0.25, 0.75], [1.0, 0.0]]))
        assert not looks_like_probabilities(np.array([[0.25, 0.75], [1.5, -0.5]]))
        assert not looks_like_probabilities(np.array([[0.25, 0.75], [0.5, 0.6]]))
        assert not looks_like_probabilities(np.array([[0.25, np.nan]]))


class TestTensors:
    @pytest.mark.parametrize("features", [False, True])
    def test_are_the_outputs_of_a_batch(self, network, features):
        arrays, tensors = network.outputs(X, features), network.tensors(keras.ops.convert_to_tensor(X), features)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(tensors.logits), arrays.logits, rtol=1e-5, atol=1e-5)
        assert tensors.exact_logits
        if not features:
            assert (tensors.features, tensors.head) == (None, None)
            return
        np.testing.assert_allclose(keras.ops.convert_to_numpy(tensors.features), arrays.features, rtol=1e-5, atol=1e-5)
        for tensor, array in zip(tensors.head, arrays.head, strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), array)

    def test_of_probabilities_are_their_logarithms(self):
        network = Network(weighted(Opaque("softmax")))
        expected = network.outputs(X)
        found = network.tensors(keras.ops.convert_to_tensor(X))
        np.testing.assert_allclose(keras.ops.convert_to_numpy(found.logits), expected.logits, rtol=1e-4, atol=1e-5)
        assert not found.exact_logits


class TestNamedFeatures:
    @pytest.mark.parametrize(("name", "size"), [("conv", 3), ("row", 108), ("flat", 108), ("head", 4)])
    def test_equal_those_of_a_model_up_to_that_layer(self, convolutional, name, size):
        x = RNG.random((5, 8, 8, 1)).astype("float32")
        network = Network(convolutional, features=name)
        found = network.outputs(x, features=True, batch_size=2)
        theirs = keras.Model(convolutional.inputs, convolutional.get_layer(name).output).predict(x, verbose=0)
        theirs = theirs.mean(axis=(1, 2)) if name == "conv" else theirs.reshape(5, -1)
        assert found.features.shape == (5, size)
        np.testing.assert_allclose(found.features, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(softmax(found.logits), convolutional.predict(x, verbose=0), rtol=1e-5)
        assert found.exact_logits
        assert (found.head, network.head) == (None, None)

    def test_of_a_model_whose_last_layer_is_not_found(self):
        whole = weighted(inner())
        model = keras.Model(whole.inputs, layers.Rescaling(2.0)(whole.outputs[0]))
        found = Network(model, features="hidden").outputs(X, features=True)
        np.testing.assert_allclose(found.features, expected()[0], rtol=1e-5, atol=1e-5)

    def test_a_wrong_name_is_answered_with_the_right_ones(self):
        with pytest.raises(
            ValueError,
            match=r"`features` must name a layer of the model, the last of which are hidden, head\. Received: 'hiden'",
        ):
            Network(inner(), features="hiden")

    def test_a_layer_of_an_opaque_model_is_not_said_to_be_missing(self):
        with pytest.raises(ValueError, match="functional"):
            Network(weighted(Opaque()), features="hidden")


class TestOneForwardPass:
    def test_a_call_per_batch_and_none_of_predict(self, network, monkeypatch):
        calls = []
        compiled_once = network._compiled_once

        def counting(function):
            run = compiled_once(function)
            return lambda images: calls.append(len(images)) or run(images)

        monkeypatch.setattr(network, "_compiled_once", counting)
        monkeypatch.setattr(network.model, "predict", None)
        monkeypatch.setattr(network.model, "predict_on_batch", None)
        network.outputs((X, Y), features=True, batch_size=8)
        assert calls == [8, 8, 8]  # the last one filled up

    def test_a_batch_is_begun_before_the_one_before_is_waited_for(self, network, monkeypatch):
        events = []
        run, to_numpy = network._compiled_once(network._forward), keras.ops.convert_to_numpy
        monkeypatch.setattr(
            network, "_compiled_once", lambda function: lambda images: events.append("run") or run(images)
        )
        monkeypatch.setattr("keras.ops.convert_to_numpy", lambda tensor: events.append("wait") or to_numpy(tensor))
        network.outputs(X, batch_size=8)
        assert events[:6] == ["run", "run", "wait", "run", "wait", "wait"]

    @pytest.mark.parametrize("features", [False, True])
    def test_is_traced_once_for_all_batches_and_data_sets(self, features):
        network, seen = watched()
        network.outputs(X, features, batch_size=8)
        network.outputs((X, Y), features, batch_size=8)
        network.outputs(X[:17], features, batch_size=8)
        assert seen == [(8, False)]

    def test_further_training_is_seen_without_another_trace(self):
        network, seen = watched()
        network.outputs(X, features=True, batch_size=8)
        model = network.model
        model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
        seen.clear()
        found = network.outputs(X, features=True, batch_size=8)
        assert seen == []
        weights = model.get_weights()
        assert not np.allclose(weights[2], HEAD[0])
        features, logits = expected(hidden=weights[:2], head=weights[2:])
        np.testing.assert_allclose(found.features, features, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.logits, logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found.head[0], weights[2])
        model.set_weights([*HIDDEN, *HEAD])
        found = network.outputs(X, features=True, batch_size=8)
        np.testing.assert_allclose(found.logits, expected()[1], rtol=1e-5, atol=1e-5)
        assert seen == []

    def test_is_in_inference_mode_and_changes_no_state(self):
        model = keras.Sequential(
            [
                layers.Input((6,)),
                layers.BatchNormalization(),
                layers.GaussianNoise(1.0),
                layers.Dropout(0.5),
                layers.Dense(3, activation="softmax"),
            ]
        )
        model(X * 3 + 1, training=True)  # moving statistics that are none of a batch
        before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in model.variables]
        network = Network(model)
        found = network.outputs(X, features=True, batch_size=8)
        np.testing.assert_allclose(softmax(found.logits), model.predict(X, verbose=0), rtol=1e-5)
        np.testing.assert_array_equal(found.logits, network.outputs(X, features=True, batch_size=8).logits)
        after = [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]
        for one, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_leaves_the_model_as_it_is(self):
        model = weighted(SOFTMAX["nested, softmax outside"]())
        names, nodes = [layer.name for layer in model.layers], len(model.variables)
        Network(model, features=names[0]).outputs(X, features=True)
        assert ([layer.name for layer in model.layers], len(model.variables)) == (names, nodes)
        np.testing.assert_allclose(model.predict(X, verbose=0), softmax(expected()[1]), rtol=1e-5, atol=1e-6)


@on_tensorflow
class TestMirrored:
    @pytest.mark.parametrize("make", [lambda: inner("softmax"), Opaque], ids=["layers", "opaque"])
    def test_a_model_of_a_strategy_is_read_outside_of_it(self, make):
        strategy = mirrored_strategy()
        assert strategy.num_replicas_in_sync == 2
        with strategy.scope():
            model = weighted(make())
        network = Network(model)
        found = network.outputs((X, Y), features=network.has_features, batch_size=8)
        assert found.logits.shape == (21, 3)
        np.testing.assert_allclose(found.logits, expected()[1], rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(found.labels, Y)
        if network.has_features:
            np.testing.assert_allclose(found.features, expected()[0], rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(found.head[0], HEAD[0])

    def test_training_under_the_strategy_is_seen(self):
        with mirrored_strategy().scope():
            model = weighted(inner("softmax"))
            model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
        network = Network(model)
        network.outputs(X, batch_size=8)
        model.fit(X, Y, batch_size=8, verbose=0)
        weights = model.get_weights()
        logits = expected(hidden=weights[:2], head=weights[2:])[1]
        np.testing.assert_allclose(network.outputs(X, batch_size=8).logits, logits, rtol=1e-4, atol=1e-5)

    def test_within_the_scope(self):
        with mirrored_strategy().scope():
            found = Network(weighted(inner())).outputs(X, features=True, batch_size=8)
        np.testing.assert_allclose(found.logits, expected()[1], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("ending", ["linear", "activation layer", "nested softmax"])
def test_mixed_precision(ending):
    model = weighted(ENDINGS[ending]())
    assert model.layers[0].compute_dtype == "bfloat16"
    found = Network(model).outputs(X, features=True, batch_size=8)
    features, logits = expected()
    np.testing.assert_allclose(found.features, features, rtol=0.02, atol=0.05)
    np.testing.assert_allclose(found.logits, logits, rtol=0.02, atol=0.2)
    assert not np.allclose(found.logits, logits, rtol=1e-5)  # it is computed in bfloat16
    assert (found.features.dtype, found.logits.dtype) == (np.float32, np.float32)
    given = softmax(found.logits) if ending in SOFTMAX else found.logits
    np.testing.assert_allclose(given, np.asarray(model.predict(X, verbose=0), "float32"), rtol=0.02, atol=0.01)
    np.testing.assert_array_equal(found.head[0], HEAD[0])
    assert found.head[0].dtype == np.float32
