"""Training and inference by Keras, as a worker: `kls` as the studies train it, and stock Keras.

`python -m benchmarks.throughput.keras_steps JSON`, with the settings that `benchmarks.throughput.steps` gives.
"""

import json
import sys
import time

import keras
import numpy as np

import decathlon
import kls
from benchmarks.throughput.peers.answering import answer, plan_round, resident
from kls.study.methods import LabelSmoothing
from kls.study.train import compiled_model
from kls.study.training import Training
from kls.study.trial import Trial
from kls.targets import epsilon_from_gamma
from kls.utils.data import feed
from kls.utils.feature_extractor import Network

GAMMA = 0.9
WARM_UP_STEPS = 3


def as_a_study(dataset, network, batch_size, precision):
    """Returns what a study trains and predicts with; nothing else here knows `kls.study`.

    Args:
        dataset: The opened `decathlon.Dataset`.
        network: Registered name of the network.
        batch_size: Images per step.
        precision: `float32` or `mixed_bfloat16`; the dtype policy must be set to it.

    Returns:
        The compiled network, its training batches, and a function from a number of training images to the batches
        that they are evaluated in.
    """
    trial = Trial(
        dataset=dataset.name,
        image_size=dataset.size,
        data=dataset.fingerprint,
        model=network,
        method=LabelSmoothing(GAMMA),
        epochs=1,
        batch_size=batch_size,
        precision=precision,
        backend=keras.backend.backend(),
    )
    training = Training(trial, dataset, None, {})
    batches = training.batches()
    images, labels = dataset.split("train")

    def evaluated(count):
        return training.evaluation_batches(images[:count], labels[:count])

    return compiled_model(training, len(batches)), batches, evaluated


class StepClock(keras.callbacks.Callback):
    """Sums the seconds from the first step's begin to the last one's end of each epoch, or of a prediction.

    On another backend than TensorFlow a step may only have begun when Keras says that it has ended; the last one's
    results are waited for.
    """

    async_safe = True

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        self._first = self._last = self._results = None

    def on_train_batch_begin(self, batch, logs=None):
        if self._first is None:
            self._first = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        self._last = now if self._last is None else max(self._last, now)  # Keras calls from several threads
        self._results = logs

    def on_epoch_end(self, epoch, logs=None):
        if keras.backend.backend() != "tensorflow":
            keras.tree.map_structure(keras.ops.convert_to_numpy, self._results)
            self._last = time.perf_counter()
        self.seconds += self._last - self._first
        self._first = self._last = None

    def on_predict_end(self, logs=None):
        self.on_epoch_end(0)

    on_predict_batch_begin = on_train_batch_begin
    on_predict_batch_end = on_train_batch_end


def seconds_of_steps(call, *args, **kwargs):
    """Returns the seconds of the steps within a call of `fit` or `predict`."""
    clock = StepClock()
    call(*args, verbose=0, callbacks=[clock], **kwargs)
    return clock.seconds


class StudyForm:
    """A network as the studies train it; the arguments are what `as_a_study` returns."""

    def __init__(self, model, batches, evaluated):
        self.model = model
        self.longest = len(batches)
        self._batches = batches
        self._evaluated = evaluated
        self._network = Network(model)

    def train(self, steps, epochs):
        """Returns the seconds of so many steps in each of so many epochs."""
        batches = feed(self._batches, endless=True)
        return seconds_of_steps(self.model.fit, batches, steps_per_epoch=steps, epochs=epochs, shuffle=False)

    def infer(self, steps):
        """Returns the seconds of so many forward passes."""
        start = time.perf_counter()
        self._network.outputs(self._evaluated(steps * self._batches.batch_size))
        return time.perf_counter() - start


class StockForm:
    """The same network of Keras's own layers, trained by `fit` with its defaults on arrays."""

    def __init__(self, model, batches, evaluated):
        self.model = stock_model(model)
        self.longest = len(batches)
        self._batch_size = batches.batch_size
        held = evaluated(self.longest * self._batch_size)
        self._images = np.empty(held.images.shape, np.float32)
        for index in range(len(held)):
            self._images[index * self._batch_size : (index + 1) * self._batch_size] = held[index][0]
        self._labels = keras.utils.to_categorical(held.labels, held.classes)
        smoothing = epsilon_from_gamma(GAMMA, held.classes)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
        self.model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])

    def train(self, steps, epochs):
        """Returns the seconds of so many steps in each of so many epochs."""
        count = steps * self._batch_size
        data = self._images[:count], self._labels[:count]
        return seconds_of_steps(self.model.fit, *data, batch_size=self._batch_size, epochs=epochs)

    def infer(self, steps):
        """Returns the seconds of so many forward passes."""
        images = self._images[: steps * self._batch_size]
        return seconds_of_steps(self.model.predict, images, batch_size=self._batch_size)


def stock_model(model):
    """Returns a copy of a model, with new weights, of Keras's own layers alone.

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

    uncompiled = keras.Model(model.input, model.output, name=model.name)  # else its loss is cloned too
    return keras.models.clone_model(uncompiled, clone_function=stock_layer)


FORMS = {"kls": StudyForm, "keras": StockForm}


def plan_training(form, seconds):
    """Returns `(steps per epoch, epochs)` of a round that lasts `seconds`, in whole calls of Keras's train function."""
    at_once = form.model.steps_per_execution
    longest = form.longest // at_once
    calls = min(WARM_UP_STEPS, longest)
    calls, epochs = plan_round(seconds, form.train(calls * at_once, 1) / calls, longest)
    return calls * at_once, epochs


def prepare(settings):
    """Builds, compiles and warms up a form; returns what it took and the function of its rounds.

    Args:
        settings: Dictionary with `form`, `network`, `batch_size`, `precision`, `seconds`, `inference_seconds` and, of
            the prepared data set, `dataset`, `image_size` and `data_dir`.
    """
    dataset = decathlon.open(settings["dataset"], settings["image_size"], settings["data_dir"])
    batch_size = settings["batch_size"]
    start = time.perf_counter()
    form = FORMS[settings["form"]](*as_a_study(dataset, settings["network"], batch_size, settings["precision"]))
    form.train(form.model.steps_per_execution, 1)
    prepare_seconds = time.perf_counter() - start
    form.infer(1)
    steps, epochs = plan_training(form, settings["seconds"])
    warm_up = min(WARM_UP_STEPS, form.longest)
    inferred, _ = plan_round(settings["inference_seconds"], form.infer(warm_up) / warm_up, form.longest)

    def one_round():
        return {
            "training": steps * epochs * batch_size / form.train(steps, epochs),
            "inference": inferred * batch_size / form.infer(inferred),
            "memory": resident("VmHWM"),
        }

    return {"prepare_seconds": prepare_seconds}, one_round


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    keras.config.set_dtype_policy(settings["precision"])
    answer(lambda: prepare(settings))
