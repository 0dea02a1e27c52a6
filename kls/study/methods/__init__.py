"""Methods: one file per way to train.

A method is a frozen dataclass of its parameters. It answers the questions of `Method`, of which most have a default
answer: a method with a loss of its own needs `loss` alone. This is a whole one, in a module of your own:

    # my_methods.py
    from dataclasses import dataclass

    import keras

    import kls
    from kls.study.methods import Method, register


    class PenalisedCE(keras.losses.Loss):
        def __init__(self, beta, from_logits):
            super().__init__(name="penalised_ce")
            self.beta = beta
            self.cross_entropy = kls.SmoothedCE(1.0, from_logits, reduction=None)
            self.from_logits = from_logits

        def call(self, y_true, y_pred):
            p = keras.ops.softmax(y_pred) if self.from_logits else y_pred
            entropy = -keras.ops.sum(p * keras.ops.log(p + 1e-12), axis=-1)
            return self.cross_entropy(y_true, y_pred) - self.beta * entropy


    @register("penalised")
    @dataclass(frozen=True)
    class Penalised(Method):
        beta: float = 0.1

        def loss(self, training):
            return PenalisedCE(self.beta, training.from_logits)

From Python it goes into a study as it is, `kls.Study(model, data, methods=[Penalised(0.2)])`. On the command line it is
named by its module: `python -m kls study DATA --methods my_methods:Penalised:beta=0.2`.

Labels arrive as class indices of shape `(N,)`; where the method's `mixing` or its batches make distributions of them,
as those, of shape `(N, K)`. `training.from_logits` says whether `y_pred` are logits. They are, unless the network is
the user's own and returns probabilities of which no softmax can be taken off. What else a method can ask for is in the
`Training` that each question comes with.
"""

from importlib import import_module
from pkgutil import iter_modules

from kls.study.methods.base import Method
from kls.study.methods.cross_entropy import CrossEntropy
from kls.study.methods.registry import METHODS, check_registered, parse, register

for _module in iter_modules(__path__):  # a new method is a new file and nothing else
    import_module(f"{__name__}.{_module.name}")
globals().update({_method.__name__: _method for _method in METHODS.values()})

__all__ = [
    "CrossEntropy",
    "Method",
    "check_registered",
    "parse",
    "register",
    *sorted(_method.__name__ for _method in METHODS.values()),
]
