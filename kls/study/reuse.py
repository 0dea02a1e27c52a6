"""The compiled model of the last trial, kept in this process for the next one that can train with it.

Tracing and compiling a deep network takes longer than many an epoch. Trials that differ in their seeds, in augmentation
or in what their methods do not compile share it, and end with the bits that they would have in a process of their own.
"""

import random
from dataclasses import replace
from functools import cached_property

import numpy as np
from keras import ops

from kls.study.networks import taken_apart

INITIAL_BYTES = 2**28  # how much of the initial values of further seeds is kept
FREE = {"seed": 0, "shift": 0.0, "flip": False, "fill": "zero", "head": None}
FREE_BUT_IN_COSINE = {"learning_rate": 1.0, "schedule": ()}  # a cosine is compiled into the step

_last = None


class CompiledModel:
    """What a trial trains, with what is compiled beside it.

    Args:
        model: A compiled Keras model that has not been trained.
        trial: The `Trial` that it was built for.
        strategy: `"none"` or `"mirrored"`.

    Attributes:
        key: What trials have in common that can be trained with it, as in `key_of`.
    """

    def __init__(self, model, trial, strategy):
        self.model = model
        self.trial = trial
        self.key = key_of(trial, strategy)
        self._initial = {_start_of(trial): _values(model)} if self.key else {}

    @cached_property
    def network(self):
        """The network that is trained, taken apart for its outputs."""
        return taken_apart(self.trial.method.network(self.model))

    def begin(self, training):
        """Makes the model what it would be if it had just been built and compiled for a trial.

        Args:
            training: The `Training` of a trial of the same key.
        """
        trial = training.trial
        for variable, value in zip(self.model.variables, self._initial_values(training), strict=True):
            variable.assign(value)
        reset_optimizer(self.model.optimizer, trial)
        trial.method.begin(self.model.loss)

    def _initial_values(self, training):
        """Returns the values that all variables of the model have when it is built under a trial's seed.

        Keras draws from Python's generator alone. `keras.utils.set_random_seed` would seed TensorFlow's own too, which
        then forgets what it has made of every compiled function, so that the next step takes seconds.
        """
        start = _start_of(training.trial)
        if start not in self._initial:
            random.seed(training.trial.seed)
            self._initial[start] = _values(training.initial_network())
            while len(self._initial) > 1 and _bytes(self._initial) > INITIAL_BYTES:
                del self._initial[next(iter(self._initial))]
        return self._initial[start]


def reset_optimizer(optimizer, trial):
    """Makes an optimizer what it was before it took a step of a trial.

    Args:
        optimizer: A built Keras optimizer.
        trial: The `Trial` that is trained next.
    """
    for variable in optimizer.variables:  # steps so far and moments
        variable.assign(np.zeros(variable.shape, variable.dtype))
    if trial.schedule != "cosine":
        optimizer.learning_rate = trial.learning_rate


def _start_of(trial):
    """Returns what decides the values that a trial's network begins with."""
    return trial.seed, trial.head


def key_of(trial, strategy):
    """Returns what trials must have in common to be trained with the same compiled model.

    Args:
        trial: A `Trial`.
        strategy: `"none"` or `"mirrored"`.

    Returns:
        The trial with fixed values of all that is not compiled in; `None` if its model is for it alone.
    """
    method = trial.method.compiled()
    if method is None or trial.compile is not None or strategy != "none":
        return None
    free = FREE if trial.schedule == "cosine" else FREE | FREE_BUT_IN_COSINE
    if trial.architecture is not None and trial.fine_tune is None:  # it may draw from other generators than Keras does
        free = {name: value for name, value in free.items() if name != "seed"}
    return replace(trial, method=method, **free)


def take(trial, strategy):
    """Returns the `CompiledModel` that was kept if a trial can be trained with it, else `None`.

    Either way nothing is kept any longer: the model of a trial that fails does not come back, and that of another
    network makes room for the next.
    """
    global _last
    found, _last = _last, None
    return found if found is not None and found.key == key_of(trial, strategy) else None


def keep(compiled):
    """Keeps a `CompiledModel` for the next trial, in place of the last one."""
    global _last
    _last = compiled if compiled.key else None


def _values(model):
    return [ops.convert_to_numpy(variable) for variable in model.variables]


def _bytes(initial):
    return sum(value.nbytes for values in initial.values() for value in values)
