import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import kls

from .helpers import BACKEND, distillation_sample, gradient, numbers


def divergence(labels, teacher, student, alpha, temperature, scale=1.0):
    """Returns Keras's cross-entropy and Kullback-Leibler divergence, weighted."""
    label_term = keras.losses.CategoricalCrossentropy(from_logits=True, dtype="float64")(np.eye(5)[labels], student)
    teacher_term = keras.losses.KLDivergence(dtype="float64")(
        ops.softmax(teacher / temperature), ops.softmax(student / temperature)
    )
    return (1 - alpha) * label_term + alpha * scale * teacher_term


class TestKnowledgeDistillation:
    # student: softmax(4, 0), -ln p_0 = 0.018150; at temperature 2 -ln = 0.126928, 2.126928
    # teacher: at temperature 2 softmax(1, 0) = 0.731059, 0.268941, so that its term is 0.664810
    @pytest.mark.parametrize(("scale_by_temperature", "factor"), [(False, 1), (True, 4)])
    def test_by_hand(self, scale_by_temperature, factor):
        loss = kls.KnowledgeDistillation(0.25, 2.0, from_logits=True, scale_by_temperature=scale_by_temperature)
        found = float(loss(kls.pack_teacher([0], [[2.0, 0.0]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.75 * 0.018150 + 0.25 * factor * 0.664810, abs=1e-5)

    @pytest.mark.usefixtures("float64")
    @settings(max_examples=8 if BACKEND == "jax" else 20)
    @given(
        alpha=st.floats(0, 1),
        temperature=st.floats(1, 20),
        scaled=st.booleans(),
        from_logits=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def test_differs_from_keras_by_the_entropy_of_the_teacher(self, alpha, temperature, scaled, from_logits, seed):
        logits, p, labels, teacher = distillation_sample(seed)
        scale = temperature**2 if scaled else 1.0
        loss = kls.KnowledgeDistillation(alpha, temperature, from_logits, scaled, dtype="float64")
        found = float(loss(kls.pack_teacher(labels, teacher), logits if from_logits else p))
        tempered = np.exp(teacher / temperature)
        tempered /= tempered.sum(axis=1, keepdims=True)
        entropy = -(tempered * np.log(tempered)).sum(axis=1).mean()
        expected = float(divergence(labels, teacher, logits, alpha, temperature, scale)) + alpha * scale * entropy
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)  # Keras clips at 1e-7

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("scaled", [False, True])
    @pytest.mark.parametrize(("alpha", "temperature"), [(0.1, 3.0), (0.9, 1.0), (0.5, 20.0)])
    def test_gradient_is_that_of_keras(self, alpha, temperature, scaled):
        logits, _, labels, teacher = distillation_sample()
        loss = kls.KnowledgeDistillation(alpha, temperature, True, scaled, dtype="float64")
        packed, scale = kls.pack_teacher(labels, teacher), temperature**2 if scaled else 1.0
        expected = gradient(lambda z: divergence(labels, teacher, z, alpha, temperature, scale), logits)
        np.testing.assert_allclose(gradient(lambda z: loss(packed, z), logits), expected, rtol=1e-9, atol=1e-6)

    def test_alpha_of_zero_is_cross_entropy_whatever_the_teacher(self):
        logits, _, labels, teacher = distillation_sample()
        expected = float(kls.SmoothedCE(1, from_logits=True)(labels, logits))
        for teacher_logits in (teacher, np.full((6, 5), np.nan), np.full((6, 5), np.inf)):
            loss = kls.KnowledgeDistillation(alpha=0, from_logits=True)
            assert float(loss(kls.pack_teacher(labels, teacher_logits), logits)) == pytest.approx(expected, rel=1e-6)

    def test_alpha_of_one_is_the_teachers_term_whatever_the_label(self):
        logits, p, _, _ = distillation_sample()
        loss = kls.KnowledgeDistillation(alpha=1, temperature=1, from_logits=True)
        found = float(loss(kls.pack_teacher(np.full((6, 5), np.nan), np.zeros((6, 5))), logits))
        assert found == pytest.approx(-np.log(p).mean(), rel=1e-5)  # of a uniform teacher: that of label smoothing

    # the second teacher: at temperature 2 softmax(-1, 0) = 0.268941, 0.731059, so that its term is 1.589046
    @pytest.mark.parametrize(("reduce_teachers", "term"), [("mean", 1.126928), ("sum", 2.253856)])
    def test_several_teachers_by_hand(self, reduce_teachers, term):
        loss = kls.KnowledgeDistillation(0.25, 2.0, from_logits=True, reduce_teachers=reduce_teachers)
        found = float(loss(kls.pack_teacher([0], [[[2.0, 0.0], [-2.0, 0.0]]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.75 * 0.018150 + 0.25 * term, abs=1e-5)

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("teachers", [1, 3])
    def test_the_sum_is_the_mean_times_the_number_of_teachers(self, teachers):
        """The paper's MT and En: the losses of the teachers one by one, summed, and the cross-entropy to their mean."""
        logits, _, labels, _ = distillation_sample()
        stored = np.random.default_rng(5).normal(scale=3, size=(6, teachers, 5))
        packed = kls.pack_teacher(labels, stored)
        mean, total = (
            kls.KnowledgeDistillation(1, 1, True, reduce_teachers=how, dtype="float64") for how in ("mean", "sum")
        )
        one_by_one = [float(mean(kls.pack_teacher(labels, stored[:, t]), logits)) for t in range(teachers)]
        assert float(total(packed, logits)) == pytest.approx(sum(one_by_one), rel=1e-7)
        gradients = [gradient(lambda z, loss=loss: loss(packed, z), logits) for loss in (mean, total)]
        np.testing.assert_allclose(gradients[1], teachers * gradients[0], rtol=1e-9)
        p_student, p_teachers = np.asarray(ops.softmax(logits)), np.asarray(ops.softmax(stored))
        np.testing.assert_allclose(gradients[0], (p_student - p_teachers.mean(axis=1)) / 6, rtol=1e-6, atol=1e-9)

    def test_dense_predictions(self):
        logits, _, labels, teacher = distillation_sample()
        loss = kls.KnowledgeDistillation(from_logits=True, reduction=None)
        packed = numbers(kls.pack_teacher(labels, np.stack([teacher, -teacher], axis=1)))
        found = numbers(loss(packed.reshape(2, 3, 15), logits.reshape(2, 3, 5)))
        np.testing.assert_allclose(found.reshape(6), numbers(loss(packed, logits)), rtol=1e-6)

    @pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 5), (6, 9), (5, 10), (10,), (6, 10, 1)])
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, shape):
        with pytest.raises(ValueError, match=r"pack_teacher.*y_true\.shape=.*y_pred\.shape=\(6, 5\)"):
            kls.KnowledgeDistillation()(np.zeros(shape, "float32"), np.full((6, 5), 0.2, "float32"))
