"""What distillation leaves on disk: teachers' logits, and the student."""

import keras
import numpy as np
import pytest
from keras import ops

import kls

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype("float32"), RNG.integers(3, size=24)


def network(seed, activation=None):
    """Returns a small network whose weights the seed gives."""
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation)])
    model.set_weights([np.random.default_rng(seed).normal(size=w.shape) for w in model.get_weights()])
    return model


class Probabilities(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = network(2, "softmax")

    def call(self, inputs):
        return self.inner(inputs)


class Ordered(keras.utils.PyDataset):
    training = False

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[index * 10 :][:10], Y[index * 10 :][:10]


class TestTeacherLogits:
    def test_one_teacher(self, tmp_path):
        path = tmp_path / "new" / "logits.npy"
        found = kls.teacher_logits(network(2), (X, Y), path, batch_size=7)
        assert (type(found), found.dtype, found.shape) == (np.memmap, "float32", (24, 3))
        np.testing.assert_allclose(found, network(2)(X), rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 0
        assert [file.name for file in path.parent.iterdir()] == ["logits.npy"]

    def test_a_list_of_teachers_over_batches(self, tmp_path):
        found = kls.teacher_logits([network(2), network(3)], Ordered(), tmp_path / "logits.npy")
        assert found.shape == (24, 2, 3)
        for index, seed in enumerate((2, 3)):
            np.testing.assert_allclose(found[:, index], network(seed)(X), rtol=1e-5, atol=1e-6)
        assert kls.teacher_logits([network(2)], X, tmp_path / "logits.npy").shape == (24, 1, 3)

    def test_a_teacher_that_returns_probabilities(self, tmp_path):
        p = ops.softmax(network(2)(X))
        for teacher in (network(2, "softmax"), Probabilities()):
            found = kls.teacher_logits(teacher, X, tmp_path / "logits.npy")
            np.testing.assert_allclose(ops.softmax(found), p, rtol=1e-5)

    def test_batches_that_shuffle_are_refused(self, tmp_path):
        shuffled = Ordered()
        shuffled.training = True
        with pytest.raises(ValueError, match=r"`data` must come in order.*training=True"):
            kls.teacher_logits(network(2), shuffled, tmp_path / "logits.npy")


class TestSaving:
    def test_the_student_is_saved(self, tmp_path):
        distiller = kls.Distiller(network(1), network(2), from_logits=True)
        distiller.compile("sgd")
        distiller.fit(X, Y, verbose=0)
        distiller.save(tmp_path / "student.keras")
        again = keras.saving.load_model(tmp_path / "student.keras")
        assert type(again) is keras.Sequential
        np.testing.assert_allclose(again(X), distiller.student(X), rtol=1e-6)

    def test_weights_are_the_students(self, tmp_path):
        kls.Distiller(network(1), network(2)).save_weights(tmp_path / "student.weights.h5")
        student, other = network(5), kls.Distiller(network(6), network(2))
        student.load_weights(tmp_path / "student.weights.h5")
        other.load_weights(tmp_path / "student.weights.h5")
        for model in (student, other.student):
            np.testing.assert_array_equal(model(X), network(1)(X))

    def test_a_config_is_refused(self, tmp_path):
        distiller = kls.Distiller(network(1), network(2))
        with pytest.raises(NotImplementedError, match="use its `save`"):
            keras.saving.save_model(distiller, tmp_path / "distiller.keras")
