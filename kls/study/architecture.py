"""The hash of a network of the user's own, by which trials of different networks of one name are told apart."""

import hashlib
import inspect
import json
import warnings

import keras
import numpy as np

from kls.study.plan import PlanError
from kls.utils.sources import definitions_hash, is_own, module_of


def architecture_of(model, other):
    """Returns a hash of what a model is, the same in each process.

    Args:
        model: A built Keras model, made after `keras.utils.clear_session`, so that its layers have the same names.
        other: The same model made with another seed.

    Raises:
        ValueError: If a layer cannot be described, or if the source of code of the user's own cannot be read.
    """
    layers = model._flatten_layers()
    graphs = [getattr(layer, "_functional", None) or layer for layer in layers]
    graphs = [graph for graph in graphs if hasattr(graph, "operations")]
    parts = list(dict.fromkeys([*layers, *(operation for graph in graphs for operation in graph.operations)]))
    code = [code_of(value) for part in parts for value in (part, *vars(part).values()) if callable(value)]
    facts = [[*map(_part, parts)], [*map(_graph, graphs)], code, _weights(model, other)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _weights(model, other):
    """Returns the shapes of a model's weights, and a hash of those that `other`, of another seed, begins with too."""
    values = [[keras.ops.convert_to_numpy(weight) for weight in built.weights] for built in (model, other)]
    fixed = [one.tobytes() for one, two in zip(*values, strict=True) if np.array_equal(one, two)]
    return [(one.shape, str(one.dtype)) for one in values[0]], hashlib.sha256(b"".join(fixed)).hexdigest()


def _graph(model):
    """Returns which operations a functional model calls on which tensors."""
    nodes = [node for of_depth in model._nodes_by_depth.values() for node in of_depth]
    calls = [_described([node.operation, node.arguments.args, node.arguments.kwargs]) for node in nodes]
    return sorted(calls, key=json.dumps), _described(model.outputs)


def _part(part):
    """Returns what a layer, operation or model is besides its code, its graph and the layers within."""
    of_own = any(is_own(one.__module__) for one in type(part).__mro__)
    try:
        config = part.name if isinstance(part, keras.Model) else _config(part)
    except NotImplementedError as error:
        if not of_own:
            raise _refused(part, error) from None
        config = part.name
    return [config, _attributes(part) if of_own else {}]


def _attributes(part):
    """Returns the attributes that a class of the user's own adds, which its config may leave out."""
    inputs = keras.Input((1,))
    attributes = {name: vars(part)[name] for name in vars(part).keys() - vars(keras.Model(inputs, inputs)).keys()}
    return {name: _described(value) for name, value in attributes.items() if not _is_keras_own(value)}


def _is_keras_own(value):
    """Whether an attribute is a layer or weights, which are described elsewhere, or a thing that Keras works with."""
    of_keras = type(value).__module__.startswith(("keras.", "tensorflow."))
    described = hasattr(value, "get_config") or isinstance(value, (list, dict, tuple)) or keras.ops.is_tensor(value)
    return isinstance(value, (keras.Operation, keras.Variable)) or (of_keras and not described)


def _described(value):
    """Returns a value as JSON holds it; of a layer its name."""
    if isinstance(value, keras.Operation):
        return value.name
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    try:
        return [value.__name__, code_of(value)] if inspect.isfunction(value) else _config(value)
    except NotImplementedError as error:
        raise _refused(value, error) from None


def _config(value):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of each lambda
            config = _stable(keras.saving.serialize_keras_object(value))
        json.dumps(config, sort_keys=True)
        return config
    except (TypeError, ValueError, OSError) as error:
        raise _refused(value, error) from None


def _refused(value, error):
    return PlanError(
        "A model, and functions of your own, must hold what `keras.saving.serialize_keras_object` describes. "
        f"Received: {type(value).__name__}. {' '.join(str(error).split())}"
    )


def _stable(config):
    """Returns a config without what differs between processes or places, in place of which stands `code_of`."""
    if isinstance(config, (list, tuple)):
        return [_stable(item) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "__lambda__" or _is_bytecode(config):
        return "lambda"
    left_out = {"compile_config", "module" if is_own(str(config.get("module"))) else None}
    return {key: _stable(value) for key, value in config.items() if key not in left_out}


def _is_bytecode(config):
    value = config.get("value")
    return len(config) == 1 and isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], str)


def code_of(value):
    """Returns the code of a function, with what it holds, or of an object's classes, and of what that code uses."""
    if not inspect.isfunction(value):
        own = [one for one in type(value).__mro__ if is_own(one.__module__)]
        return [[one.__qualname__, definitions_hash(one)] for one in own]
    if not is_own(module_of(value)):
        return code_of(value.__wrapped__) if hasattr(value, "__wrapped__") else []
    module = definitions_hash(value)
    columns = [place[2:] for place in value.__code__.co_positions()]  # tell lambdas of one line apart
    cells = [cell.cell_contents for cell in value.__closure__ or () if cell.cell_contents is not value]
    held = map(_described, (value.__defaults__, value.__kwdefaults__, cells))
    return [module, inspect.getsource(value), columns, *held]
