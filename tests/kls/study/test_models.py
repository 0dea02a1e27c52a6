import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import kls
from kls.study.devices import precision_policy
from kls.study.methods import CrossEntropy
from kls.study.models import OwnModel, as_logits, describe_model, find
from kls.study.networks import build_network, follow_steps
from kls.study.plan import PlanError

from . import my_models

SHAPE, CLASSES = (8, 8, 1), 3
FILE = Path(my_models.__file__)


def described(function):
    return describe_model(find(function)[1], SHAPE, CLASSES)


def built(function):
    model = function(SHAPE, CLASSES)
    model(np.zeros((1, *SHAPE), np.float32))
    return model


def outputs(model):
    samples = np.random.default_rng(1).uniform(0, 255, (5, *SHAPE)).astype(np.float32)
    return keras.ops.convert_to_numpy(model(samples, training=False))


class TestFind:
    def test_registered_names_are_themselves(self):
        assert find("resnet8v1") == ("resnet8v1", None)

    @pytest.mark.parametrize("model", [my_models.mlp, f"{FILE}:mlp", f"{my_models.__name__}:mlp"])
    def test_functions_are_called_by_their_name(self, model):
        name, own = find(model)
        assert name == own.name == own.function.__name__ == "mlp"

    @pytest.mark.parametrize("model", [my_models.mlp, f"{FILE}:mlp"])
    def test_other_processes_get_the_function_and_its_ending(self, model):
        own = replace(find(model)[1], ending="softmax layer")
        again = pickle.loads(pickle.dumps(own))
        assert (again.name, again.path, again.ending) == (own.name, own.path, "softmax layer")
        assert again.function.__code__ == own.function.__code__

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("resnet9", r"`model` must be one of .*resnet8v1.* Received: 'resnet9'"),
            ("nowhere.at:all", r"`model` cannot be imported: No module named 'nowhere'"),
            (f"{FILE}:nothing", r"`model` cannot be imported: .*nothing"),
            ("nowhere.py:build", r"`model` cannot be imported: .*nowhere\.py"),
            (5, r"`model` must be a registered name, .* a function .* Received: model=5"),
            (my_models.Subclassed, r"`model` must be a registered name, .* a function"),
            ("math:pi", r"`model` must name a function .* Received: pi = 3.14\d* of math"),
            (f"{FILE}:FACTOR", r"`model` must name a function .* Received: FACTOR = 0.5 of .*my_models"),
            (f"{FILE}:Subclassed", r"`model` must name a function .* Received: Subclassed = <class"),
        ],
    )
    def test_what_is_no_model_is_refused(self, model, message):
        with pytest.raises(PlanError, match=message):
            find(model)


def graph_of(second):
    """Returns a function that builds `Add([one, other])`, or another operation of these."""

    def build(input_shape, classes):
        inputs = keras.Input(input_shape)
        one, other = (layers.Conv2D(1, 1, use_bias=False, name=name)(inputs) for name in "ab")
        return keras.Model(inputs, layers.Dense(classes)(layers.Flatten()(second(inputs, one, other))))

    return build


def doubled():
    def change(x):
        return 2 * x

    return change


def halved():
    def change(x):
        return x / 2

    return change


def multiplied(factor):
    return lambda x: factor * x


GRAPHS = {
    "add a b": lambda inputs, one, other: layers.Add()([one, other]),
    "add i b": lambda inputs, one, other: layers.Add()([inputs, other]) + 0 * one,
    "add b a": lambda inputs, one, other: layers.Add()([other, one]),
    "operation": lambda inputs, one, other: keras.ops.maximum(one, other),
    "another operation": lambda inputs, one, other: keras.ops.minimum(one, other),
    "doubled": lambda inputs, one, other: layers.Lambda(doubled())(one + other),
    "halved": lambda inputs, one, other: layers.Lambda(halved())(one + other),
    "2x": lambda inputs, one, other: layers.Lambda(lambda x: 2 * x)(one + other),
    "3x": lambda inputs, one, other: layers.Lambda(lambda x: 3 * x)(one + other),
    "closure 2": lambda inputs, one, other: layers.Lambda(multiplied(2))(one + other),
    "closure 3": lambda inputs, one, other: layers.Lambda(multiplied(3))(one + other),
    "activation 2": lambda inputs, one, other: layers.Activation(multiplied(2))(one + other),
    "activation 3": lambda inputs, one, other: layers.Activation(multiplied(3))(one + other),
}


def source_of(helper, rate):
    """Returns a module with a nested subclass that calls a helper."""
    return f"""
import keras

def helper(x):
    return {helper}

class Inner(keras.Model):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def call(self, x):
        return helper(x)

def build(input_shape, classes):
    return keras.Sequential(
        [keras.Input(input_shape), Inner({rate}), keras.layers.Flatten(), keras.layers.Dense(classes)]
    )
"""


