import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kls
from kls.study.methods.cross_entropy import AssignableSmoothedCE


def loss_and_gradient(loss, labels, logits):
    if keras.backend.backend() == "jax":
        import jax

        return jax.value_and_grad(lambda x: loss(labels, x))(logits)
    tf = pytest.importorskip("tensorflow")

    @tf.function
    def compiled(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return value, tape.gradient(value, logits)

    return compiled(tf.constant(logits))


@settings(max_examples=8)
@given(gamma=st.sampled_from([1.0, 0.9, 0.8, 0.7]) | st.floats(0.26, 1.0), distributions=st.booleans())
def test_loss_and_gradient_are_bit_identical_to_a_fixed_gamma(gamma, distributions):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 20, (33, 4)).astype(np.float32)
    labels = rng.dirichlet(np.ones(4), 33).astype(np.float32) if distributions else rng.integers(0, 4, 33)
    assignable = AssignableSmoothedCE(1.0, classes=4)
    assignable.assign_gamma(gamma)
    fixed = kls.SmoothedCE(gamma, from_logits=True)
    for found, expected in zip(*(loss_and_gradient(of, labels, logits) for of in (assignable, fixed)), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected))


def test_a_gamma_that_does_not_fit_is_refused_and_changes_nothing():
    loss = AssignableSmoothedCE(0.75, classes=2)
    with pytest.raises(ValueError, match=r"gamma.*0\.3"):
        loss.assign_gamma(0.3)
    assert loss.gamma == 0.75
    assert keras.ops.convert_to_numpy(loss.label.weights).tolist() == [0.5, 0.25]
