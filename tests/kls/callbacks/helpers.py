"""What the tests of the callbacks share: data, a small classifier, how it is trained, and what they should log."""

import collections

import keras
import numpy as np

import kls
from kls.ood import scores

TENSORFLOW = keras.backend.backend() == "tensorflow"
X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
FAR = 3 * np.random.default_rng(1).normal(size=(40, 6)).astype("float32")
NEAR = np.random.default_rng(2).normal(size=(30, 6)).astype("float32") + 0.5
NAMES = ("val_ece", "val_nll", "val_brier", "val_uce")


def quick(*arrays):
    """Arrays in the form that the backend's `fit` takes without a wait: see `kls.utils.data.feed`."""
    if not TENSORFLOW:
        return arrays
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return tf.data.Dataset.from_tensor_slices(arrays).batch(16).with_options(options)


def train(network, callbacks, epochs=2, validation_data=None, **options):
    """Returns the history of a fit of `X` and `Y`."""
    data = quick(X, Y)
    data, batch_size = ({"x": data}, {}) if TENSORFLOW else ({"x": data[0], "y": data[1]}, {"batch_size": 16})
    return network.fit(
        **data,
        **batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=validation_data,
        callbacks=callbacks,
        **options,
    ).history


def compiled(layers=()):
    """A small classifier that returns logits; equal weights each time."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(5, activation="relu", name="hidden"),
        *layers,
        keras.layers.Dense(4, activation="relu"),
        keras.layers.Dense(2),
    ]
    network = keras.Sequential(layers)
    network.compile(keras.optimizers.SGD(0.2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


def predicted(network, images):
    return network.predict(quick(images) if TENSORFLOW else images, verbose=0)


def state(network):
    return [np.array(v) for v in [*network.variables, *network.optimizer.variables]]


class Counting(keras.utils.PyDataset):
    """Batches of arrays that count how often each is read."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays, self.reads = arrays, collections.Counter()

    def __len__(self):
        return -(-len(self.arrays[0]) // 24)

    def __getitem__(self, index):
        self.reads[index] += 1
        return tuple(array[24 * index : 24 * (index + 1)] for array in self.arrays)


class Predictions(keras.callbacks.Callback):
    """Keeps what the model predicts at each epoch's end."""

    def __init__(self, **data):
        super().__init__()
        self.data, self.found = data, []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append({name: predicted(self.model, images) for name, images in self.data.items()})


def calibration_of(logits):
    found = kls.calibration.summarize(Y, logits, from_logits=True)
    return {name: found[name.removeprefix("val_")] for name in NAMES}


def detection_of(logits, ood_data, score=scores.msp):
    return kls.ood.auroc(score(logits), score(ood_data)), kls.ood.fpr_at_tpr(score(logits), score(ood_data))


def separated(network, data, ood_data=FAR, score="msp"):
    """AUROC of a trained network."""
    function = scores.get(score)
    return kls.ood.auroc(function(network, data), function(network, ood_data))
