"""Training and inference by Keras, as a worker: `kls` as the studies train it, and stock Keras.

`python -m benchmarks.throughput.keras_steps JSON`, with the settings that `benchmarks.throughput.steps` gives.
"""

import json
import math
import sys
import time
from pathlib import Path

import keras
import numpy as np

import decathlon.store
import kls
from benchmarks.throughput.peers.answering import answer, prepare
from kls.study.methods import LabelSmoothing
from kls.study.train import compiled_model
from kls.study.training import Training
from kls.study.trial import Trial
from kls.targets import epsilon_from_gamma
from kls.utils.data import feed
from kls.utils.feature_extractor import Network

GAMMA = 0.9


def as_a_study(dataset, network, batch_size):
    """Returns the `Training` of a study of label smoothing.

    Args:
        dataset: The opened `decathlon.Dataset`.
        network: Registered name of the network.
        batch_size: Images per step.
    """
    trial = Trial(
        dataset=dataset.name,
        image_size=dataset.size,
        data=dataset.fingerprint,
        model=network,
        method=LabelSmoothing(GAMMA),
        epochs=1,
        batch_size=batch_size,
    )
    return Training(trial, dataset, None, {})


class StepClock(keras.callbacks.Callback):
    """Sums the seconds from the first step's begin to the last one's end of each epoch, or of a prediction.

    On another backend than TensorFlow a step may only have begun when Keras says that it has ended; the last one's
    results are waited for.
    """

    async_safe = True

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        self._moments = []
        self._results = None

    def on_train_batch_begin(self, batch, logs=None):
        self._moments.append(time.perf_counter())
        self._results = logs or self._results

    on_train_batch_end = on_predict_batch_begin = on_predict_batch_end = on_train_batch_begin

    def on_epoch_end(self, epoch, logs=None):
        if keras.backend.backend() != "tensorflow":
            keras.tree.map_structure(keras.ops.convert_to_numpy, self._results)
            self._moments.append(time.perf_counter())
        self.seconds += max(self._moments) - min(self._moments)  # Keras calls from several threads
        self._moments.clear()

    def on_predict_end(self, logs=None):
        self.on_epoch_end(0)


def seconds_of_steps(call, *args, **kwargs):
    """Returns the seconds of the steps within a call of `fit` or `predict`."""
    clock = StepClock()
    call(*args, verbose=0, callbacks=[clock], **kwargs)
    return clock.seconds


class Form:
    """A network with its data; `fit` and `predict` of the subclasses return the seconds of so many steps.

    Args:
        training: The `Training` of a study.
    """

    def __init__(self, training):
        self.training = training
        self.batches = training.batches()
        self.batch_size = training.trial.batch_size

    def train(self, steps):
        """Returns the seconds of a training step, the mean of so many, or of some more."""
        per_epoch, epochs = in_epochs(steps, self.model.steps_per_execution, len(self.batches))
        return self.fit(per_epoch, epochs) / (per_epoch * epochs)

    def infer(self, steps):
        """Returns the seconds of a forward pass, the mean of so many, or of all that there are images for."""
        steps = min(steps, len(self.batches))
        return self.predict(steps) / steps


class StudyForm(Form):
    """A network as the studies train it."""

    def __init__(self, training):
        super().__init__(training)
        self.model = compiled_model(training, len(self.batches))
        self._network = Network(self.model)

    def fit(self, steps, epochs):
        batches = feed(self.batches, endless=True)
        return seconds_of_steps(self.model.fit, batches, steps_per_epoch=steps, epochs=epochs, shuffle=False)

    def predict(self, steps):
        start = time.perf_counter()
        samples = slice(steps * self.batch_size)
        images, labels = self.training.images[samples], self.training.labels[samples]
        self._network.outputs(self.training.evaluation_batches(images, labels))
        return time.perf_counter() - start


class StockForm(Form):
    """The same network of Keras's own layers, trained by `fit` with its defaults on arrays."""

    def __init__(self, training):
        super().__init__(training)
        self.model = stock_model(training.network())
        classes = training.dataset.classes
        self._images = training.images.astype(np.float32)
        self._labels = keras.utils.to_categorical(training.labels, classes)
        smoothing = epsilon_from_gamma(GAMMA, classes)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        self.model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])

    def fit(self, steps, epochs):
        samples = slice(steps * self.batch_size)
        data = self._images[samples], self._labels[samples]
        return seconds_of_steps(self.model.fit, *data, batch_size=self.batch_size, epochs=epochs)

    def predict(self, steps):
        images = self._images[: steps * self.batch_size]
        return seconds_of_steps(self.model.predict, images, batch_size=self.batch_size)


def in_epochs(steps, at_once, longest):
    """Returns `(steps per epoch, epochs)` of so many steps or some more, in whole calls of Keras's train function.

    Args:
        steps: The least number of steps.
        at_once: Steps per call.
        longest: The most steps of an epoch, which `at_once` divides.

    Example:

    >>> in_epochs(20, at_once=8, longest=16)
    (16, 2)
    """
    calls, most = math.ceil(steps / at_once), longest // at_once
    return min(calls, most) * at_once, math.ceil(calls / most)


def stock_model(model):
    """Returns a copy of a model that is not compiled, with new weights, of Keras's own layers alone.

    Raises:
        ValueError: If there is no such layer in place of one of `kls`.
    """

    def stock_layer(layer):
        if not isinstance(layer, keras.layers.Layer):  # an operation
            return layer
        if isinstance(layer, kls.layers.Pixels):
            return keras.layers.Rescaling(1 / 255)
        stock = getattr(keras.layers, type(layer).__name__, None)
        if stock is None or not isinstance(layer, stock):
            raise ValueError(
                "`model` must consist of Keras's layers and of others with the name and arguments of the one that they "
                f"are derived from. Received: a layer of {type(layer)}"
            )
        return stock.from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=stock_layer)


FORMS = {"kls": StudyForm, "keras": StockForm}


def build(settings):
    """Returns the form of the settings that `benchmarks.throughput.steps` gives."""
    dataset = decathlon.store.load(Path(settings["arrays"]))
    return FORMS[settings["form"]](as_a_study(dataset, settings["network"], settings["batch_size"]))


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    keras.config.set_dtype_policy(settings["precision"])
    answer(lambda: prepare(lambda: build(settings), settings))
