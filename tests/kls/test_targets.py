import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

import kls
from kls.targets import mix, smooth, smoothing_weights, teachers_packed, unpack_teacher

classes = st.integers(2, 2000)
epsilons = st.floats(0, 0.99)


def test_gamma_of_a_tenth_on_ten_classes():
    assert kls.gamma_from_epsilon(0.1, classes=10) == pytest.approx(0.91, abs=1e-15)


@given(epsilons, classes)
def test_gamma_and_epsilon_are_inverse(epsilon, k):
    gamma = kls.gamma_from_epsilon(epsilon, k)
    assert kls.epsilon_from_gamma(gamma, k) == pytest.approx(epsilon, abs=1e-12)


@given(epsilons, st.sampled_from([2, 3, 10, 50]), st.integers(0, 49))
def test_smooth_puts_what_keras_label_smoothing_puts(epsilon, k, label):
    label %= k
    gamma = kls.gamma_from_epsilon(epsilon, k)
    uniform = np.full(k, epsilon / k)
    uniform[label] += 1 - epsilon
    np.testing.assert_allclose(ops.convert_to_numpy(smooth([label], k, gamma))[0], uniform, atol=1e-6)


def test_smooth_by_hand():
    rows = ops.convert_to_numpy(smooth([2, 0], classes=3, gamma=0.5))
    np.testing.assert_allclose(rows, [[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]], atol=1e-7)


@given(classes, st.floats(0.001, 1))
def test_smoothing_weights_sum_to_one(k, share):
    gamma = 1 / k + share * (1 - 1 / k)
    a, b = smoothing_weights(min(gamma, 1.0), k)
    assert a + k * b == pytest.approx(1, abs=1e-12)
    assert a >= -1e-15


@pytest.mark.parametrize("gamma", [0.1, 0.05, 0, -1, 1.01, float("nan"), "0.9", None, True])
def test_gamma_that_is_not_above_one_in_k_names_gamma_and_k(gamma):
    with pytest.raises(ValueError, match=rf"gamma={gamma!r} with K=10"):
        kls.epsilon_from_gamma(gamma, classes=10)


def test_mix_weighs_the_first_by_sample():
    mixed = mix([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]], np.array([0.25, 0.5], "float32"))
    np.testing.assert_allclose(ops.convert_to_numpy(mixed), [[0.25, 0.75], [0.0, 1.0]])


def test_mix_with_one_weight_for_all():
    np.testing.assert_allclose(ops.convert_to_numpy(mix([[1.0, 0.0]], [[0.0, 1.0]], 0.25)), [[0.25, 0.75]])


def test_smooth_takes_any_leading_shape():
    labels = keras.random.randint((2, 3), 0, 5, seed=1)
    assert smooth(labels, 5, 0.9).shape == (2, 3, 5)


def test_mix_takes_integers_and_further_axes():
    np.testing.assert_allclose(ops.convert_to_numpy(mix([[1, 0]], [[0, 1]], 0.25)), [[0.25, 0.75]])
    first, second = np.ones((2, 4, 3)), np.zeros((2, 4, 3))
    np.testing.assert_allclose(ops.convert_to_numpy(mix(first, second, np.array([0.25, 1.0])))[:, 0, 0], [0.25, 1.0])


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
