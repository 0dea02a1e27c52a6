"""A Keras classifier taken apart: its features, logits and last layer, from one pass over data."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise

import keras
import numpy as np
from keras import ops

from kls.utils.arrays import SUM_TOLERANCE, shown
from kls.utils.compiled import compiled
from kls.utils.data import full_batches
from kls.utils.last_layer import is_graph, last_layer

TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Outputs:
    """What a classifier makes of a dataset.

    Attributes:
        logits: Shape `(N, K)`. Where the model returns probabilities and has no last layer to take the logits from,
            their logarithms, a 0 being 1.2e-38.
        labels: Labels as they came, or `None`.
        features: float32 of shape `(N, D)`, or `None` if not asked for.
        exact_logits: Whether the logits are the network's own, not known only up to a constant per sample.
        head: `(kernel, bias)` with `logits = features @ kernel + bias`, or `None` where the features are others.
        scores: Scores that need the images, by name.
        sample: The images of the first batch, by which their scale is judged; `None` without images.
    """

    logits: np.ndarray
    labels: np.ndarray | None = None
    features: np.ndarray | None = None
    exact_logits: bool = True
    head: tuple | None = None
    scores: dict = field(default_factory=dict)
    sample: np.ndarray | None = None


class Network:
    """Finds the last layer of a classifier and computes features and logits, compiled once.

    The last layer of a functional or `Sequential` model, the model nested in its end included, is found where that ends
    in one of these, with a softmax or linear activation:

    - a `Dense`, whose inputs are the features;
    - a `Conv2D` of kernels of 1 x 1 on maps of 1 x 1, before `Flatten` or `Reshape`: its inputs are the features;
    - such a `Conv2D` on maps of any size, before `GlobalAveragePooling2D`: its logits are those of the mean of its
      inputs over height and width, which is the features;
    - one output for two classes, of any of these: linear, the logit z of class 1, or with a sigmoid. The logits of the
      two classes are `(0, z)`: `softmax((0, z))[1] = sigmoid(z)`.

    Any other model (a subclass of `keras.Model`) gives logits, or the logarithms of its probabilities, but no features.
    One output of it is the probability of class 1 if all those of the first batch seen lie in [0, 1], else its logit.

    Args:
        model: A Keras classifier that returns logits or probabilities of shape `(N, K)`, or `(N, 1)` for two classes.
        features: Name of another layer to take the features from; its outputs of shape `(N, H, W, C)` are averaged
            over height and width.

    Attributes:
        gives_probabilities: Whether the model's outputs, as far as seen, are probabilities that `logits` cannot undo.
        gives_log_probabilities: Whether they are the logarithms of such.

    Raises:
        ValueError: If this is no Keras model or one of several inputs or outputs, if there is no layer of that name, or
            if the last layer's activation gives neither logits nor probabilities.
    """

    def __init__(self, model, features=None):
        _check_model(model)
        self.model = model
        self.feature_layer = features
        self._last = last_layer(model)
        if features is not None:
            self._features = _named_features(model, features)
        else:
            self._features = None if self._last is None else self._last.trunk
        self.gives_probabilities = None if self._last is None else False  # `None` until outputs are seen
        self.gives_log_probabilities = False
        self._compiled = {}

    @property
    def has_features(self):
        return self._features is not None

    @property
    def has_head(self):
        """Whether the last layer is known and the features are its input."""
        return self._last is not None and self.feature_layer is None

    @property
    def exact_logits(self):
        """Whether the logits, as far as seen, are the network's own, not known only up to a constant per sample."""
        return not (self.gives_probabilities or self.gives_log_probabilities)

    @property
    def head(self):
        """`(kernel, bias)` of the last layer as arrays, or `None` where the features are not its input."""
        if not self.has_head:
            return None
        return tuple(ops.convert_to_numpy(ops.cast(part, "float32")) for part in (self._last.kernel, self._last.bias))

    @cached_property
    def first_norm(self):
        """The first batch normalisation and the model up to its input, or `None`: see `first_batch_norm`."""
        return first_batch_norm(self.model)

    def check(self, data, batch_size=128):
        """Checks the first batch of a dataset, and the model's outputs by their shape; computes nothing.

        Args:
            data: As `kls.utils.data.batches_of` takes it.
            batch_size: Images per batch, for arrays.

        Returns:
            The first labels, or `None`, and the number of classes K.

        Raises:
            ValueError: As `outputs` does.
        """
        images, labels, count = next(full_batches(data, batch_size), (None, None, 0))
        _check_any(count)
        self.check_images(images)
        _check_no_nan(np.asarray(images), "images")
        image = keras.KerasTensor(images.shape, keras.backend.standardize_dtype(images.dtype))
        outputs = keras.tree.flatten(self.model.compute_output_spec(image))
        if len(outputs) != 1:
            raise ValueError(f"`model` must have one output. Received: a model of {len(outputs)}")
        _check_shape(outputs[0].shape)
        return labels, max(outputs[0].shape[1], 2)

    def outputs(self, data, features=False, batch_size=128, image_scores=None):
        """Returns the `Outputs` of a dataset, from one pass over it.

        Args:
            data: As `kls.utils.data.batches_of` takes it.
            features: Whether to keep features.
            batch_size: Images per batch, for arrays; smaller last batches are filled up, so that nothing is compiled
                for them.
            image_scores: `{name: function of (network, images)}`, computed per batch.

        Raises:
            ValueError: If features are asked for and there are none, or if the model's outputs are no logits or
                probabilities of shape `(N, K)`.
        """
        if features and not self.has_features:
            raise ValueError(
                '`features` must name a layer to take them from, features="NAME", of a functional or Sequential model '
                f"whose last layer is not found. Received: a {type(self.model).__name__} named {self.model.name!r}"
            )
        image_scores = image_scores or {}
        run = self._compiled_once(self._forward_with_features if features else self._forward)

        def begin():
            first = 0
            for images, labels, count in full_batches(data, batch_size):
                if first == 0:
                    self.check_images(images)
                _check_no_nan(images, "images", first)
                yield first, images, labels, count, run(ops.convert_to_tensor(images))
                first += count

        parts, sample = [], None
        begun = begin() if image_scores else _one_behind(begin())  # scores may draw too, each after its own batch
        for first, images, labels, count, tensors in begun:
            found = [ops.convert_to_numpy(tensor)[:count] for tensor in tensors]
            if first == 0:
                self._check_outputs(found[0])
                sample = images[:count]
            _check_no_nan(found[0], "logits", first)
            parts.append((labels, found, [score(self, images)[:count] for score in image_scores.values()]))
        _check_any(len(parts))
        labels = None if parts[0][0] is None else np.concatenate([labels for labels, _, _ in parts])
        logits, *rest = (np.concatenate(arrays) for arrays in zip(*(found for _, found, _ in parts), strict=True))
        scores = (np.concatenate(arrays) for arrays in zip(*(scores for _, _, scores in parts), strict=True))
        if self.gives_probabilities and logits.shape[1] == 1 and not looks_like_probabilities(logits):
            raise ValueError(
                "`model` must return probabilities in [0, 1] as its one output, as it did of the first batch, or "
                f"outputs of shape (N, 2). Received: {logits.min():.6g} to {logits.max():.6g}"
            )
        return Outputs(
            logits=ops.convert_to_numpy(self._as_logits(logits)) if self._last is None else logits,
            labels=labels,
            features=rest[0] if rest else None,
            exact_logits=self.exact_logits,
            head=self.head,
            scores=dict(zip(image_scores, scores, strict=True)),
            sample=sample,
        )

    def logits(self, images):
        """Returns the float32 logits of a batch as a tensor that gradients flow through."""
        return self._as_logits(self.raw_outputs(images))

    def raw_outputs(self, images):
        """Returns the logits of a batch as a tensor; of a model whose last layer is not found, what it returns."""
        if self._last is not None:
            return self._last.logits_of(self._last.trunk(images, training=False))
        outputs = self.model(images, training=False)
        if not hasattr(outputs, "shape"):
            raise ValueError(f"`model` must have one output. Received: a {type(outputs).__name__} of outputs")
        return outputs

    def tensors(self, images, features=False):
        """Returns the `Outputs` of a batch as float32 tensors, for a graph that goes on from there.

        Args:
            images: Tensor of images.
            features: Whether to compute features.
        """
        logits, *rest = self._forward_with_features(images) if features else self._forward(images)
        head = None
        if features and self.has_head:
            head = ops.cast(self._last.kernel, "float32"), ops.cast(self._last.bias, "float32")
        features = rest[0] if rest else None
        return Outputs(self._as_logits(logits), features=features, exact_logits=self.exact_logits, head=head)

    def compiled(self, function, argument=None):
        """Returns `function(images)`, a method of tensors, compiled by the backend and returning NumPy arrays.

        Args:
            function: Function of a batch of images to tensors; compiled once per function.
            argument: What tells it from other compiled functions of the same name, such as its settings.
        """
        run = self._compiled_once(function, argument)
        return lambda images: [ops.convert_to_numpy(array) for array in run(ops.convert_to_tensor(images))]

    def _compiled_once(self, function, argument=None):
        """Returns `function` of a tensor, compiled; an accelerator may still be computing what it returns."""
        key = (getattr(function, "__name__", function), argument)
        if key not in self._compiled:
            self._compiled[key] = compiled(function, self.model)
        return self._compiled[key]

    def _forward(self, images):
        return (ops.cast(self.raw_outputs(images), "float32"),)

    def _forward_with_features(self, images):
        features = self._features(images, training=False)
        outputs = self._last.logits_of(features) if self.feature_layer is None else self.raw_outputs(images)
        if len(features.shape) == 4:
            features = ops.mean(features, axis=(1, 2))
        return ops.cast(outputs, "float32"), ops.cast(_flat(features), "float32")

    def _as_logits(self, outputs):
        """Returns the float32 logits of what `raw_outputs` returns, by what was seen of that."""
        outputs = ops.cast(outputs, "float32")
        if outputs.shape[1] == 1:
            other = 1 - outputs if self.gives_probabilities else ops.zeros_like(outputs)
            outputs = ops.concatenate([other, outputs], axis=1)
        return ops.log(ops.maximum(outputs, TINY)) if self.gives_probabilities else outputs

    def check_images(self, images):
        """Raises `ValueError` for images of another shape than the model takes: Keras itself says so at times."""
        expected = self.model.inputs[0].shape if is_graph(self.model) and len(self.model.inputs) == 1 else None
        if expected is None or None in expected[1:]:
            return
        if [side for side in images.shape[1:] if side != 1] != [side for side in expected[1:] if side != 1]:
            raise ValueError(f"`data` must hold images of shape {expected}. Received: shape {images.shape}")

    def _check_outputs(self, outputs):
        """Finds out from the first batch seen whether a model whose last layer is not known gives probabilities."""
        _check_shape(outputs.shape)
        if self.gives_probabilities is None:
            self.gives_probabilities = looks_like_probabilities(outputs)
            may_be_logarithms = outputs.shape[1] > 1 and bool((outputs <= 0).all())
            self.gives_log_probabilities = may_be_logarithms and looks_like_probabilities(np.exp(outputs))


