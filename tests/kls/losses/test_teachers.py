import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

import kls
from kls.losses.teachers import teachers_packed, unpack_teacher

from .helpers import compiled, distillation_sample, numbers


class TestPackTeacher:
    TEACHER = np.array([[2.0, 3.0, 4.0], [5.0, 6.0, 7.0]])

    @pytest.mark.parametrize(
        "labels", [[2, 0], [[2], [0]], np.array([2, 0], "uint8"), np.array([2.0, 0.0]), np.eye(3)[[2, 0]]]
    )
    def test_puts_labels_and_logits_side_by_side(self, labels):
        packed = kls.pack_teacher(labels, self.TEACHER.tolist())
        np.testing.assert_array_equal(ops.convert_to_numpy(packed), [[0, 0, 1, 2, 3, 4], [1, 0, 0, 5, 6, 7]])

    def test_float64_distributions_or_logits_are_kept(self):
        single, third = self.TEACHER.astype("float32"), np.full((2, 3), 1 / 3)
        for labels, logits, dtype in (
            ([2, 0], self.TEACHER / 3, "float64"),
            (third, single, "float64"),
            (np.array([2.0, 0.0]), single, "float32"),
        ):
            packed = kls.pack_teacher(ops.convert_to_tensor(labels), ops.convert_to_tensor(logits))
            assert keras.backend.standardize_dtype(packed.dtype) == dtype
            np.testing.assert_array_equal(ops.convert_to_numpy(packed)[:, 3:], logits)
        np.testing.assert_array_equal(ops.convert_to_numpy(kls.pack_teacher(third, single))[:, :3], third)

    @pytest.mark.parametrize("name", ["y_true", "teacher_logits"])
    def test_what_holds_no_numbers_is_refused_by_name(self, name):
        for wrong in (np.array([["a"] * 3] * 2), self.TEACHER.astype(complex), np.ma.masked_array(self.TEACHER)):
            with pytest.raises(ValueError, match=f"`{name}` must"):
                kls.pack_teacher(**{"y_true": [2, 0], "teacher_logits": self.TEACHER, name: wrong})

    def test_a_class_index_outside_becomes_nan_when_compiled(self):
        packed = numbers(compiled(kls.pack_teacher)(np.array([-1, 3]), self.TEACHER.astype("float32")))
        assert np.isnan(packed[:, :3]).all()

    def test_half_precision_logits_become_floatx(self):
        packed = kls.pack_teacher([2, 0], ops.cast(self.TEACHER, "bfloat16"))
        assert keras.backend.standardize_dtype(packed.dtype) == "float32"

    def test_several_teachers_follow_one_another(self):
        packed = kls.pack_teacher([2, 0], np.stack([self.TEACHER, 10 * self.TEACHER], axis=1))
        expected = [[0, 0, 1, 2, 3, 4, 20, 30, 40], [1, 0, 0, 5, 6, 7, 50, 60, 70]]
        np.testing.assert_array_equal(ops.convert_to_numpy(packed), expected)

    def test_unpacking_is_the_inverse(self):
        teachers = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
        labels = np.array([[0.25, 0.75, 0], [0, 0, 1]], "float32")
        found, logits = unpack_teacher(kls.pack_teacher(labels, teachers), np.zeros((2, 3)))
        np.testing.assert_array_equal(ops.convert_to_numpy(found), labels)
        np.testing.assert_array_equal(np.stack([ops.convert_to_numpy(part) for part in logits], axis=1), teachers)

    @pytest.mark.parametrize(
        ("shape", "teachers"), [((2,), 0), ((2, 1), 0), ((2, 3), 0), ((2, 6), 1), ((None, 18), 5), ((2, 7), 0)]
    )
    def test_shapes_tell_how_many_teachers_are_packed(self, shape, teachers):
        assert teachers_packed(keras.KerasTensor(shape), np.zeros((2, 3))) == teachers

    def test_labels_that_do_not_fit_several_teachers_are_refused(self):
        with pytest.raises(ValueError, match=r"teacher_logits\[:, 0\]\.shape=\(2, 3\)"):
            kls.pack_teacher([0, 1, 2], np.zeros((2, 4, 3)))

    @pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 2), ()])
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, shape):
        with pytest.raises(ValueError, match=r"y_true\.shape=.*teacher_logits\.shape=\(2, 3\)"):
            kls.pack_teacher(np.zeros(shape, "float32"), self.TEACHER)


@pytest.mark.parametrize("kind", [kls.KnowledgeDistillation, kls.WeightedSoftLabels])
def test_packed_logits_in_double_precision_are_computed_in_it(kind):
    logits, _, labels, teacher = distillation_sample()
    teacher = np.stack([teacher, teacher[::-1]], axis=1)
    p, hard = softmax(logits / 3, axis=-1), -np.log(softmax(logits, axis=-1)[np.arange(6), labels])
    soft = -(softmax(teacher / 3, axis=-1).mean(axis=1) * np.log(p)).sum(axis=1)
    of_teacher = -np.log(softmax(teacher, axis=-1).mean(axis=1)[np.arange(6), labels])
    expected = {
        kls.KnowledgeDistillation: 0.75 * hard + 0.25 * soft,
        kls.WeightedSoftLabels: hard + 0.25 * 9 * (1 - np.exp(-hard / (of_teacher + 1e-7))) * soft,
    }[kind]
    loss = kind(alpha=0.25, temperature=3.0, from_logits=True, reduction=None, dtype="float64")
    np.testing.assert_allclose(numbers(loss(kls.pack_teacher(labels, teacher), logits)), expected, rtol=1e-13)
