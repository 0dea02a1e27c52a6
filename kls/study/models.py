"""Where the networks of trials come from: registered names, and functions of the user's own."""

import importlib.util
import inspect
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import keras
import numpy as np

import kls
from kls.calibration.samples import softmax
from kls.study.architecture import architecture_of
from kls.study.backbones import Backbone, is_backbone
from kls.study.devices import precision_policy
from kls.study.heads import all_layers, parted, trainable_layers
from kls.study.plan import PlanError
from kls.utils.arrays import shown
from kls.utils.feature_extractor import looks_like_probabilities
from kls.utils.last_layer import is_graph, last_layer, origin

PREPROCESSING = (keras.layers.Rescaling, keras.layers.Normalization, kls.layers.Pixels)
ENDINGS = ("logits", "softmax activation", "softmax layer", "sigmoid activation", "sigmoid layer", "probabilities")


@dataclass(frozen=True)
class OwnModel:
    """A function `(input_shape, classes) -> keras.Model` of the user's own.

    Attributes:
        name: What the network is called.
        function: The function.
        path: File from which other processes get the function; `None` where its module is enough.
        ending: What its models end in, as `Description` has it; `None` until that is known.
        rates: Rates of the dropouts before its last layer, as `Description` has it.
    """

    name: str
    function: object
    path: str | None = None
    ending: str | None = None
    rates: tuple | None = None

    def __call__(self, input_shape, classes):
        model = self.function(input_shape, classes)
        if not isinstance(model, keras.Model):
            raise PlanError(f"`model` must return a `keras.Model`. Received: {shown(model)} of {self.name}")
        if not model.built:
            model(np.zeros((1, *input_shape), np.float32))
        return model

    def __reduce__(self):
        if self.path is not None:
            return _from_file, (self.path, self.name, self.ending, self.rates)
        return super().__reduce__()


def find(model, weights=None, side=None):
    """Returns the name of a network and, where it is not registered, its `OwnModel`.

    Args:
        model: A registered name, `"keras.applications.NAME"`, `"keras_hub:PRESET"`, a function
            `(input_shape, classes) -> keras.Model`, `"package.module:function"`, or `"path/to/file.py:function"`.
        weights: Path of the weights of a network of `keras.applications` or KerasHub.
        side: Side in pixels at which such a network works.

    Raises:
        PlanError: If there is none.
    """
    if isinstance(model, str) and is_backbone(model):
        name = re.split("[.:/]", model)[-1]
        return name, OwnModel(name, Backbone(model, weights, side))
    if weights is not None:
        raise PlanError(
            "`weights` are those of a `model` such as 'keras.applications.NAME' or 'keras_hub:PRESET'. "
            f"Received: weights={shown(weights)} for model={shown(model)}"
        )
    if inspect.isfunction(model):
        return model.__name__, OwnModel(model.__name__, model)
    if not isinstance(model, str):
        raise PlanError(
            "`model` must be a registered name, 'keras.applications.NAME', 'keras_hub:PRESET', a function "
            f"(input_shape, classes) -> keras.Model, or 'package.module:function'. Received: model={shown(model)}"
        )
    place, colon, name = model.rpartition(":")
    if not colon:
        if model not in kls.models.names():
            known = ", ".join(kls.models.names())
            raise PlanError(
                f"`model` must be one of {known}, keras.applications.NAME, or package.module:function. "
                f"Received: {model!r}"
            )
        return model, None
    if place.endswith(".py"):
        return name, _from_file(place, name)
    try:
        return name, OwnModel(name, _function_of(import_module(place), name))
    except (ImportError, AttributeError) as error:
        raise PlanError(f"`model` cannot be imported: {error}. Received: {model!r}") from None


def _from_file(path, name, ending=None, rates=None):
    """Returns the `OwnModel` of a function in a file, which becomes a module named after its whole path."""
    path = str(Path(path).resolve())
    specification = importlib.util.spec_from_file_location(path.replace(".", "_"), path)
    module = sys.modules[specification.name] = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
        return OwnModel(name, _function_of(module, name), path, ending, rates)
    except (OSError, AttributeError) as error:
        raise PlanError(f"`model` cannot be imported: {error}. Received: {path}:{name}") from None


def _function_of(module, name):
    function = getattr(module, name)
    if not callable(function) or inspect.isclass(function):
        raise PlanError(
            "`model` must name a function (input_shape, classes) -> keras.Model. "
            f"Received: {name} = {shown(function)} of {module.__name__}"
        )
    return function


@dataclass(frozen=True)
class Description:
    """What an own network is, found out by building it.

    Attributes:
        architecture: Hash of its layers and of how they are connected, of the shapes of its weights, of the code of the
            user's own in it, and of those initial weights that do not depend on the seed, such as pretrained ones.
        has_preprocessing: Whether it has a layer that scales its inputs.
        rates: Rates of the dropouts before its last layer, whose inputs are the features; `None` where that layer is
            not found, as `kls.utils.feature_extractor.Network` says.
        drawn: Names of the layers of that backbone whose weights depend on the seed: none, if all are pretrained.
        layers: Number of the layers of that backbone that can be trained.
        ending: What it ends in: `"logits"`, a `"softmax activation"` of its last layer or a `"softmax layer"`, or for
            one output of two classes the same of a sigmoid, which `as_logits` takes off, or other `"probabilities"`.
    """

    architecture: str
    has_preprocessing: bool
    rates: tuple[float, ...] | None
    drawn: tuple[str, ...]
    layers: int
    ending: str


