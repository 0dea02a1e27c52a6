"""Trains the heads of several trials at once: one pass over the features that they share, one matrix product.

Heads of one seed see the same features in the same order under the same dropout, and differ in their losses alone. They
stand side by side in slots, whose number is fixed: a head ends with the same bits, whichever others stand beside it.
"""

import random
from dataclasses import replace

import keras
import numpy as np

from kls.study.devices import precision_policy
from kls.study.methods import LabelSmoothing, Method
from kls.study.networks import TrainingError, build_network, decay_weights, learning_rate
from kls.study.outputs import write_outputs
from kls.study.reuse import reset_optimizer
from kls.study.train import Stopwatch, rate_callbacks, record_of
from kls.study.trial import OPTIMIZERS
from kls.utils.data import feed
from kls.utils.feature_extractor import Network

MOST_SLOTS, MOST_OUTPUTS = 10, 1000
LOGGED = ("loss", "accuracy")
BESIDE_ITS_LOSS = ("batches", "validation", "model", "network", "callbacks", "trained_on", "parents")

_last = None  # the stack of the last trials, kept in this process for the next ones that differ in their seed alone


def groups_of(trials, classes):
    """Returns trials in groups, each a tuple: heads that can be trained at once, and every other trial alone.

    Args:
        trials: `Trial`s, those that others start from before these.
        classes: `{name of a dataset: number of its classes}`.
    """
    groups = {}
    for trial in trials:
        key = _shared(trial) if trains_together(trial) else trial
        groups.setdefault(key, []).append(trial)
    found = []
    for members in groups.values():
        slots = slots_of(classes[members[0].dataset])
        found += [tuple(members[start : start + slots]) for start in range(0, len(members), slots)]
    return found


def trains_together(trial):
    """Whether a trial trains a head that can differ from others in its loss alone."""
    method = trial.method
    asks_for_more = any(getattr(type(method), name) is not getattr(Method, name) for name in BESIDE_ITS_LOSS)
    return trial.of_features and not (asks_for_more or method.dropout or trial.compile)


def _shared(trial):
    """Returns what heads have in common that are trained at once."""
    return replace(trial, method=LabelSmoothing(1.0))


def slots_of(classes):
    """Returns how many heads are trained at once."""
    return max(1, min(MOST_SLOTS, MOST_OUTPUTS // classes))


def train_heads(trainings, wanted, callbacks=()):
    """Trains the heads of a group of trials and stores their histories, weights and logits.

    Args:
        trainings: The `Training`s of a group, as `groups_of` makes them.
        wanted: What to store, as `Wanted`.
        callbacks: Further Keras callbacks, for progress.

    Returns:
        What came of each: the metrics for `RunStore.finish`, or the `TrainingError` of one that failed.
    """
    global _last
    first = trainings[0]
    trial, dataset = first.trial, first.dataset
    for training in trainings:
        training.store.begin(training.trial)
    batches = first.batches()
    evaluation = first.evaluation_batches(*dataset.split(dataset.evaluation))
    stopwatch = Stopwatch(len(batches) * trial.batch_size * len(trainings))
    with precision_policy(trial.precision):
        stack, _last = _last, None
        if stack is None or not stack.fits(trainings):
            stack = Stack(trainings, len(batches))
        stack.begin(trainings)
        fitted = stack.model.fit(
            feed(batches, endless=True),
            steps_per_epoch=len(batches),
            epochs=trial.epochs,
            validation_data=feed(evaluation),
            shuffle=False,
            verbose=0,
            callbacks=[*rate_callbacks(trial), stopwatch, *callbacks],
        )
        found = []
        for slot, training in enumerate(trainings):
            history = _of_slot(fitted.history, slot)
            if not np.isfinite([logs["loss"] for logs in history]).all():
                found.append(TrainingError("loss became NaN or infinite"))
                continue
            head = stack.head(slot)
            outputs = write_outputs(head, training.trial, dataset, training.store, wanted)
            record = record_of(training, history, head.model, outputs, evaluation, stopwatch)
            found.append(record | {"seconds": round(stopwatch.seconds / len(trainings), 2)})
    _last = stack
    return found


class Slots(keras.layers.Layer):
    """Last layers side by side, whose logits come from one matrix product.

    Args:
        slots: How many there are.
        used: Of how many the logits are returned, of shape `(N, used, K)`.
        classes: Number of classes K.
    """

    def __init__(self, slots, used, classes):
        super().__init__(dtype="float32")
        self.slots, self.used, self.classes = slots, used, classes

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.slots * self.classes), initializer="zeros")
        self.bias = self.add_weight(shape=(self.slots * self.classes,), initializer="zeros")

    def call(self, features):
        logits = keras.ops.matmul(features, self.kernel) + self.bias
        return keras.ops.reshape(logits, (-1, self.slots, self.classes))[:, : self.used]

    def _columns(self, slot):
        return slice(slot * self.classes, (slot + 1) * self.classes)

    def assign(self, layers):
        """Gives each slot the kernel and the bias of a last layer; those that are not used stay zero."""
        unused = np.zeros((self.kernel.shape[0] + 1, (self.slots - len(layers)) * self.classes), np.float32)
        values = [np.vstack(layer.get_weights()) for layer in layers]
        kernel, bias = np.split(np.hstack([*values, unused]), [-1])
        self.kernel.assign(kernel)
        self.bias.assign(bias[0])

    def of(self, slot):
        """Returns the kernel and the bias of a slot, as arrays."""
        columns = self._columns(slot)
        return [keras.ops.convert_to_numpy(weight)[..., columns] for weight in (self.kernel, self.bias)]


