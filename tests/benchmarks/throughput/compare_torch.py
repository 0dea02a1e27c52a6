"""Compares PyTorch's networks with those of `kls` on Keras's PyTorch backend, and prints what it finds as JSON.

A program of its own: PyTorch and TensorFlow do not share a process.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import torch
from torch import nn

import kls

NETWORKS = {
    "resnet14v1": kls.models.ResNetV1(14, (8, 8, 3), classifier_activation=None),
    "resnet20v2": kls.models.ResNetV2(20, (8, 8, 3), classifier_activation=None),
    "wrn16-1": kls.models.WideResNet(16, 1, (8, 8, 3), classifier_activation=None),
    "densenet10-12": kls.models.DenseNet(10, 12, (8, 8, 3), classifier_activation=None),
}
KINDS = {nn.Conv2d: keras.layers.Conv2D, nn.BatchNorm2d: keras.layers.BatchNormalization, nn.Linear: keras.layers.Dense}


def weights_of(model, kind):
    """Returns the weights of each layer of a kind, in the order in which layers were made."""
    layers = [layer for layer in model.layers if isinstance(layer, kind)]
    return [layer.get_weights() for layer in sorted(layers, key=lambda layer: (len(layer.name), layer.name))]


def copy_weights(model, network):
    """Copies weights, and pads as Keras's example does where a 3x3 convolution of ResNet v1 halves an image."""
    as_keras = not any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in model.layers)
    found = {theirs: weights_of(model, ours) for theirs, ours in KINDS.items()}
    for module in network.modules():
        if type(module) not in KINDS:
            continue
        first, *others = found[type(module)].pop(0)
        values = first.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[first.ndim]), *others
        for name, value in zip(("weight", "bias", "running_mean", "running_var"), values, strict=False):
            getattr(module, name).data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if as_keras and isinstance(module, nn.Conv2d) and module.stride == (2, 2) and module.kernel_size == (3, 3):
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, inputs: nn.functional.pad(inputs[0], (0, 1, 0, 1)))
    assert not any(found.values())


def difference(name, model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
    network, weight_decay = torch_networks.build(name, 3, 10)
    copy_weights(model, network.eval())
    assert weight_decay == max(2 * w.regularizer.l2 for w in model.trainable_weights if w.regularizer)
    images = rng.random((2, 8, 8, 3), np.float32)
    with torch.no_grad():
        expected = model(images, training=False).numpy()
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


sys.path.insert(0, str(Path(sys.argv[1])))
import torch_networks  # noqa: E402

print(json.dumps({name: difference(name, model) for name, model in NETWORKS.items()}))