def describe_model(own, input_shape, classes):
    """Returns the `Description` of an `OwnModel`, which is the same in each process and for each precision.

    Args:
        own: The `OwnModel`.
        input_shape: Shape of one sample.
        classes: Number of classes.

    Raises:
        PlanError: If it does not return logits or probabilities of shape `(N, classes)` for such samples, or of shape
            `(N, 1)` for two classes, or if its layers or their code cannot be described.
    """
    with precision_policy("float32"):
        model, other = (_built(own, input_shape, classes, seed) for seed in (0, 1))
        try:
            architecture = architecture_of(model, other)
            ending = _ending(model, input_shape)
            parts = [parted(as_logits(built, ending)[0]) for built in (model, other)]
        except ValueError as error:
            raise PlanError(str(error)) from None
    has_preprocessing = any(isinstance(layer, PREPROCESSING) for layer in all_layers(model))
    rates, layers, drawn = None, 0, ()
    if None not in parts:
        (backbone, rates), (other, _) = parts
        pairs = zip(all_layers(backbone), all_layers(other), strict=True)
        layers = len(trainable_layers(backbone))
        drawn = tuple(one.name for one, same in pairs if not _are_equal(one.get_weights(), same.get_weights()))
    return Description(architecture, has_preprocessing, rates, drawn, layers, ending)


def _are_equal(values, others):
    return all(map(np.array_equal, values, others))


def _built(own, input_shape, classes, seed):
    keras.utils.clear_session(free_memory=False)  # names of layers count from the start
    keras.utils.set_random_seed(seed)
    model = own(input_shape, classes)
    outputs = keras.tree.flatten(model(np.zeros((1, *input_shape), np.float32)))
    allowed = [(1, classes), (1, 1)] if classes == 2 else [(1, classes)]
    if len(outputs) != 1 or tuple(outputs[0].shape) not in allowed:
        found = ", ".join(str(tuple(output.shape)) for output in outputs)
        raise PlanError(f"`model` must return outputs of shape (N, {classes}). Received: {found} of {own.name}")
    return model


def _ending(model, input_shape):
    """Finds out by values what a model ends in, for inputs of either scale."""
    samples = np.random.default_rng(0).uniform(0, 1, (16, *input_shape)).astype(np.float32)
    samples = np.concatenate([samples, 255 * samples])
    outputs = _outputs(model, samples)
    if not np.isfinite(outputs).all():
        raise PlanError(f"`model` must return finite outputs. Received: NaN or infinity of {model.name}")
    if outputs.shape[1] == 1:
        return _ending_of_one_output(model, samples, outputs)
    scaled, pixels = map(looks_like_probabilities, np.split(outputs, 2))
    if scaled != pixels:
        raise PlanError(
            "`model` must return logits, or probabilities, whatever the scale of its inputs. Received: probabilities "
            f"of {model.name} only for inputs in {'[0, 1]' if scaled else '[0, 255]'}"
        )
    if not scaled:
        return "logits"
    return _undone(model, samples, outputs, "softmax") or "probabilities"


def _ending_of_one_output(model, samples, outputs):
    """Finds out what a model ends in by its last layer: a logit may lie in [0, 1] as a probability does."""
    last = last_layer(model)
    if last is not None:
        logits = keras.ops.convert_to_numpy(last.logits_of(last.trunk(samples, training=False)))
        if np.allclose(logits[:, 1:], outputs, atol=1e-4):
            return "logits"
        if ending := _undone(model, samples, np.concatenate([1 - outputs, outputs], axis=1), "sigmoid"):
            return ending
    raise PlanError(
        "`model` must be functional or Sequential and end in a Dense layer or a 1x1 convolution, linear or with a "
        f"sigmoid, to return outputs of shape (N, 1). Received: {model.name}"
    )


def _undone(model, samples, probabilities, kind):
    """Returns the ending, of a kind of activation, without which a model gives the logits of probabilities, if any."""

    def is_undone(ending):
        logits = _outputs(as_logits(model, ending)[0], samples)
        return np.allclose(softmax(logits), probabilities, atol=1e-4)

    if activation := getattr(_last_layer(model), "activation", None):
        undone = is_undone(f"{kind} activation")
        _last_layer(model).activation = activation
        if undone:
            return f"{kind} activation"
    if is_graph(model) and type(origin(model.outputs[0])[0]).__name__ == kind.title() and is_undone(f"{kind} layer"):
        return f"{kind} layer"
    return None


def _outputs(model, samples):
    return keras.ops.convert_to_numpy(model(samples, training=False))


def _last_layer(model):
    return _last_layer(model._layers[-1]) if model._layers else model


def as_logits(model, ending):
    """Has a model return logits, of both classes where it has one output, if its softmax or sigmoid can be taken off.

    Args:
        model: A built classifier, whose last layer may be changed in place.
        ending: What it ends in, as `Description` has it.

    Returns:
        The model, or one of the same layers without the activation, and whether it returns logits: `False` if it still
        returns probabilities.
    """
    if ending not in ENDINGS:
        raise ValueError(f"`ending` must be one of {', '.join(ENDINGS)}. Received: ending={ending!r}")
    if ending.endswith(" activation"):
        _last_layer(model).activation = keras.activations.linear
    if ending.endswith(" layer"):
        model = keras.Model(model.inputs[0], origin(model.outputs[0])[1], name=model.name)
    if is_graph(model) and model.outputs[0].shape[1:] == (1,):
        model = keras.Model(model.inputs[0], kls.layers.TwoLogits()(model.outputs[0]), name=model.name)
    return model, ending != "probabilities"
