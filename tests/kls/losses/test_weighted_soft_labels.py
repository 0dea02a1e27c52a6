import keras
import numpy as np
import pytest
from keras import ops

import kls

from .helpers import distillation_sample, gradient


class TestWeightedSoftLabels:
    # student: softmax(4, 0), its loss 0.018150; teacher: softmax(2, 0), its loss 0.126928, so w = 1 - exp(-0.142994)
    # = 0.133241; the teacher's term at temperature 2 is 0.664810, as above
    def test_by_hand(self):
        loss = kls.WeightedSoftLabels(2.5, 2.0, from_logits=True)
        found = float(loss(kls.pack_teacher([0], [[2.0, 0.0]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.018150 + 2.5 * 4 * 0.133241 * 0.664810, abs=1e-5)

    # a second teacher: softmax(-2, 0) at 1; the mean's loss is -ln((0.880797 + 0.119203) / 2) = 0.693147, so
    # w = 1 - exp(-0.026185) = 0.025845; the mean of both terms at temperature 2 is 1.126928, as above
    def test_several_teachers_by_hand(self):
        loss = kls.WeightedSoftLabels(2.5, 2.0, from_logits=True)
        found = float(loss(kls.pack_teacher([0], [[[2.0, 0.0], [-2.0, 0.0]]]), [[4.0, 0.0]]))
        assert found == pytest.approx(0.018150 + 2.5 * 4 * 0.025845 * 1.126928, abs=1e-5)

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_gradient_leaves_the_weight_out(self, from_logits):
        """It is that of two losses of Keras, summed with weights that are numbers."""
        logits, p, labels, teacher = distillation_sample()
        rows = np.arange(6), labels
        ratio = np.log(p[rows]) / np.log(np.asarray(ops.softmax(teacher))[rows])
        weights = 1 - np.exp(-ratio)
        student = logits if from_logits else p
        loss = kls.WeightedSoftLabels(2.5, 3.0, from_logits, dtype="float64")

        def expected(z):
            target = ops.softmax(teacher / 3)
            log_p = z if from_logits else ops.log(z / ops.sum(z, axis=-1, keepdims=True))
            soft = keras.losses.categorical_crossentropy(target, log_p / 3, from_logits=True)
            hard = keras.losses.sparse_categorical_crossentropy(labels, log_p, from_logits=True)
            return ops.mean(hard + 2.5 * 9 * weights * soft)

        packed = kls.pack_teacher(labels, teacher)
        assert float(loss(packed, student)) == pytest.approx(float(expected(student)), rel=1e-5)
        found = gradient(lambda z: loss(packed, z), student)
        np.testing.assert_allclose(found, gradient(expected, student), rtol=1e-5, atol=1e-7)

    def test_alpha_of_zero_is_cross_entropy(self):
        logits, _, labels, teacher = distillation_sample()
        found = float(kls.WeightedSoftLabels(0, from_logits=True)(kls.pack_teacher(labels, teacher), logits))
        assert found == pytest.approx(float(kls.SmoothedCE(1, from_logits=True)(labels, logits)), rel=1e-6)

    def test_a_certain_teacher_counts_in_full_if_right_not_if_wrong(self):
        logits = np.array([[1.0, 0.0, 0.0]], "float32")
        hard = -np.log(np.e / (np.e + 2))
        loss = kls.WeightedSoftLabels(1.0, 1.0, from_logits=True)
        right = kls.pack_teacher([0], [[1000.0, 0.0, 0.0]])
        assert float(loss(right, logits)) == pytest.approx(2 * hard, rel=1e-5)
        assert np.isfinite(gradient(lambda z: loss(right, z), logits)).all()
        wrong = kls.pack_teacher([0], [[0.0, 1000.0, 0.0]])
        assert float(loss(wrong, logits)) == pytest.approx(hard, rel=2e-3)

    def test_a_student_and_a_teacher_without_loss_give_none(self):
        logits = np.array([[1000.0, 0.0]], "float32")
        packed, loss = kls.pack_teacher([0], logits), kls.WeightedSoftLabels(from_logits=True)
        assert float(loss(packed, logits)) == 0
        assert np.isfinite(gradient(lambda z: loss(packed, z), logits)).all()
