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
    "resnet8v1": kls.models.ResNetV1(8, (8, 8, 3), classifier_activation=None),
    "resnet11v2": kls.models.ResNetV2(11, (8, 8, 3), classifier_activation=None),
    "wrn10-1": kls.models.WideResNet(10, 1, (8, 8, 3), classifier_activation=None),
    "densenet7-12": kls.models.DenseNet(7, 12, (8, 8, 3), classifier_activation=None),
}


def weights_of(model):
    """Returns `{kind: [weights of each layer]}` in the order in which layers were made."""
    kinds = {"conv": keras.layers.Conv2D, "norm": keras.layers.BatchNormalization, "dense": keras.layers.Dense}
    found = {}
    for name, kind in kinds.items():
        layers = [layer for layer in model.layers if isinstance(layer, kind)]
        found[name] = [layer.get_weights() for layer in sorted(layers, key=lambda layer: number_of(layer.name))]
    return found


def number_of(name):
    digits = name.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def copy_weights(model, network):
    """Copies weights, and pads as Keras's example does where a 3x3 convolution of ResNet v1 halves an image."""
    as_keras = not any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in model.layers)
    found = weights_of(model)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            kernel, *bias = found["conv"].pop(0)
            assign(module, weight=kernel.transpose(3, 2, 0, 1), **dict(zip(["bias"], bias, strict=False)))
            if as_keras and module.stride == (2, 2) and module.kernel_size == (3, 3):
                module.padding = (0, 0)
                module.register_forward_pre_hook(lambda _, inputs: nn.functional.pad(inputs[0], (0, 1, 0, 1)))
        elif isinstance(module, nn.BatchNorm2d):
            gamma, beta, mean, variance = found["norm"].pop(0)
            assign(module, weight=gamma, bias=beta, running_mean=mean, running_var=variance)
        elif isinstance(module, nn.Linear):
            kernel, bias = found["dense"].pop(0)
            assign(module, weight=kernel.T, bias=bias)
    assert not any(found.values())


def assign(module, **values):
    for name, value in values.items():
        getattr(module, name).data.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def difference(name, model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
    network = torch_networks.build(name, 3, 10).eval()
    copy_weights(model, network)
    images = rng.random((2, 8, 8, 3), np.float32)
    with torch.no_grad():
        expected = model(images, training=False).numpy()
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def decayed(name):
    network = torch_networks.build(name, 3, 10)
    return [(group["weight_decay"], sum(p.numel() for p in group["params"])) for group in network.parameter_groups()]


sys.path.insert(0, str(Path(sys.argv[1])))
import torch_networks  # noqa: E402

differences = {name: difference(name, model) for name, model in NETWORKS.items()}
print(json.dumps({"differences": differences, "decayed": {name: decayed(name) for name in NETWORKS}}))
