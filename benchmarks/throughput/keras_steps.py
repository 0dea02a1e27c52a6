"""Training and inference by Keras, as a process that takes turns: `kls` as the studies train it, and stock Keras.

`python -m benchmarks.throughput.keras_steps JSON`, with the settings that `benchmarks.throughput.steps` gives.
"""

import json
import sys
import time

import keras
import numpy as np

import decathlon
from benchmarks.runner.awake import cores_awake
from benchmarks.runner.memory import keep_freed_memory
from benchmarks.runner.networks import build_model, compiled_model, precision_policy
from benchmarks.runner.outputs import evaluation_batches
from benchmarks.runner.train import training_batches
from benchmarks.runner.trial import Trial
from benchmarks.throughput.peers.answering import answer, plan_turn, resident
from kls.feeding import feed
from kls.network import Network
from kls.targets import epsilon_from_gamma

GAMMA = 0.9
WARM_UP_STEPS = 3
HELD_BATCHES = 16
INFERENCE_SHARE = 0.25  # of a turn's seconds


def make_trial(dataset, model, batch_size, precision):
    """Returns the recipe of the trial that is measured.

    Args:
        dataset: The opened `decathlon.Dataset`.
        model: Registered name of the model.
        batch_size: Images per step.
        precision: `float32` or `mixed_bfloat16`.
    """
    return Trial(
        dataset=dataset.name,
        image_size=dataset.size,
        data=dataset.fingerprint,
        model=model,
        gamma=GAMMA,
        schedule=(),
        epochs=1,
        batch_size=batch_size,
        precision=precision,
        backend=keras.backend.backend(),
    )


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


class HeldBatches(keras.utils.PyDataset):
    """The first batches of training batches, made once and then given again and again.

    JAX keeps them on its device; TensorFlow's `fit` takes arrays from this process in any case.

    Args:
        batches: What `training_batches` returns.
        count: How many to hold, at most.
    """

    def __init__(self, batches, count=HELD_BATCHES):
        super().__init__()
        self.epoch = batches.epoch
        self._length = len(batches)
        self._held = [batches.batch(batches.epoch, index) for index in range(min(count, len(batches)))]
        if keras.backend.backend() == "jax":
            self._held = keras.tree.map_structure(keras.ops.convert_to_tensor, self._held)

    @property
    def num_batches(self):
        return self._length

    def __len__(self):
        return self.num_batches

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def batch(self, epoch, index):
        return self._held[index % len(self._held)]


def whole(batches):
    """Returns the images of all batches as one array.

    Args:
        batches: `decathlon.Batches` for evaluation.
    """
    images = np.empty(batches.images.shape, np.float32)
    for index in range(len(batches)):
        start = index * batches.batch_size
        images[start : start + batches.batch_size] = batches[index][0]
    return images


class RunnerForm:
    """A trial as the studies train it.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
        in_memory: Whether batches are made beforehand, so that steps alone are left.
    """

    def __init__(self, trial, dataset, in_memory=False):
        keep_freed_memory()
        batches = training_batches(trial, dataset)
        self.model = compiled_model(trial, dataset, len(batches))
        self.batches = HeldBatches(batches) if in_memory else batches
        self.longest = len(batches)
        self._network = Network(self.model)
        images, labels = dataset.split("train")
        count = self.longest * trial.batch_size
        evaluated = evaluation_batches(trial, dataset, images[:count], labels[:count])
        self._evaluated = whole(evaluated) if in_memory else evaluated
        self._batch_size = trial.batch_size

    def train(self, steps, epochs):
        """Returns the seconds of the steps, and of the call of `fit`."""
        clock = StepClock()
        with cores_awake():
            start = time.perf_counter()
            self.model.fit(
                feed(self.batches, endless=True),
                steps_per_epoch=steps,
                epochs=epochs,
                shuffle=False,
                verbose=0,
                callbacks=[clock],
            )
            return clock.seconds, time.perf_counter() - start

    def infer(self, steps, passes):
        """Returns the seconds of `Network.outputs`, twice: it has none but its steps."""
        with cores_awake():
            start = time.perf_counter()
            for _ in range(passes):
                self._network.outputs(self._first(steps), batch_size=self._batch_size)
            seconds = time.perf_counter() - start
        return seconds, seconds

    def _first(self, steps):
        count = steps * self._batch_size
        if isinstance(self._evaluated, np.ndarray):
            return self._evaluated[:count]
        whole = self._evaluated
        return decathlon.Batches(
            whole.images[:count], whole.labels[:count], whole.classes, whole.batch_size, mean=whole.mean
        )


