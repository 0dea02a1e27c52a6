"""PyTorch's counterparts of `kls`'s networks: the same layers and number of parameters, PyTorch's initialisation.

`kls.models.cifar_resnet`, `wide_resnet` and `densenet` say where the networks are from. The one difference in what they
compute: where a 3x3 convolution of ResNet v1 halves an image, PyTorch pads all sides, and `kls`, which repeats Keras's
example there, the lower and the right ones alone.
"""

import re
from functools import partial

import torch
from torch import nn


class Sum(nn.Module):
    """Two branches of one input, added."""

    def __init__(self, first, second):
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, x):
        return self.first(x) + self.second(x)


class Joined(nn.Module):
    """A branch of an input, concatenated to it."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        return torch.cat([x, self.branch(x)], 1)


def resnet_v1(depth, channels, classes):
    """`kls.models.ResNetV1`."""
    conv, norm = partial(_conv, bias=True), partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    layers = [conv(channels, 16, 3), norm(16), nn.ReLU()]
    width = 16
    for filters, strides in _blocks((16, 32, 64), (depth - 2) // 6):
        first = [conv(width, filters, 3, strides), norm(filters), nn.ReLU()]
        branch = nn.Sequential(*first, conv(filters, filters, 3), norm(filters))
        layers += [Sum(branch, conv(width, filters, 1, 2) if strides > 1 else nn.Identity()), nn.ReLU()]
        width = filters
    return _network(layers, width, classes)


def resnet_v2(depth, channels, classes):
    """`kls.models.ResNetV2`."""
    conv, norm = partial(_conv, bias=True), partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    layers = [conv(channels, 16, 3), norm(16), nn.ReLU()]
    inputs = 16
    for (width, filters), strides in _blocks(((16, 64), (64, 128), (128, 256)), (depth - 2) // 9):
        preactivation = [] if inputs == 16 else [norm(inputs), nn.ReLU()]  # the first block's input is activated
        branch = nn.Sequential(
            *(*preactivation, conv(inputs, width, 1, strides)),
            *(norm(width), nn.ReLU(), conv(width, width, 3)),
            *(norm(width), nn.ReLU(), conv(width, filters, 1)),
        )
        layers.append(Sum(branch, conv(inputs, filters, 1, strides) if inputs != filters else nn.Identity()))
        inputs = filters
    return _network([*layers, norm(inputs), nn.ReLU()], inputs, classes)


def wide_resnet(depth, width, channels, classes):
    """`kls.models.WideResNet`."""
    conv, norm = _conv, partial(nn.BatchNorm2d, eps=1.001e-5, momentum=0.1)
    layers = [conv(channels, 16, 3)]
    inputs = 16
    for filters, strides in _blocks((16 * width, 32 * width, 64 * width), (depth - 4) // 6):
        preactivation = (norm(inputs), nn.ReLU())
        branch = (
            *(conv(inputs, filters, 3, strides), norm(filters), nn.ReLU()),
            *(nn.Dropout(0.3), conv(filters, filters, 3)),
        )
        if inputs == filters and strides == 1:
            layers.append(Sum(nn.Sequential(*preactivation, *branch), nn.Identity()))
        else:
            layers += [*preactivation, Sum(conv(inputs, filters, 1, strides), nn.Sequential(*branch))]
        inputs = filters
    return _network([*layers, norm(inputs), nn.ReLU()], inputs, classes)


def densenet(depth, growth_rate, channels, classes):
    """`kls.models.DenseNet`."""
    conv, norm = _conv, partial(nn.BatchNorm2d, eps=1.001e-5, momentum=0.1)
    inputs = 2 * growth_rate
    layers = [conv(channels, inputs, 3)]
    for block in range(3):
        if block > 0:
            layers += [norm(inputs), nn.ReLU(), conv(inputs, inputs, 1), nn.AvgPool2d(2)]
        for _ in range((depth - 4) // 3):
            layers.append(Joined(nn.Sequential(norm(inputs), nn.ReLU(), conv(inputs, growth_rate, 3))))
            inputs += growth_rate
    return _network([*layers, norm(inputs), nn.ReLU()], inputs, classes)


NETWORKS = {  # and the L2 penalty `l2 |w|^2` of `kls`'s, which is on the kernels of convolutions alone in ResNets
    r"resnet(\d+)v1": (resnet_v1, 1e-4),
    r"resnet(\d+)v2": (resnet_v2, 1e-4),
    r"wrn(\d+)-(\d+)": (wide_resnet, 2.5e-4),
    r"densenet(\d+)-(\d+)": (densenet, 5e-5),
}


def build(name, channels, classes):
    """Returns the counterpart of `kls.models.build(name, ...)`, and the weight decay with the gradient of its penalty.

    Args:
        name: Registered name of the model in `kls`.
        channels: Channels of the images.
        classes: Number of classes K.

    Raises:
        ValueError: If there is none.
    """
    for pattern, (network, l2) in NETWORKS.items():
        if match := re.fullmatch(pattern, name):
            return network(*map(int, match.groups()), channels, classes), 2 * l2
    raise ValueError(f"`name` must match one of {', '.join(NETWORKS)}. Received: {name!r}")


def _blocks(widths, count):
    """Yields the width and the strides of each block: all stages but the first halve the image in their first block."""
    for stage, width in enumerate(widths):
        for block in range(count):
            yield width, 2 if stage > 0 and block == 0 else 1


def _conv(inputs, filters, kernel_size, strides=1, bias=False):
    return nn.Conv2d(inputs, filters, kernel_size, strides, kernel_size // 2, bias=bias)


def _network(layers, features, classes):
    """Adds global average pooling and a linear layer."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
