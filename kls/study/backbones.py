"""Pretrained networks by name: those of `keras.applications`, and presets of KerasHub."""

import difflib
import inspect
import os
import sys
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from keras.src.applications import imagenet_utils
from keras.src.backend.config import keras_home
from keras.src.utils import file_utils

from decathlon.replacing import replaced
from kls.study.plan import PlanError
from kls.utils.arrays import check_number, check_whole, shown

APPLICATION = "keras.applications."
PRESET = "keras_hub:"
USUAL_SIDE = 224  # of networks for ImageNet, where one does not say for which side it is made


@dataclass(frozen=True)
class Backbone:
    """A function `(input_shape, classes) -> keras.Model` that puts a new last layer on a pretrained network.

    The model takes pixels in [0, 255]. It repeats grey images to three channels, resizes images so that their shorter
    side is `side`, and scales them as the network was trained. Global average pooling, dropout and a `Dense` layer that
    returns logits follow. All weights are trained but those of batch normalisation, which keeps its statistics. At a
    large rate, such as 1e-3 of Adam, they lose what they have learnt; 1e-4 is a good one to begin with.

    Attributes:
        name: `"keras.applications.EfficientNetV2B0"`, or `"keras_hub:PRESET"`, a preset's name or folder.
        weights: File of the network's weights without its top, as its `save_weights` or Keras itself writes them;
            `None` takes the pretrained ones, which Keras downloads unless they are in its cache.
        side: Shorter side in pixels of the images that the network works on; `None` for `default_side(name)`.
        dropout: Share of the features that are dropped.

    Raises:
        PlanError: If there is no such network, if it has no such weights, or if it does not take such images.

    Example:

    >>> backbone = Backbone("keras.applications.MobileNetV3Small", side=64)
    >>> default_side(backbone.name)
    224
    """

    name: str
    weights: str | None = None
    side: int | None = None
    dropout: float = 0.2

    def __post_init__(self):
        if not is_backbone(self.name):
            raise PlanError(f"`model` must be {APPLICATION}NAME or {PRESET}PRESET. Received: model={shown(self.name)}")
        least = 1 if _preset(self.name) else _sizes(_application(self.name))[1]
        if self.weights is not None and not os.path.isfile(self.weights):
            raise self._refused_weights("there is no such file")
        try:
            check_number(self.dropout, "dropout", "[0, 1)")
            if self.side is not None:
                check_whole(self.side, "side", least)
        except ValueError as error:
            raise PlanError(f"{self.name}: {error}") from None

    def __call__(self, input_shape, classes):
        if len(input_shape) != 3 or input_shape[-1] not in (1, 3):
            raise PlanError(
                f"{self.name} takes images of shape (H, W, 1) or (H, W, 3). Received: input_shape={input_shape}"
            )
        x = inputs = keras.Input(input_shape)
        if input_shape[-1] == 1:
            x = layers.Concatenate(name="colours")([x, x, x])
        shorter, side = min(input_shape[:2]), self.side or default_side(self.name)
        if shorter != side:
            height, width = (round(length * side / shorter) for length in input_shape[:2])
            resizing = layers.Resizing(height, width, dtype="float32", name="resizing")
            x = resizing(x, training=False)  # its default, True, would be that of the layers after it
        maps = (self._of_preset if _preset(self.name) else self._of_application)(x)
        pooling = layers.GlobalAveragePooling2D if len(maps.shape) == 4 else layers.GlobalAveragePooling1D
        x = layers.Dropout(self.dropout, name="dropout")(pooling(name="features")(maps))
        return keras.Model(inputs, layers.Dense(classes, name="logits")(x))

    def _of_application(self, x):
        application = _application(self.name)
        get_file = file_utils.get_file

        def find(file_name, *args, **kwargs):
            if self.weights is not None:
                return self.weights
            try:
                return get_file(file_name, *args, **kwargs)
            except Exception as error:  # Keras raises plain ones
                raise PlanError(
                    f"{file_name}, the pretrained weights of {self.name}, cannot be downloaded: give a file of them as "
                    f"`weights`. Received: {_first_sentence(error)}"
                ) from None

        # Those of a file are loaded in place of the pretrained ones: an EfficientNet without these lacks a layer.
        with replaced(file_utils, get_file=find), warnings.catch_warnings(), self._loading():
            warnings.simplefilter("ignore")  # that a MobileNet was trained at other sides
            network = application(include_top=False, weights="imagenet", input_shape=x.shape[1:])
        return _frozen(network)(_preprocessed(x, sys.modules[application.__module__].preprocess_input))

    def _of_preset(self, x):
        keras_hub, preset, converter = _hub(self.name), _preset(self.name), _converter(self.name)
        with _naming_preset(self.name):
            network = keras_hub.models.Backbone.from_preset(preset, load_weights=self.weights is None)
        if self.weights is not None:
            with self._loading():
                network.load_weights(self.weights)
        scale = 1 if converter.scale is None else converter.scale
        offset = 0 if converter.offset is None else converter.offset
        with _naming_preset(self.name):
            network = keras.Model(network.input, network.output, name=network.name)  # saves which layers are frozen
            maps = _frozen(network)(layers.Rescaling(scale, offset, dtype="float32", name="preprocessing")(x))
            if not isinstance(maps, keras.KerasTensor) or len(maps.shape) not in (3, 4):
                raise ValueError(f"its outputs are no feature maps: {shown(maps)}")
            return maps

    @contextmanager
    def _loading(self):
        try:
            yield
        except (ValueError, OSError, KeyError) as error:
            if self.weights is None:
                raise
            raise self._refused_weights(_first_sentence(error)) from None

    def _refused_weights(self, reason):
        return PlanError(
            f"`weights` must be a file of the weights of {self.name} without its top. "
            f"Received: weights={shown(self.weights)} ({reason})"
        )