def _flat(features):
    """Returns features of shape `(N, D)`, D being known where the sides are."""
    sides = features.shape[1:]
    return ops.reshape(features, (ops.shape(features)[0], -1) if None in sides else (-1, math.prod(sides)))


def _one_behind(items):
    """Yields each item when the next one is there too, for which an accelerator computes meanwhile."""
    return (item for item, _ in pairwise(chain(items, [None])))


def looks_like_probabilities(values):
    """Returns whether no value is negative and all rows sum to 1; of one column, whether all values are in [0, 1]."""
    if values.shape[1] == 1:
        values = np.concatenate([1 - values, values], axis=1)
    return bool((values >= 0).all() and (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def first_batch_norm(model):
    """Returns the first `BatchNormalization` of a graph of layers and the model up to its input, or `None`.

    Args:
        model: A Keras model. One that is not functional or built `Sequential`, of one input, has none; a model nested
            in it is looked into.
    """
    if not is_graph(model) or len(model.inputs) != 1:
        return None
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            return layer, keras.Model(model.inputs[0], _node_of(layer, model).input_tensors[0])
        if isinstance(layer, keras.Model) and (found := first_batch_norm(layer)) is not None:
            norm, trunk = found
            return norm, keras.Model(model.inputs[0], trunk(_node_of(layer, model).input_tensors[0]))
    return None


def _node_of(layer, model):
    """Returns the first call of a layer in a model's graph; the layer may stand in other graphs too."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    nodes = [node for of_depth in graph._nodes_by_depth.values() for node in of_depth]
    return next(node for node in layer._inbound_nodes if node in nodes)


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: {shown(model)}")
    for kind, tensors in (("input", model.inputs), ("output", model.outputs)) if is_graph(model) else ():
        if len(tensors) != 1:
            raise ValueError(f"`model` must have one {kind}. Received: a model of {len(tensors)}")


def _check_shape(shape):
    if len(shape) != 2 or not shape[1]:
        raise ValueError(
            "`model` must return logits or probabilities of shape (N, K), or of shape (N, 1) for two classes. "
            f"Received: outputs of shape {tuple(shape)}"
        )


def _check_any(count):
    if count == 0:
        raise ValueError("`data` must hold one batch at least. Received: none")


def _check_no_nan(values, kind, first=0):
    """Raises for NaN in an array whose first row is sample `first` of the data."""
    if values.dtype.kind in "biu":
        return
    wrong = np.flatnonzero(np.isnan(values).reshape(len(values), -1).any(axis=1))
    if len(wrong):
        raise ValueError(f"`data` must give {kind} without NaN. Received: NaN in sample {first + wrong[0]}")


def _named_features(model, name):
    if not is_graph(model):
        raise ValueError(f"`features` needs a functional or Sequential model. Received: a {type(model).__name__}")
    names = [layer.name for layer in model.layers]
    if name not in names:
        last = ", ".join(names[-5:])
        raise ValueError(f"`features` must name a layer of the model, the last of which are {last}. Received: {name!r}")
    return keras.Model(model.inputs, _node_of(model.get_layer(name), model).outputs)
