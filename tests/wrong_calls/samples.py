"""Small data and models that valid calls are made of; a model is made once."""

import tempfile
from functools import cache
from pathlib import Path

import keras
import numpy as np

import decathlon
from decathlon.sources import Example, Source
from kls.ood import scores

LABELS = [0, 1, 2, 1]
PROBABILITIES = [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]
LOGITS = [[2.0, 0.5, -1.0], [0.0, 1.5, 1.0], [-1.0, -2.0, 3.0], [0.5, 0.0, 1.0]]
TEACHERS = [[1.0, 0.0, -1.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 2.0], [0.5, 1.0, 0.0]]
ID_SCORES = [3.0, 2.0, 2.5, 1.5]
OOD_SCORES = [1.0, 2.0, 0.0]
LABELS_ARRAY = np.array(LABELS)
IMAGES = np.random.default_rng(0).random((4, 4, 4, 1), np.float32)
BYTES = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 1), np.uint8)
BYTE_LABELS = np.array([0, 1, 2, 0, 1, 2])


@cache
def classifier(classes=3, activation="softmax", side=4):
    """A functional classifier of images of shape `(side, side, 1)`, whose weights are always the same."""
    normal = keras.initializers.RandomNormal(stddev=0.5, seed=0)
    inputs = keras.Input((side, side, 1))
    flat = keras.layers.Flatten()(inputs)
    hidden = keras.layers.Dense(5, "softplus", kernel_initializer=normal, name="hidden")(flat)
    return keras.Model(inputs, keras.layers.Dense(classes, activation, kernel_initializer=normal)(hidden))


@cache
def compiled():
    model = keras.models.clone_model(classifier())
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@cache
def two_headed():
    inputs = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, [keras.layers.Dense(3)(flat), keras.layers.Dense(3)(flat)])


@cache
def autoencoder():
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same", name="image")(inputs))


@cache
def fitted_knn():
    return scores.KNN(k=1).fit(classifier(), IMAGES)


def batches(**options):
    return decathlon.Batches(BYTES, BYTE_LABELS, **({"classes": 3, "batch_size": 2, "training": True} | options))


@cache
def digits():
    """The bundled digits, prepared in a directory of their own."""
    return decathlon.open("digits", data_dir=directory())


def directory():
    """A new directory below the current one, which is the test's own."""
    return Path(tempfile.mkdtemp(dir=Path.cwd()))


def source():
    """Two splits of four byte images."""

    def read(split):
        for index, image in enumerate(BYTES[:4]):
            yield Example(f"{split}[{index}]", image, index % 2)

    return Source("made for a test", ["even", "odd"], 1, {"train": 4, "validation": 4}, "validation", read)


def file(name, write):
    """A new file that `write` fills."""
    path = directory() / name
    write(path)
    return path


def npz(**changed):
    arrays = {"x_train": BYTES, "y_train": BYTE_LABELS, "x_test": BYTES, "y_test": BYTE_LABELS} | changed
    return file("set.npz", lambda path: np.savez(path, **{k: v for k, v in arrays.items() if v is not None}))


def folder(classes=("cat", "dog"), images=2):
    """A folder of PNG images, `images` of each class."""
    from PIL import Image

    root = directory()
    for name in classes:
        (root / name).mkdir()
        for index in range(images):
            Image.fromarray(BYTES[index, ..., 0]).save(root / name / f"{index}.png")
    return root