class Stack:
    """The compiled model of a group of heads.

    Args:
        trainings: Their `Training`s.
        steps_per_epoch: Training steps per epoch.
    """

    def __init__(self, trainings, steps_per_epoch):
        self._key = _key_of(trainings)
        first = trainings[0]
        trial, dataset = first.trial, first.dataset
        network = self._new_head(first)
        *self._dropouts, _ = network.layers[1:]
        self._slots = Slots(slots_of(dataset.classes), len(trainings), dataset.classes)
        features = dropped = keras.Input(dataset.image_shape)
        for dropout in self._dropouts:
            dropped = dropout(dropped)
        self.model = keras.Model(features, self._slots(dropped))
        decay_weights(self.model, trial.weight_decay)
        for training in trainings:
            training.from_logits = True
        losses = [training.trial.method.loss(training) for training in trainings]
        self.model.compile(
            OPTIMIZERS[trial.optimizer](learning_rate(trial, steps_per_epoch)),
            loss=lambda labels, logits: keras.ops.sum(each_loss(losses, labels, logits)),
            metrics=[OfEachSlot(losses)],
            steps_per_execution=steps_per_epoch if keras.backend.backend() == "tensorflow" else 1,
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self._head = Network(network)

    def _new_head(self, training):
        """Returns a head as it begins under a trial's seed. Keras draws from Python's generator."""
        random.seed(training.trial.seed)
        own = training.own_models[training.trial.model]
        network, _ = build_network(training.trial, training.dataset, own)
        return network

    def fits(self, trainings):
        """Whether these trials can be trained with it: they differ from its own in their seed alone."""
        return self._key == _key_of(trainings)

    def begin(self, trainings):
        """Makes the model what it would be if it had just been built for trials that it fits."""
        heads = [self._new_head(training) for training in trainings]
        self._slots.assign([head.layers[-1] for head in heads])
        for dropout, drawn in zip(self._dropouts, heads[0].layers[1:-1], strict=True):
            dropout.seed_generator.state.assign(drawn.seed_generator.state)
        reset_optimizer(self.model.optimizer, trainings[0].trial)

    def head(self, slot):
        """Returns the head of a slot, taken apart for its outputs: the same object with other weights each time."""
        self._head.model.layers[-1].set_weights(self._slots.of(slot))
        return self._head


def each_loss(losses, labels, logits):
    """Returns the loss of each slot, shape `(S,)`, of logits of shape `(N, S, K)`."""
    return keras.ops.stack([loss(labels, logits[:, slot]) for slot, loss in enumerate(losses)])


class OfEachSlot(keras.metrics.Metric):
    """Mean loss and accuracy of each slot: `{"loss0": ..., "accuracy0": ..., "loss1": ...}`.

    Args:
        losses: The loss of each slot.
    """

    def __init__(self, losses):
        super().__init__(name="of_each_slot")
        self.losses = losses
        self.sums = self.add_variable((2, len(losses)), "zeros", name="sums")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        count = keras.ops.cast(keras.ops.shape(y_pred)[0], self.dtype)
        hits = keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), y_true.dtype) == y_true[:, None]
        losses = count * each_loss(self.losses, y_true, y_pred)
        self.sums.assign_add(keras.ops.stack([losses, keras.ops.sum(keras.ops.cast(hits, self.dtype), axis=0)]))
        self.count.assign_add(count)

    def result(self):
        means = self.sums / self.count
        slots = range(len(self.losses))
        return {f"{name}{slot}": means[row, slot] for row, name in enumerate(LOGGED) for slot in slots}


def _of_slot(history, slot):
    """Returns the logs of a slot, a dictionary per epoch, of Keras's history."""
    columns = {name: history[f"{name}{slot}"] for name in (*LOGGED, *(f"val_{name}" for name in LOGGED))}
    return [dict(zip(columns, logs, strict=True)) for logs in zip(*columns.values(), strict=True)]


def _key_of(trainings):
    return [(_shared(replace(training.trial, seed=0)), training.trial.method) for training in trainings]
