"""The networks against PyTorch's of the same weights: golden.json, which make_golden.py writes."""

import json
import runpy
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest

from kls.layers import BatchNormalization
from kls.models import DLA, DenseNet, DenseNetBC, ResNet, ResNeXt, WideResNet
from kls.models.grouped_convolution import GroupedConv2D

HERE = Path(__file__).parent
MADE = runpy.run_path(str(HERE / "make_golden.py"))
GOLDEN = json.loads((HERE / "golden.json").read_text())["logits"]
NETWORKS = {
    "wrn10-1": partial(WideResNet, 10, 1, dropout=0.0),
    "resnet18": partial(ResNet, 18),
    "resnext11-2x4d": partial(ResNeXt, 11, 2, 4),
    "densenet7-4": partial(DenseNet, 7, 4),
    "densenet121-4": partial(DenseNetBC, 121, 4),
    "dla34": partial(DLA, 34),
}
LAYERS = dict(
    zip(MADE["KINDS"], (keras.layers.Conv2D, GroupedConv2D, BatchNormalization, keras.layers.Dense), strict=True)
)


def layers_as_made(model, kind):
    """Returns the layers of a class in the order in which they were made, which Keras numbers in their names."""
    layers = [layer for layer in model.layers if type(layer) is kind]
    return sorted(layers, key=lambda layer: (len(layer.name), layer.name))


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_pytorch_with_the_same_weights(name):
    keras.utils.clear_session()
    model = NETWORKS[name](input_shape=MADE["SHAPE"], classes=MADE["CLASSES"], classifier_activation=None)
    rng = np.random.RandomState(MADE["SEED"])
    for kind, layer_class in LAYERS.items():
        for layer in layers_as_made(model, layer_class):
            layer.set_weights(MADE["weights"](kind, layer.get_weights()[0].shape, rng))
    logits = keras.ops.convert_to_numpy(model(MADE["images"](), training=False))
    np.testing.assert_allclose(logits, GOLDEN[name], atol=1e-4)
