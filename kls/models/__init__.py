"""Image classifiers in the style of `keras.applications`, and a registry of them by name."""

from kls.models.cifar_resnet import ResNetV1, ResNetV2
from kls.models.denoising_classifier import DenoisingClassifier, classifier_of
from kls.models.densenet import DenseNet, DenseNetBC
from kls.models.dla import DLA
from kls.models.registry import build, names, register
from kls.models.resnet import ResNet
from kls.models.resnext import ResNeXt
from kls.models.wide_resnet import WideResNet

__all__ = [
    "DLA",
    "DenoisingClassifier",
    "DenseNet",
    "DenseNetBC",
    "ResNeXt",
    "ResNet",
    "ResNetV1",
    "ResNetV2",
    "WideResNet",
    "build",
    "classifier_of",
    "names",
    "register",
]