class TestDescription:
    @pytest.mark.parametrize("function", [my_models.sequential, my_models.unbuilt, my_models.subclassed])
    def test_it_is_the_same_each_time(self, function):
        keras.layers.Dense(2)  # names of layers count on
        assert described(function) == described(function)

    def test_it_is_the_same_in_another_process_file_and_precision(self):
        code = (
            "from kls.study.models import describe_model, find\n"
            f"print('found', describe_model(find({f'{FILE}:of_everything'!r})[1], {SHAPE}, {CLASSES}).architecture)"
        )
        environment = os.environ | {"PYTHONPATH": str(Path(kls.__file__).parents[1]), "PYTHONHASHSEED": "7"}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        with precision_policy("bfloat16"):
            found = described(my_models.of_everything)
        assert found.ending == "softmax activation"
        assert run.stdout.split() == ["found", found.architecture]

    def test_no_two_graphs_or_functions_are_the_same(self):
        found = {name: described(graph_of(second)).architecture for name, second in GRAPHS.items()}
        again = described(graph_of(GRAPHS["add a b"])).architecture
        assert again == found["add a b"]
        assert len(set(found.values())) == len(GRAPHS)

    def test_the_graph_within_a_subclass_counts(self):
        tanh, again, relu = (
            described(lambda shape, classes, act=act: my_models.Wired(shape, classes, act)).architecture
            for act in (keras.ops.tanh, keras.ops.tanh, keras.ops.relu)
        )
        assert tanh == again != relu

    def test_the_source_around_a_nested_subclass_and_its_attributes_count(self, tmp_path):
        def found(helper, rate, place):
            path = tmp_path / place / "network.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source_of(helper, rate))
            return describe_model(find(f"{path}:build")[1], SHAPE, CLASSES).architecture

        first = found("2 * x", 0.5, "one")
        assert first == found("2 * x", 0.5, "two")
        assert len({first, found("3 * x", 0.5, "three"), found("2 * x", 0.25, "four")}) == 3

    def test_a_layers_private_attributes_count(self):
        half, again, quarter = (described(my_models.with_factor(factor)).architecture for factor in (0.5, 0.5, 0.25))
        assert half == again != quarter

    def test_classes_without_a_source_are_refused(self):
        names = {"__name__": "__notebook__"}
        exec(source_of("x", 0), names)
        with pytest.raises(
            PlanError, match=r"part of the recipe: put it into a module. Received: Inner of __notebook__"
        ):
            describe_model(OwnModel("build", names["build"]), SHAPE, CLASSES)

    def test_what_keras_cannot_serialise_is_refused(self):
        with pytest.raises(
            PlanError, match=r"serialize_keras_object` describes. Received: Generator. Cannot serialize"
        ):
            described(my_models.not_serialisable)

    def test_another_architecture_under_one_name_is_another(self):
        def variant(width):
            def build(input_shape, classes):
                return keras.Sequential(
                    [layers.Input(input_shape), layers.Flatten(), layers.Dense(width), layers.Dense(classes)]
                )

            return build

        assert described(variant(4)).architecture != described(variant(5)).architecture

    def test_another_call_of_a_subclass_is_another(self):
        assert described(my_models.subclassed).architecture != described(my_models.softmax_in_call).architecture

    def test_weights_that_do_not_come_from_the_seed_count(self):
        def pretrained(value):
            def build(input_shape, classes):
                return keras.Sequential(
                    [
                        layers.Input(input_shape),
                        layers.Flatten(),
                        layers.Dense(4, kernel_initializer=lambda shape, dtype=None: keras.ops.full(shape, value)),
                        layers.Dense(classes),
                    ]
                )

            return build

        first, again, other = (described(pretrained(value)) for value in (0.5, 0.5, 0.25))
        assert first == again
        assert first.architecture != other.architecture

    @pytest.mark.parametrize(
        ("function", "preprocessing", "features"),
        [
            (my_models.sequential, False, True),
            (my_models.with_rescaling, True, True),
            (my_models.with_rescaling_in_a_block, True, True),
            (my_models.subclassed, False, False),
            (my_models.softmax_in_call, False, False),
            (my_models.with_tensorflows_softmax, False, True),
        ],
    )
    def test_preprocessing_and_features_are_found(self, function, preprocessing, features):
        found = described(function)
        assert (found.has_preprocessing, found.rates is not None) == (preprocessing, features)

    def test_outputs_of_another_shape_are_refused(self):
        with pytest.raises(PlanError, match=r"outputs of shape \(N, 3\). Received: \(1, 1\) of wrong_outputs"):
            described(my_models.wrong_outputs)

    def test_what_is_no_model_is_refused(self):
        def build(input_shape, classes):
            return "a model"

        with pytest.raises(PlanError, match=r"`model` must return a `keras.Model`. Received: 'a model' of build"):
            described(build)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (my_models.with_logarithm, r"must return finite outputs"),
            (my_models.probabilities_for_pixels, r"whatever the scale .* only for inputs in \[0, 255\]"),
            (my_models.with_sigmoid, r"probabilities by softmax, .* activation sigmoid"),
        ],
    )
    def test_outputs_that_no_loss_takes_are_refused(self, function, message):
        with pytest.raises(PlanError, match=message):
            described(function)


