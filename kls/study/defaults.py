"""What a study takes where it is not told: the network, the number of epochs and the size of a batch."""

import math

import keras

import kls
from kls.study.backbones import cached
from kls.study.methods import CrossEntropy, LabelSmoothing
from kls.study.plan import EPOCHS, LEARNING_RATE
from kls.study.report.caveats import FEW_STEPS
from kls.study.trial import HEAD

METHODS = (CrossEntropy(), *map(LabelSmoothing, (0.95, 0.9, 0.8)))
SEEDS = 3
PRETRAINED = "keras.applications.EfficientNetV2B0"
SIDE = 32  # pixels, of the images that a small network works on
MANY_IMAGES = 10_000
MOST_EPOCHS, BATCH_SIZE = 100, 64


def pretrained_model():
    """Returns the name of a pretrained network whose weights are there, or `None`."""
    return PRETRAINED if cached(PRETRAINED) else None


def small_model(images):
    """Returns the function that builds a small network, which fits a number of training images."""
    return resnet8v1_at_32 if images < MANY_IMAGES else resnet20v1_at_32


def resnet8v1_at_32(input_shape, classes):
    """Returns a ResNet v1-8 that looks at larger images at 32 pixels."""
    return _shrinking("resnet8v1", input_shape, classes)


def resnet20v1_at_32(input_shape, classes):
    """Returns a ResNet v1-20 that looks at larger images at 32 pixels."""
    return _shrinking("resnet20v1", input_shape, classes)


def _shrinking(name, input_shape, classes):
    images = inputs = keras.Input(input_shape)
    height, width, channels = input_shape
    factor = SIDE / min(height, width)
    if factor < 1:
        height, width = round(factor * height), round(factor * width)
        shrinking = keras.layers.Resizing(height, width, antialias=True)
        images = shrinking(inputs, training=False)  # its default, True, would be that of the layers after it
    network = kls.models.build(name, (height, width, channels), classes, classifier_activation=None)
    return keras.Model(inputs, network.call(images))


def batch_size_of(images):
    """Returns the size of a batch for a number of training images."""
    return min(BATCH_SIZE, images)


def epochs_of(images, batch_size):
    """Returns the number of epochs for a number of training images: more than usual where these would be few steps."""
    enough = math.ceil(FEW_STEPS / max(1, images // batch_size))
    return min(max(EPOCHS, enough), MOST_EPOCHS)


def learning_rate_of(fine_tune):
    """Returns the first learning rate: a lower one where pretrained weights of a backbone are trained on."""
    return LEARNING_RATE if fine_tune in (None, HEAD) else LEARNING_RATE / 10
