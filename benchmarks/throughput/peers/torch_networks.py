"""PyTorch's counterparts of `kls`'s networks: the same layers, initialisation, penalty and number of parameters.

`kls.models.cifar_resnet`, `wide_resnet` and `densenet` say where the networks are from. The one difference: where a 3x3
convolution of ResNet v1 halves an image, PyTorch pads all sides, and `kls`, which repeats Keras's example there, the
lower and the right ones alone.
"""

import re
from functools import partial

import torch
from torch import nn


class Network(nn.Module):
    """A trunk, global average pooling and a linear layer.

    Args:
        trunk: Module from images to feature maps.
        features: Number of their channels.
        classes: Number of classes K.
        l2: The L2 penalty `l2 |w|^2` of `kls`'s network.
        kernels_alone: Whether it is on the kernels of convolutions alone, or on all weights.
    """

    def __init__(self, trunk, features, classes, l2, kernels_alone=False):
        super().__init__()
        self.trunk = trunk
        self.classifier = nn.Linear(features, classes)
        self.l2 = l2
        self.kernels_alone = kernels_alone

    def forward(self, x):
        return self.classifier(self.trunk(x).mean((2, 3)))

    def parameter_groups(self):
        """Returns groups for an optimizer, whose `weight_decay` has the gradient of the penalty."""
        decayed = [p for p in self.parameters() if p.ndim == 4 or not self.kernels_alone]
        others = [p for p in self.parameters() if p.ndim != 4 and self.kernels_alone]
        groups = [{"params": decayed, "weight_decay": 2 * self.l2}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


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
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            halves = stage > 0 and block == 0
            first = [conv(width, filters, 3, 2 if halves else 1), norm(filters), nn.ReLU()]
            branch = nn.Sequential(*first, conv(filters, filters, 3), norm(filters))
            layers += [Sum(branch, conv(width, filters, 1, 2) if halves else nn.Identity()), nn.ReLU()]
            width = filters
    return _initialised(Network(nn.Sequential(*layers), 64, classes, l2=1e-4, kernels_alone=True), "fan_in")


def resnet_v2(depth, channels, classes):
    """`kls.models.ResNetV2`."""
    conv, norm = partial(_conv, bias=True), partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
    layers = [conv(channels, 16, 3), norm(16), nn.ReLU()]
    inputs = 16
    for stage, (width, filters) in enumerate(((16, 64), (64, 128), (128, 256))):
        for block in range((depth - 2) // 9):
            strides = 2 if stage > 0 and block == 0 else 1
            preactivation = [] if stage == block == 0 else [norm(inputs), nn.ReLU()]
            branch = nn.Sequential(
                *(*preactivation, conv(inputs, width, 1, strides)),
                *(norm(width), nn.ReLU(), conv(width, width, 3)),
                *(norm(width), nn.ReLU(), conv(width, filters, 1)),
            )
            layers.append(Sum(branch, conv(inputs, filters, 1, strides) if block == 0 else nn.Identity()))
            inputs = filters
    layers += [norm(256), nn.ReLU()]
    return _initialised(Network(nn.Sequential(*layers), 256, classes, l2=1e-4, kernels_alone=True), "fan_in")


def wide_resnet(depth, width, channels, classes):
    """`kls.models.WideResNet`."""
    conv, norm = partial(_conv, bias=False), partial(nn.BatchNorm2d, eps=1.001e-5, momentum=0.1)
    layers = [conv(channels, 16, 3)]
    inputs = 16
    for stage, filters in enumerate((16 * width, 32 * width, 64 * width)):
        for block in range((depth - 4) // 6):
            strides = 2 if stage > 0 and block == 0 else 1
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
    layers += [norm(inputs), nn.ReLU()]
    return _initialised(Network(nn.Sequential(*layers), inputs, classes, l2=2.5e-4), "fan_out")


def densenet(depth, growth_rate, channels, classes):
    """`kls.models.DenseNet`."""
    conv, norm = partial(_conv, bias=False), partial(nn.BatchNorm2d, eps=1.001e-5, momentum=0.1)
    inputs = 2 * growth_rate
    layers = [conv(channels, inputs, 3)]
    for block in range(3):
        if block > 0:
            layers += [norm(inputs), nn.ReLU(), conv(inputs, inputs, 1), nn.AvgPool2d(2)]
        for _ in range((depth - 4) // 3):
            layers.append(Joined(nn.Sequential(norm(inputs), nn.ReLU(), conv(inputs, growth_rate, 3))))
            inputs += growth_rate
    layers += [norm(inputs), nn.ReLU()]
    return _initialised(Network(nn.Sequential(*layers), inputs, classes, l2=5e-5), "fan_out")


NETWORKS = {
    r"resnet(\d+)v1": resnet_v1,
    r"resnet(\d+)v2": resnet_v2,
    r"wrn(\d+)-(\d+)": wide_resnet,
    r"densenet(\d+)-(\d+)": densenet,
}


def build(name, channels, classes):
    """Returns the counterpart of `kls.models.build(name, ...)`.

    Args:
        name: Registered name of the model in `kls`.
        channels: Channels of the images.
        classes: Number of classes K.

    Raises:
        ValueError: If there is none.
    """
    for pattern, network in NETWORKS.items():
        if match := re.fullmatch(pattern, name):
            return network(*map(int, match.groups()), channels, classes)
    raise ValueError(f"`name` must match one of {', '.join(NETWORKS)}. Received: {name!r}")


def _conv(inputs, filters, kernel_size, strides=1, bias=False):
    return nn.Conv2d(inputs, filters, kernel_size, strides, kernel_size // 2, bias=bias)


def _initialised(network, mode):
    """Draws the kernels as He et al. 2015 do and sets the biases of convolutions to 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