def test_norms_within_own_layers_are_followed():
    model = built(my_models.with_norm_in_a_block)
    follow_steps(model, 5)
    assert model.layers[0].inner.momentum == pytest.approx(0.8)


@pytest.mark.parametrize(("dropout", "from_logits"), [(None, False), (0.2, True)])
def test_monte_carlo_gives_logits_of_any_network(dropout, from_logits, make_trial, stripes):
    own = replace(find(my_models.with_nested_softmax_layer)[1], ending="probabilities")
    trial = make_trial(method=CrossEntropy(dropout=dropout), normalisation="none")
    model, found = build_network(trial, stripes, own)
    values = keras.ops.convert_to_numpy(model(np.float32(stripes.split("test")[0][:4])))
    assert found == from_logits
    np.testing.assert_allclose((np.exp(values) if found else values).sum(axis=1), 1, atol=1e-5)


ENDINGS = {
    "sequential": "softmax activation",
    "subclassed": "softmax activation",
    "with_nested_softmax": "softmax activation",
    "with_tensorflows_softmax": "softmax activation",
    "with_softmax": "softmax layer",
    "with_softmax_operation": "softmax layer",
    "with_nested_softmax_layer": "probabilities",
    "softmax_in_call": "probabilities",
    "unbuilt": "logits",
}


class TestAsLogits:
    @pytest.mark.parametrize(("name", "ending"), ENDINGS.items())
    def test_a_softmax_at_the_end_is_taken_off_where_it_can_be(self, name, ending):
        function = getattr(my_models, name)
        assert described(function).ending == ending
        model = built(function)
        before = outputs(model)
        model, from_logits = as_logits(model, ending)
        assert from_logits == (ending != "probabilities")
        if ending.startswith("softmax"):
            logits = outputs(model)
            assert np.abs(logits.sum(axis=1) - 1).max() > 0.1
            np.testing.assert_allclose(keras.ops.softmax(logits), before, atol=1e-6)
        else:
            np.testing.assert_array_equal(outputs(model), before)

    @pytest.mark.usefixtures("needs_bfloat16")
    @pytest.mark.parametrize("classes", [10, 1000])
    def test_the_ending_does_not_depend_on_the_precision(self, classes):
        with precision_policy("bfloat16"):
            ending = describe_model(find(my_models.with_softmax)[1], SHAPE, classes).ending
            model, from_logits = as_logits(find(my_models.with_softmax)[1](SHAPE, classes), ending)
        assert (ending, from_logits, model.compute_dtype) == ("softmax layer", True, "bfloat16")

    def test_a_model_that_is_not_described_is_refused(self):
        with pytest.raises(ValueError, match=r"`ending` must be one of logits, .* Received: ending=None"):
            as_logits(built(my_models.unbuilt), None)


ONE_OUTPUT = {
    "one_sigmoid": "sigmoid activation",
    "one_sigmoid_layer": "sigmoid activation",
    "one_sigmoid_operation": "sigmoid layer",
    "one_nested_sigmoid": "sigmoid activation",
    "one_logit": "logits",
}


class TestOneOutput:
    @pytest.mark.parametrize(("name", "ending"), ONE_OUTPUT.items())
    def test_is_given_as_the_logits_of_two_classes(self, name, ending):
        function = getattr(my_models, name)
        found = describe_model(find(function)[1], SHAPE, 2)
        assert (found.ending, found.rates) == (ending, ())
        model = function(SHAPE, 2)
        before = outputs(model)
        logits, from_logits = as_logits(model, ending)
        assert from_logits
        after = outputs(logits)
        np.testing.assert_array_equal(after[:, 0], 0)
        expected = after[:, 1] if ending == "logits" else 1 / (1 + np.exp(-after[:, 1]))
        np.testing.assert_allclose(before[:, 0], expected, rtol=1e-5, atol=1e-6)

    def test_a_convolution_as_head_has_features(self):
        found = described(my_models.convolution_and_softmax)
        assert (found.ending, found.rates) == ("softmax activation", ())

    def test_of_three_classes_is_refused(self):
        with pytest.raises(PlanError, match=r"must return outputs of shape \(N, 3\)\. Received: \(1, 1\)"):
            described(my_models.one_sigmoid)

    def test_of_a_model_whose_last_layer_is_not_found_is_refused(self):
        def build(input_shape, classes):
            model = my_models.one_sigmoid(input_shape, classes)
            return keras.Sequential([model, layers.Rescaling(0.5)])

        with pytest.raises(PlanError, match=r"linear or with a sigmoid, to return outputs of shape \(N, 1\)"):
            describe_model(find(build)[1], SHAPE, 2)
