"""What the tests of the losses share: samples, gradients and compilation on the backend at hand, each loss by name."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import ops

import kls
from kls.analysis.overfitting import OverfittingCE

BACKEND = keras.backend.backend()


def sample(n=6, k=5, seed=0):
    """Returns logits, their softmax and labels, in float64."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(n, k))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, p / p.sum(axis=1, keepdims=True), rng.integers(k, size=n)


def distillation_sample(seed=0):
    """Returns a student's logits and their softmax, labels and a teacher's logits."""
    return *sample(seed=seed), sample(seed=seed + 1)[0]


def numbers(tensor):
    return ops.convert_to_numpy(tensor)


def gradient(loss_of, logits):
    """Returns the gradient of a scalar function of logits on the backend at hand."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss_of(x)
        return tape.gradient(value, x).numpy()
    import jax

    return np.asarray(jax.grad(loss_of)(logits))


def compiled(function):
    """Compiles a function of tensors on the backend at hand."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    import jax

    return jax.jit(function)


def compiled_by_xla(function):
    """Compiles a function of tensors by XLA, which leaves out TensorFlow's assertions."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return compiled(function)


LOSSES = {
    "SmoothedCE": kls.SmoothedCE,
    "OutlierExposure": kls.OutlierExposure,
    "KnowledgeDistillation": kls.KnowledgeDistillation,
    "WeightedSoftLabels": kls.WeightedSoftLabels,
    "FocalStd": kls.FocalStd,
    "OverfittingCE": partial(OverfittingCE, classes=3),
}
every_loss = pytest.mark.parametrize("kind", LOSSES)


def labels_for(kind, labels=(0, 2)):
    """Returns labels of three classes in the form that a loss takes."""
    if kind in ("KnowledgeDistillation", "WeightedSoftLabels"):
        return np.array(kls.pack_teacher(list(labels), np.tile(np.float32([1, 0, -1]), (len(labels), 1))))
    return np.array(labels, "float32")
