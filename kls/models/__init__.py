"""Image classifiers in the style of `keras.applications`, and a registry of them by name."""

from kls.models.cifar_resnet import ResNetV1, ResNetV2
from kls.models.densenet import DenseNet
from kls.models.registry import build, names, register
from kls.models.wide_resnet import WideResNet

__all__ = ["DenseNet", "ResNetV1", "ResNetV2", "WideResNet", "build", "names", "register"]