def is_backbone(name):
    """Returns whether a model's name means a `Backbone`, even one that there is not."""
    return isinstance(name, str) and name.startswith((APPLICATION, PRESET))


def default_side(name):
    """Returns the side in pixels of the images that a network was made for.

    Args:
        name: As in `Backbone`.

    Raises:
        PlanError: If there is no such network.

    Example:

    >>> default_side("keras.applications.EfficientNetB1")
    240
    """
    if _preset(name):
        return min(_converter(name).image_size or [USUAL_SIDE])
    return _sizes(_application(name))[0]


def cached(name, side=None):
    """Returns whether Keras need not download the pretrained weights of a network.

    The network is built for that, without its weights. Only those presets count that are folders.

    Args:
        name: As in `Backbone`.
        side: As in `Backbone`: the weights of MobileNets differ by it.

    Raises:
        PlanError: If there is no such network.
    """
    if preset := _preset(name):
        return os.path.isdir(preset)
    asked = []

    def ask(file_name, *args, **kwargs):
        asked.append(file_name)
        raise OSError

    # Nothing but the code of an application says what its file is called: it is asked when it asks for the file.
    side = side or default_side(name)
    with replaced(file_utils, get_file=ask), suppress(PlanError):
        Backbone(name, side=side)((side, side, 3), classes=2)
    return os.path.isfile(os.path.join(keras_home(), "models", *asked))


def _preset(name):
    return name.removeprefix(PRESET) if name.startswith(PRESET) else None


def _application(name):
    known = {
        f"{APPLICATION}{own}": value
        for own, value in vars(keras.applications).items()
        if inspect.isfunction(value) and "include_top" in inspect.signature(value).parameters
    }
    if name not in known:
        by_case = {own.lower(): own for own in known}
        close = difflib.get_close_matches(name.lower(), by_case, cutoff=0)
        like = ", ".join(by_case[own] for own in close)
        raise PlanError(f"`model` must be that of a network of keras.applications, such as {like}. Received: {name!r}")
    return known[name]


def _sizes(application):
    """Returns the side in pixels that an application is made for, and the least that it takes."""
    sizes = {"default_size": USUAL_SIDE, "min_size": 32}  # MobileNetV3 does not ask as others do
    obtain = imagenet_utils.obtain_input_shape

    def noted(input_shape, **arguments):
        sizes.update(arguments)
        return obtain(input_shape, **arguments)

    with replaced(imagenet_utils, obtain_input_shape=noted), suppress(ValueError):
        application(include_top=False, weights=None, input_shape=(1, 1, 3))  # is refused before anything is built
    return sizes["default_size"], sizes["min_size"]


def _preprocessed(x, preprocess_input):
    """Applies an application's preprocessing as layers: it is a scale and an offset of each channel, RGB or BGR."""
    levels = preprocess_input(np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)])[None])[0]
    offset, matrix = levels[0], (levels[1:] - levels[0]) / 255
    if matrix[0, 0] == 0:
        x = keras.ops.flip(x, axis=-1)
    scale = matrix.sum(axis=0)
    if np.all(scale == 1) and not offset.any():
        return x
    return layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", name="preprocessing")(x)


def _frozen(network):
    """Returns a network whose batch normalisation keeps its statistics.

    To call it with `training=False`, as Keras's guide to transfer learning has it, would not do: where `fit` calls the
    whole model with `training=True`, Keras 3 passes that on to a functional model in place of what it was called with.
    """
    for layer in network._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return network


def _hub(name):
    try:
        import keras_hub
    except ImportError:
        raise PlanError(f"`name` needs the package keras-hub, which is not installed. Received: {name!r}") from None
    return keras_hub


def _converter(name):
    """Returns the image converter of a preset, which holds its size, scale and offset."""
    keras_hub = _hub(name)
    with _naming_preset(name):
        return keras_hub.layers.ImageConverter.from_preset(_preset(name))


@contextmanager
def _naming_preset(name):
    try:
        yield
    except Exception as error:  # of KerasHub, Kaggle, Hugging Face or the network
        reason = _first_sentence(error)
        raise PlanError(
            f"`model` must be that of a preset of KerasHub that takes images. Received: {name!r} ({reason})"
        ) from None


def _first_sentence(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
