"""Networks of a user's own whose weights before the last layer are the same in each build, as pretrained ones are."""

import keras
import numpy as np
from keras import layers

from kls.study.methods import CrossEntropy, LabelSmoothing

FEATURES = 6
METHODS = (CrossEntropy(), LabelSmoothing(0.9))


def pretrain(model):
    """Gives all weights of a model values that no seed decides, variances positive ones, and returns it."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        is_norm = isinstance(layer, layers.BatchNormalization)
        draw = (lambda shape: rng.uniform(0.2, 0.8, shape)) if is_norm else (lambda shape: rng.normal(0, 0.5, shape))
        layer.set_weights([draw(value.shape) for value in layer.get_weights()])
    return model


def backbone(input_shape):
    inputs = keras.Input(input_shape)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(FEATURES, 3, strides=2, name="conv")(inputs))
    pool = layers.GlobalAveragePooling2D(name="pool")
    return pretrain(keras.Model(inputs, pool(layers.ReLU(name="relu")(x)), name="backbone"))


def flat(input_shape, classes):
    base = backbone(input_shape)
    return keras.Model(base.inputs[0], layers.Dense(classes)(layers.Dropout(0.25)(base.outputs[0])))


def nested(input_shape, classes):
    """As Keras's guide to transfer learning has it, with a frozen base."""
    inputs = keras.Input(input_shape)
    base = backbone(input_shape)
    base.trainable = False
    return keras.Model(inputs, layers.Dense(classes)(layers.Dropout(0.25)(base(inputs, training=False))))


def sequential(input_shape, classes):
    last = [layers.Dropout(0.25), layers.Dense(classes, activation="softmax")]
    return keras.Sequential([layers.Input(input_shape), backbone(input_shape), *last])


def convolution(input_shape, classes):
    """Ends in a 1x1 convolution, and softmax."""
    base = backbone(input_shape)
    x = layers.Conv2D(classes, 1)(base.get_layer("relu").output)
    return keras.Model(base.inputs[0], layers.Softmax()(layers.GlobalAveragePooling2D()(x)))


def without_dropout(input_shape, classes):
    base = backbone(input_shape)
    return keras.Model(base.inputs[0], layers.Dense(classes)(base.outputs[0]))


def with_a_layer_called_head(input_shape, classes):
    base = backbone(input_shape)
    hidden = layers.Dense(4, kernel_initializer="ones", name="head")
    return keras.Model(base.inputs[0], layers.Dense(classes)(hidden(base.outputs[0])))


def of_vectors(input_shape, classes):
    inputs = keras.Input(input_shape)
    base = pretrain(keras.Model(inputs, layers.Dense(5, activation="relu")(inputs)))
    return keras.Model(inputs, layers.Dense(classes)(base.outputs[0]))


def images(count, shape=(8, 8, 1), classes=3, seed=0):
    """Returns images and labels of classes that differ in how bright they are."""
    labels = np.arange(count) % classes
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 100, (count, *shape)) + 60 * labels[:, None, None, None]).astype(np.uint8), labels


DATA = (images(48), images(21, seed=1))
