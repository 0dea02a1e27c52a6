"""The last layer of a Keras classifier, whatever it is: where features end and logits begin."""

from dataclasses import dataclass, replace

import keras
from keras import ops

from kls.layers import TwoLogits

RESHAPING = (keras.layers.Flatten, keras.layers.Reshape)
MAPPING = (keras.layers.GlobalAveragePooling2D, TwoLogits)
ACTIVATIONS = (keras.activations.linear, keras.activations.softmax, keras.activations.sigmoid)


@dataclass(frozen=True)
class LastLayer:
    """The layer that makes logits of features, `features @ kernel + bias`, without its activation.

    One output z is the logit of class 1 of two, that of class 0 is 0.

    Attributes:
        layer: A `Dense`, or a `Conv2D` of kernels of 1 x 1.
        trunk: The model up to the features, of shape `(N, D)`; `None` where these are at hand.
    """

    layer: keras.layers.Layer
    trunk: keras.Model | None = None

    @property
    def kernel(self):
        """Tensor of shape `(D, K)`."""
        kernel = ops.reshape(self.layer.kernel, (-1, self.layer.kernel.shape[-1]))
        return ops.concatenate([ops.zeros_like(kernel), kernel], axis=1) if kernel.shape[1] == 1 else kernel

    @property
    def bias(self):
        """Tensor of shape `(K,)`, zeros where the layer has none."""
        if not self.layer.use_bias:
            return ops.zeros(self.kernel.shape[1], self.layer.variable_dtype)
        bias = ops.convert_to_tensor(self.layer.bias)
        return ops.concatenate([ops.zeros_like(bias), bias]) if bias.shape[0] == 1 else bias

    def logits_of(self, features):
        """Returns logits of shape `(..., K)`, K >= 2, of features of shape `(..., D)`."""
        features, kernel, bias = (ops.cast(t, self.layer.compute_dtype) for t in (features, self.kernel, self.bias))
        return ops.matmul(features, kernel) + bias


def last_layer(model, behind=()):
    """Returns the `LastLayer` of a model, or `None`: `kls.utils.feature_extractor.Network` says of which it is found.

    Args:
        model: A Keras model. One that is not functional or built `Sequential`, of one input and output, has none.
        behind: What comes behind it in a model that it is nested in, pairs of an operation and its symbolic input.

    Raises:
        ValueError: If its activation is none of logits or probabilities.
    """
    if not is_graph(model) or len(model.inputs) != 1 or len(model.outputs) != 1:
        return None
    if not behind and len(model.outputs[0].shape) != 2:
        return None
    layer, inputs = origin(model.outputs[0])
    while type(layer) in RESHAPING + MAPPING or _activation(layer) in ACTIVATIONS:
        behind = ((layer, inputs), *behind)
        layer, inputs = origin(inputs)
    if isinstance(layer, keras.Model):
        found = last_layer(layer, behind)
        return None if found is None else replace(found, trunk=keras.Model(model.inputs[0], found.trunk(inputs)))
    if not _is_linear(layer) or not _gives_classes(layer, inputs, behind):
        return None
    if len(inputs.shape) == 4:
        name = f"{layer.name}_features"  # one that Keras makes up might stand in the model already
        inputs = keras.layers.GlobalAveragePooling2D(name=name, dtype=layer.dtype_policy)(inputs)
    return LastLayer(layer, keras.Model(model.inputs[0], inputs))


def is_graph(model):
    """Whether a model does what its layers do: a functional or built `Sequential` one whose `call` is Keras's own."""
    return bool(getattr(model, "outputs", None)) and type(model).call.__module__.partition(".")[0] == "keras"


def origin(tensor):
    """Returns the layer that made a symbolic tensor, and the tensor that it made it from, or `None`."""
    history = tensor._keras_history
    inputs = history.operation._inbound_nodes[history.node_index].input_tensors
    return history.operation, inputs[0] if inputs else None


def _activation(operation):
    """Returns the activation that an operation is, as a layer or as a function of Keras's, or `None`."""
    if isinstance(operation, keras.layers.Activation):
        return operation.activation
    kind = type(operation)
    names = {"Softmax": keras.activations.softmax, "Sigmoid": keras.activations.sigmoid}
    return names.get(kind.__name__) if kind.__module__.startswith("keras.") else None


def _is_linear(layer):
    """Whether a layer is one linear function of the features at each place, but for its activation."""
    if type(layer) is keras.layers.Conv2D:
        settings = layer.kernel_size, layer.strides, layer.groups, layer.data_format
        return settings == ((1, 1), (1, 1), 1, "channels_last")
    return type(layer) is keras.layers.Dense and layer.quantization_mode is None


def _gives_classes(layer, inputs, behind):
    """Whether the model's outputs are one activation of the mean over all places of a layer's outputs."""
    sides, classes, activation = inputs.shape[1:-1], layer.kernel.shape[-1], layer.activation
    is_mean = set(sides) <= {1}
    for operation, tensor in behind:
        if type(operation) in RESHAPING or _activation(operation) is keras.activations.linear:
            continue
        if activation is not keras.activations.linear or tensor.shape[-1] != classes:
            return False
        if type(operation) is TwoLogits:
            classes = 2
        elif type(operation) is keras.layers.GlobalAveragePooling2D:
            is_mean = operation.data_format == "channels_last"
        else:
            activation = _activation(operation)
    if len(sides) not in (0, 2) or not is_mean:
        return False
    final = keras.activations.softmax if classes > 1 else keras.activations.sigmoid
    if activation not in (keras.activations.linear, final):
        raise ValueError(
            "`model` must return logits, or probabilities by softmax, those of one output by sigmoid. "
            f"Received: a last layer with activation {activation.__name__}"
        )
    return True
