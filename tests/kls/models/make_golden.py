"""Writes golden.json: the logits of PyTorch's networks, for test_styles.py.

    python tests/kls/models/make_golden.py

A process of its own: PyTorch and TensorFlow cannot share one. The networks are written as the code that the papers' and
`kls`'s networks follow: wrn.py of Hendrycks et al. 2019, and resnet.py, resnext.py, densenet.py and dla.py of
kuangliu/pytorch-cifar. Weights are drawn from a seed, so that logits alone need be kept: each module's in the order in
which modules are made, kind by kind.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

SEED = 20250707
SHAPE = (12, 9, 3)  # even sides and odd ones where images are halved
CLASSES = 5
COMMAND = "python tests/kls/models/make_golden.py"
PACKAGES = ("torch", "numpy")
KINDS = ("convolution", "grouped convolution", "normalisation", "linear")
NETWORKS = ("wrn10-1", "resnet18", "resnext11-2x4d", "densenet7-4", "densenet121-4", "dla34")


def images():
    """Returns images of shape `(N, height, width, channels)`."""
    return np.random.RandomState(SEED).normal(size=(2, *SHAPE)).astype("float32")


def weights(kind, shape, rng):
    """Draws the weights of a layer in Keras's layout: a list of arrays.

    Args:
        kind: One of `KINDS`.
        shape: Of a kernel `(height, width, channels, filters)` or `(features, classes)`, of a normalisation
            `(channels,)`.
        rng: A `numpy.random.RandomState`.
    """
    if kind == "normalisation":
        drawn = [rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.1, shape), rng.normal(0, 0.1, shape)]
        drawn.append(rng.uniform(0.5, 1.5, shape))
    else:
        drawn = [rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)]
        if kind == "linear":
            drawn.append(rng.normal(size=shape[-1:]))
    return [array.astype("float32") for array in drawn]


def networks():
    """Returns `{name: PyTorch network}`; modules are made in the order in which `kls` makes its layers."""
    import torch
    from torch import nn
    from torch.nn.functional import avg_pool2d, relu

    def conv3x3(inputs, filters, stride=1, groups=1):
        return nn.Conv2d(inputs, filters, 3, stride, 1, groups=groups, bias=False)

    def conv1x1(inputs, filters, stride=1):
        return nn.Conv2d(inputs, filters, 1, stride, bias=False)

    def shortcut(inputs, filters, stride):
        if stride == 1 and inputs == filters:
            return nn.Identity()
        return nn.Sequential(conv1x1(inputs, filters, stride), nn.BatchNorm2d(filters))

    class WideBlock(nn.Module):
        def __init__(self, inputs, filters, stride):
            super().__init__()
            self.equal = inputs == filters
            self.bn1 = nn.BatchNorm2d(inputs)
            self.shortcut = None if self.equal else conv1x1(inputs, filters, stride)
            self.conv1 = conv3x3(inputs, filters, stride)
            self.bn2 = nn.BatchNorm2d(filters)
            self.conv2 = conv3x3(filters, filters)

        def forward(self, x):
            if self.equal:
                return x + self.conv2(relu(self.bn2(self.conv1(relu(self.bn1(x))))))
            x = relu(self.bn1(x))
            return self.shortcut(x) + self.conv2(relu(self.bn2(self.conv1(x))))

    class BasicBlock(nn.Module):
        def __init__(self, inputs, filters, stride=1):
            super().__init__()
            self.conv1, self.bn1 = conv3x3(inputs, filters, stride), nn.BatchNorm2d(filters)
            self.conv2, self.bn2 = conv3x3(filters, filters), nn.BatchNorm2d(filters)
            self.shortcut = shortcut(inputs, filters, stride)

        def forward(self, x):
            y = relu(self.bn1(self.conv1(x)))
            return relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    class GroupedBottleneck(nn.Module):
        def __init__(self, inputs, width, stride, groups):
            super().__init__()
            self.conv1, self.bn1 = conv1x1(inputs, width), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = conv3x3(width, width, stride, groups), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = conv1x1(width, 2 * width), nn.BatchNorm2d(2 * width)
            self.shortcut = shortcut(inputs, 2 * width, stride)

        def forward(self, x):
            y = relu(self.bn1(self.conv1(x)))
            y = relu(self.bn2(self.conv2(y)))
            return relu(self.bn3(self.conv3(y)) + self.shortcut(x))

    class DenseLayer(nn.Module):
        def __init__(self, inputs, growth, bottleneck):
            super().__init__()
            width = 4 * growth if bottleneck else inputs
            self.before = (
                nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(), conv1x1(inputs, width))
                if bottleneck
                else nn.Identity()
            )
            self.bn, self.conv = nn.BatchNorm2d(width), conv3x3(width, growth)

        def forward(self, x):
            return torch.cat([x, self.conv(relu(self.bn(self.before(x))))], 1)

    class Transition(nn.Module):
        def __init__(self, inputs, filters):
            super().__init__()
            self.bn, self.conv = nn.BatchNorm2d(inputs), conv1x1(inputs, filters)

        def forward(self, x):
            return avg_pool2d(self.conv(relu(self.bn(x))), 2)

    class Root(nn.Module):
        def __init__(self, inputs, filters):
            super().__init__()
            self.conv, self.bn = conv1x1(inputs, filters), nn.BatchNorm2d(filters)

        def forward(self, xs):
            return relu(self.bn(self.conv(torch.cat(xs, 1))))

    class Tree(nn.Module):
        def __init__(self, inputs, filters, level, stride):
            super().__init__()
            self.level = level
            if level == 2:
                self.prev_root = BasicBlock(inputs, filters, stride)
                self.level_1 = Tree(inputs, filters, 1, stride)
                inputs, stride = filters, 1
            self.left = BasicBlock(inputs, filters, stride)
            self.right = BasicBlock(filters, filters)
            self.root = Root((level + 2 if level == 2 else 2) * filters, filters)

        def forward(self, x):
            children = [self.prev_root(x)] if self.level == 2 else []
            for i in range(1, self.level):
                x = getattr(self, f"level_{i}")(x)
                children.append(x)
            left = self.left(x)
            return self.root([*children, left, self.right(left)])

    class Network(nn.Module):
        def __init__(self, *trunk, features):
            super().__init__()
            self.trunk = nn.Sequential(*trunk)
            self.classifier = nn.Linear(features, CLASSES)

        def forward(self, x):
            return self.classifier(self.trunk(x).mean((2, 3)))

    def dense_blocks(counts, growth, bottleneck):
        inputs = 2 * growth
        modules = [conv3x3(3, inputs)]
        for block, count in enumerate(counts):
            if block > 0:
                filters = inputs // 2 if bottleneck else inputs
                modules.append(Transition(inputs, filters))
                inputs = filters
            for _ in range(count):
                modules.append(DenseLayer(inputs, growth, bottleneck))
                inputs += growth
        return Network(*modules, nn.BatchNorm2d(inputs), nn.ReLU(), features=inputs)

    def stem(filters, convolution=conv3x3, inputs=3):
        return convolution(inputs, filters), nn.BatchNorm2d(filters), nn.ReLU()

    basic_blocks = [
        BasicBlock(inputs, filters, stride)
        for before, filters, first in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        for inputs, stride in ((before, first), (filters, 1))
    ]
    found = (
        Network(
            *(conv3x3(3, 16), WideBlock(16, 16, 1), WideBlock(16, 32, 2), WideBlock(32, 64, 2)),
            *(nn.BatchNorm2d(64), nn.ReLU()),
            features=64,
        ),
        Network(*stem(64), *basic_blocks, features=512),
        Network(
            *stem(64, conv1x1),
            *(GroupedBottleneck(64, 8, 1, 2), GroupedBottleneck(16, 16, 2, 2), GroupedBottleneck(32, 32, 2, 2)),
            features=64,
        ),
        dense_blocks((1, 1, 1), 4, False),
        dense_blocks((6, 12, 24, 16), 4, True),
        Network(
            *(*stem(16), *stem(16, inputs=16), *stem(32, inputs=16)),
            *(Tree(32, 64, 1, 1), Tree(64, 128, 2, 2), Tree(128, 256, 2, 2), Tree(256, 512, 1, 2)),
            features=512,
        ),
    )
    return dict(zip(NETWORKS, found, strict=True))


def draw_weights(network):
    """Replaces all weights and moving statistics of a network."""
    import torch
    from torch import nn

    def kind_of(module):
        if isinstance(module, nn.Conv2d):
            return "grouped convolution" if module.groups > 1 else "convolution"
        return {nn.BatchNorm2d: "normalisation", nn.Linear: "linear"}.get(type(module))

    rng = np.random.RandomState(SEED)
    for kind in KINDS:
        for module in network.modules():
            if kind_of(module) != kind:
                continue
            axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[module.weight.ndim]
            drawn = weights(kind, tuple(module.weight.shape[axis] for axis in axes), rng)
            module.weight.data = torch.from_numpy(drawn[0].transpose(np.argsort(axes)).copy())
            if kind == "normalisation":
                module.bias.data, module.running_mean, module.running_var = map(torch.from_numpy, drawn[1:])
            elif kind == "linear":
                module.bias.data = torch.from_numpy(drawn[1])


def logits(network):
    """Returns the logits of `images()` in inference."""
    import torch

    draw_weights(network)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images()).permute(0, 3, 1, 2)).numpy().astype(float).tolist()


def main():
    content = {
        "command": COMMAND,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "logits": {name: logits(network) for name, network in networks().items()},
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in content.items()]
    Path(__file__).with_name("golden.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