class StockForm:
    """The same network of Keras's own layers, trained by `fit` with its defaults on arrays.

    Args:
        trial: The `Trial`.
        dataset: The opened `decathlon.Dataset`.
    """

    def __init__(self, trial, dataset):
        self.model = stock_model(build_model(trial, dataset))
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=epsilon_from_gamma(trial.gamma, dataset.classes)
        )
        self.model.compile(keras.optimizers.Adam(trial.learning_rate), loss, metrics=["accuracy"])
        images, labels = dataset.split("train")
        self.longest = len(images) // trial.batch_size
        batches = evaluation_batches(trial, dataset, images, labels)
        self._images = whole(batches)
        self._labels = keras.utils.to_categorical(labels, dataset.classes)
        self._batch_size = trial.batch_size

    def train(self, steps, epochs):
        """Returns the seconds of the steps, and of the call of `fit`."""
        clock = StepClock()
        count = steps * self._batch_size
        start = time.perf_counter()
        self.model.fit(
            self._images[:count],
            self._labels[:count],
            batch_size=self._batch_size,
            epochs=epochs,
            verbose=0,
            callbacks=[clock],
        )
        return clock.seconds, time.perf_counter() - start

    def infer(self, steps, passes):
        """Returns the seconds of the steps, and of the calls of `predict`."""
        clock = StepClock()
        images = self._images[: steps * self._batch_size]
        start = time.perf_counter()
        for _ in range(passes):
            self.model.predict(images, batch_size=self._batch_size, verbose=0, callbacks=[clock])
        return clock.seconds, time.perf_counter() - start


def stock_model(model):
    """Returns a copy of a model, with new weights, of Keras's own layers and L2 penalties alone.

    Raises:
        ValueError: If there is no such layer in place of one of `kls`.
    """

    def stock_layer(layer):
        stock = getattr(keras.layers, type(layer).__name__, None)
        if stock is None or not isinstance(layer, stock):
            raise ValueError(
                "`model` must consist of Keras's layers and of others with the name and arguments of the one that they "
                f"are derived from. Received: a layer of {type(layer)}"
            )
        config = layer.get_config()
        penalties = {name for name in config if name.endswith("_regularizer") and config[name]}
        return stock.from_config(config | {name: stock_penalty(getattr(layer, name)) for name in penalties})

    def stock_penalty(penalty):
        return keras.regularizers.L2(penalty.l2)

    return keras.models.clone_model(model, clone_function=stock_layer)


FORMS = {
    "kls": RunnerForm,
    "kls-arrays": lambda trial, dataset: RunnerForm(trial, dataset, in_memory=True),
    "keras": StockForm,
}


def plan_training(form, seconds):
    """Returns `(steps per epoch, epochs)` of a turn, in whole calls of the steps that Keras takes at once.

    Args:
        form: A `RunnerForm` or `StockForm`.
        seconds: How long the turn lasts at least.
    """
    at_once = form.model.steps_per_execution
    longest = form.longest // at_once
    calls = min(WARM_UP_STEPS, longest)
    warm, _ = form.train(calls * at_once, 1)
    calls, epochs = plan_turn(seconds, warm / calls, longest)
    return calls * at_once, epochs


def prepare(settings):
    """Builds, compiles and warms up a form; returns what it took and the function of its turns.

    Args:
        settings: Dictionary with `form`, `model`, `batch_size`, `precision`, `seconds` and, of the prepared data set,
            `dataset`, `image_size` and `data_dir`.
    """
    dataset = decathlon.open(settings["dataset"], settings["image_size"], settings["data_dir"])
    trial = make_trial(dataset, settings["model"], settings["batch_size"], settings["precision"])
    with precision_policy(trial.precision):
        start = time.perf_counter()
        form = FORMS[settings["form"]](trial, dataset)
        form.train(form.model.steps_per_execution, 1)
        prepare_seconds = time.perf_counter() - start
    form.infer(1, 1)
    training = plan_training(form, settings["seconds"])
    steps = min(WARM_UP_STEPS, form.longest)
    inference = plan_turn(INFERENCE_SHARE * settings["seconds"], form.infer(steps, 1)[0] / steps, form.longest)

    def turn():
        trained, trained_call = form.train(*training)
        inferred, inferred_call = form.infer(*inference)
        images, inferred_images = (steps * passes * trial.batch_size for steps, passes in (training, inference))
        return {
            "training": images / trained,
            "training_call": images / trained_call,
            "inference": inferred_images / inferred,
            "inference_call": inferred_images / inferred_call,
            "memory": resident("VmHWM"),
        }

    return {"prepare_seconds": prepare_seconds}, turn


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    answer(lambda: prepare(settings))
