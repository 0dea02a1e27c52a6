"""The compiled model of the last trial, kept in this process for the next one that can train with it.

Tracing and compiling a deep network takes longer than many an epoch. Trials that differ in gamma, seed or augmentation
alone share it, and end with the bits that they would have in a process of their own.
"""

import random
from dataclasses import replace
from functools import cached_property

import numpy as np
from keras import ops

from benchmarks.runner.networks import build_model, network_of

INITIAL_BYTES = 2**28  # how much of the initial values of further seeds is kept
FREE = {"gamma": 1.0, "seed": 0, "shift": 0.0, "flip": False, "fill": "zero", "configuration": None}
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
        self.key = key_of(trial, strategy)
        self._initial = {trial.seed: _values(model)} if self.key else {}

    @cached_property
    def network(self):
        """The network that is trained, taken apart for its outputs."""
        return network_of(self.model)

    def begin(self, trial, dataset):
        """Makes the model what it would be if it had just been built and compiled for a trial.

        Args:
            trial: A `Trial` of the same key.
            dataset: Its opened `decathlon.Dataset`.
        """
        for variable, value in zip(self.model.variables, self._initial_values(trial, dataset), strict=True):
            variable.assign(value)
        optimizer = self.model.optimizer
        for variable in optimizer.variables:  # steps so far and moments
            variable.assign(np.zeros(variable.shape, variable.dtype))
        if trial.schedule != "cosine":
            optimizer.learning_rate = trial.learning_rate
        self.model.loss.assign_gamma(trial.gamma)

    def _initial_values(self, trial, dataset):
        """Returns the values that all variables of the model have when it is built under a trial's seed.

        Keras draws from Python's generator alone. `keras.utils.set_random_seed` would seed TensorFlow's own too, which
        then forgets what it has made of every compiled function, so that the next step takes seconds.
        """
        if trial.seed not in self._initial:
            random.seed(trial.seed)
            self._initial[trial.seed] = _values(build_model(trial, dataset))
            while len(self._initial) > 1 and _bytes(self._initial) > INITIAL_BYTES:
                del self._initial[next(iter(self._initial))]
        return self._initial[trial.seed]


def key_of(trial, strategy):
    """Returns what trials must have in common to be trained with the same compiled model.

    Args:
        trial: A `Trial`.
        strategy: `"none"` or `"mirrored"`.

    Returns:
        The trial with fixed values of all that is not compiled in; `None` if its model is for it alone.
    """
    if trial.loss != "smoothed_ce" or strategy != "none":
        return None
    return replace(trial, **FREE, **({} if trial.schedule == "cosine" else FREE_BUT_IN_COSINE))


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
