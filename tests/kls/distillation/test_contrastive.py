import math
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from kls import FullStateCheckpoint
from kls.distillation.contrastive import ContrastiveDistillation

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 0, 2, 0, 1, 0, 2, 1, 1, 0, 2])  # 5, 4 and 3 samples
STUDENT, TEACHER = RNG.normal(size=(3, 5)), RNG.normal(size=(3, 6))
ROWS = np.array([7, 0, 9])  # of classes 2, 0 and 1
DRAWN = np.array([[0, 1, 2, 4], [1, 3, 5, 7], [0, 2, 3, 4]])


def layer(built=True, **arguments):
    """Returns a small layer in double precision."""
    contrast = ContrastiveDistillation(
        **{"labels": LABELS, "dimension": 4, "negatives": 4, "seed": 3, "dtype": "float64", **arguments}
    )
    if built:
        contrast.build((None, 5), (None, 6), (None,))
    return contrast


def called(contrast, training=False):
    return ops.convert_to_numpy(contrast(STUDENT, TEACHER, ROWS, training=training))


def values(*variables):
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def embedded(features, dense):
    kernel, bias = values(dense.kernel, dense.bias)
    outputs = features @ kernel + bias
    return outputs / np.sqrt((outputs**2).sum(axis=1, keepdims=True))


def powers_of(embeddings, bank, temperature):
    """Returns exp(v . m / temperature) of each sample and the rows drawn for it, the sample's own first."""
    return [
        [math.exp(v @ bank[j] / temperature) for j in [row, *drawn]]
        for v, row, drawn in zip(embeddings, ROWS, DRAWN, strict=True)
    ]


def critic_loss(powers, z):
    """Returns the loss by the paper's critic h = e / (e + K / M), equations 18 and 19, `e` divided by Z."""
    noise = DRAWN.shape[1] / len(LABELS)

    def h(power):
        return (power / z) / (power / z + noise)

    return [-math.log(h(first)) - sum(math.log(1 - h(other)) for other in others) for first, *others in powers]


def drawing_as_told(**arguments):
    """Returns a layer that draws `DRAWN`, and the embeddings and banks that it begins with."""
    contrast = layer(**arguments)
    contrast.draw_negatives = lambda rows: ops.convert_to_tensor(DRAWN, dtype="int32")
    student = embedded(STUDENT, contrast.student_embedding)
    teacher = embedded(TEACHER, contrast.teacher_embedding)
    return contrast, student, teacher, *values(contrast.student_bank, contrast.teacher_bank)


class TestLoss:
    def test_by_hand_for_given_constants(self):
        contrast, student, teacher, student_bank, teacher_bank = drawing_as_told(temperature=0.3, weight=0.5)
        contrast.student_z.assign(11.0)
        contrast.teacher_z.assign(17.0)
        one = critic_loss(powers_of(student, teacher_bank, 0.3), z=11.0)
        other = critic_loss(powers_of(teacher, student_bank, 0.3), z=17.0)
        np.testing.assert_allclose(called(contrast), 0.5 * np.add(one, other), rtol=1e-6)

    def test_constants_are_those_of_the_first_training_batch(self):
        contrast, student, teacher, student_bank, teacher_bank = drawing_as_told()
        one, other = powers_of(student, teacher_bank, 0.07), powers_of(teacher, student_bank, 0.07)
        z = [12 * np.mean(one), 12 * np.mean(other)]
        expected = 0.8 * np.add(critic_loss(one, z[0]), critic_loss(other, z[1]))
        np.testing.assert_allclose(called(contrast), expected, rtol=1e-6)
        assert values(contrast.student_z, contrast.teacher_z) == [0, 0]
        np.testing.assert_allclose(called(contrast, training=True), expected, rtol=1e-6)
        np.testing.assert_allclose(values(contrast.student_z, contrast.teacher_z), z, rtol=1e-6)
        called(contrast, training=True)
        np.testing.assert_allclose(values(contrast.student_z, contrast.teacher_z), z, rtol=1e-6)

    def test_gradients_are_those_of_finite_differences(self):
        contrast, *_ = drawing_as_told(temperature=0.5)
        contrast.student_z.assign(9.0)
        contrast.teacher_z.assign(9.0)
        direction = RNG.normal(size=STUDENT.shape)

        def loss(step):
            return ops.sum(contrast(STUDENT + step * direction, TEACHER, ROWS))

        difference = (float(loss(1e-5)) - float(loss(-1e-5))) / 2e-5
        assert derivative(loss) == pytest.approx(difference, rel=1e-5)
        assert abs(difference) > 1e-3

    def test_is_computed_in_single_precision_under_mixed_precision(self, bfloat16):
        contrast = ContrastiveDistillation(LABELS, dimension=4, negatives=4)
        loss = contrast(STUDENT.astype("float32"), TEACHER.astype("float32"), ROWS)
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"
        assert contrast.student_embedding.compute_dtype == "float32"


def derivative(function):
    """Returns the derivative of a function of a number at 0."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        step = tf.Variable(0.0, dtype="float64")
        with tf.GradientTape() as tape:
            value = function(step)
        return float(tape.gradient(value, step))
    import jax

    return float(jax.grad(function)(0.0))


class TestBanks:
    def test_rows_of_the_batch_move_by_the_momentum(self):
        contrast, student, teacher, *before = drawing_as_told(momentum=0.75)
        called(contrast, training=True)
        after = values(contrast.student_bank, contrast.teacher_bank)
        for bank, old, new in zip(after, before, (student, teacher), strict=True):
            for row, embedding in zip(ROWS, new, strict=True):
                mixed = 0.75 * old[row] + 0.25 * embedding
                np.testing.assert_allclose(bank[row], mixed / np.linalg.norm(mixed), rtol=1e-6)
            others = np.delete(np.arange(12), ROWS)
            assert np.array_equal(bank[others], old[others])

    def test_the_loss_is_that_of_the_banks_before_they_move(self):
        contrast, *_ = drawing_as_told()
        first = called(contrast)
        np.testing.assert_allclose(called(contrast, training=True), first, rtol=1e-6)
        assert np.abs(called(contrast) - first).max() > 1e-3

    def test_stay_as_they_are_without_training(self):
        contrast, *_, student_bank, teacher_bank = drawing_as_told()
        called(contrast)
        for bank, before in ((contrast.student_bank, student_bank), (contrast.teacher_bank, teacher_bank)):
            assert np.array_equal(ops.convert_to_numpy(bank), before)

    def test_begin_uniform_with_rows_of_unit_mean_square(self):
        contrast = layer(labels=np.arange(2000) % 2, dimension=16, negatives=5)
        student_bank, teacher_bank = values(contrast.student_bank, contrast.teacher_bank)
        assert not np.array_equal(student_bank, teacher_bank)
        for bank in (student_bank, teacher_bank):
            assert np.abs(bank).max() <= math.sqrt(3 / 16)
            assert (bank**2).sum(axis=1).mean() == pytest.approx(1, rel=0.02)
            assert np.abs(bank.mean(axis=0)).max() < 0.05

    def test_are_no_trainable_weights(self):
        contrast = layer()
        assert {tuple(w.shape) for w in contrast.trainable_weights} == {(5, 4), (6, 4), (4,)}
        shapes = [tuple(w.shape) for w in contrast.non_trainable_weights]
        assert sorted(shapes) == [(), (), (12, 4), (12, 4)]


class TestNegatives:
    @settings(max_examples=3 if BACKEND == "jax" else 20)
    @given(
        labels=st.lists(st.integers(0, 3), min_size=4, max_size=25).filter(lambda found: len(set(found)) > 1),
        seed=st.integers(0, 1000),
        data=st.data(),
    )
    def test_are_distinct_samples_of_other_classes(self, labels, seed, data):
        labels = np.array(labels)
        negatives = data.draw(st.integers(1, len(labels) - np.bincount(labels).max()))
        contrast = layer(labels=labels, negatives=negatives, seed=seed, built=False)
        rows = np.arange(len(labels), dtype="int32")
        drawn = ops.convert_to_numpy(contrast.draw_negatives(ops.convert_to_tensor(rows)))
        assert drawn.shape == (len(labels), negatives)
        assert (labels[drawn] != labels[:, None]).all()
        assert all(len(set(row)) == negatives for row in drawn)

    def test_are_every_other_sample_where_no_more_are_left(self):
        contrast = layer(negatives=7, built=False)
        drawn = ops.convert_to_numpy(contrast.draw_negatives(ops.convert_to_tensor([0, 4])))
        assert np.sort(drawn, axis=1).tolist() == [np.flatnonzero(LABELS != 0).tolist()] * 2

    def test_are_drawn_evenly(self):
        contrast = layer(negatives=2, built=False)
        drawn = ops.convert_to_numpy(contrast.draw_negatives(ops.zeros(7000, dtype="int32")))
        counts = np.bincount(drawn.reshape(-1), minlength=12)[LABELS != 0]
        assert np.abs(counts - 2000).max() < 4 * math.sqrt(2000)

    def test_follow_the_seed(self):
        one, same, other = (layer(seed=seed, built=False) for seed in (3, 3, 4))
        rows = ops.convert_to_tensor(ROWS.astype("int32"))
        first, second = (ops.convert_to_numpy(one.draw_negatives(rows)).tolist() for _ in range(2))
        assert first != second
        assert [ops.convert_to_numpy(same.draw_negatives(rows)).tolist() for _ in range(2)] == [first, second]
        assert ops.convert_to_numpy(other.draw_negatives(rows)).tolist() != first


class Contrasted(keras.Model):
    """A linear student, trained by the contrast with given features of a teacher alone."""

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(5)
        self.student = keras.layers.Dense(5)
        self.contrast = layer(dtype="float32")
        self.student.build((None, 3))
        self.built = True

    def call(self, inputs, training=None):
        features = self.student(inputs["images"])
        self.add_loss(ops.mean(self.contrast(features, inputs["teacher"], inputs["rows"], training=training)))
        return features


DATA = {
    "images": RNG.normal(size=(12, 3)).astype("float32"),
    "teacher": RNG.normal(size=(12, 6)).astype("float32"),
    "rows": np.arange(12, dtype="int32"),
}


def fitted(epochs, directory=None, **compiling):
    """Returns a model fitted in batches of 4, and its history."""
    keras.utils.clear_session()
    model = Contrasted()
    model.compile(keras.optimizers.SGD(0.03, momentum=0.9), **compiling)
    callbacks, epoch = [], 0
    if directory is not None:
        callbacks = [FullStateCheckpoint(directory)]
        epoch = callbacks[0].epoch
    data = {"x": DATA, "batch_size": 4}
    if BACKEND == "tensorflow":  # as `kls.utils.data.feed` makes them, without a wait
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        data = {"x": tf.data.Dataset.from_tensor_slices(DATA).batch(4).with_options(options)}
    more = {"epochs": epochs, "initial_epoch": epoch, "shuffle": False, "verbose": 0}
    return model, model.fit(**data, **more, callbacks=callbacks).history["loss"]


@pytest.fixture(scope="module")
def trained():
    """A model fitted for 30 epochs by compiled steps, and its history."""
    return fitted(30)


def test_compiled_training_is_that_of_single_steps(trained):
    _, history = fitted(2, run_eagerly=True)
    np.testing.assert_allclose(trained[1][:2], history, rtol=1e-4)


def test_training_aligns_samples_with_teachers_over_other_classes(trained):
    def lead(model):
        """Returns how much more alike a sample's two embeddings are than those of two samples of different classes."""
        student = embedded(*values(model.student(DATA["images"])), model.contrast.student_embedding)
        teacher = embedded(DATA["teacher"], model.contrast.teacher_embedding)
        similarity = student @ teacher.T
        return np.diag(similarity).mean() - similarity[LABELS[:, None] != LABELS].mean()

    model, history = trained
    assert lead(model) > lead(Contrasted()) + 0.15
    assert history[-1] < 0.5 * history[0]


def test_training_keeps_rows_of_unit_length(trained):
    for bank in values(trained[0].contrast.student_bank, trained[0].contrast.teacher_bank):
        np.testing.assert_allclose((bank**2).sum(axis=1), 1, rtol=1e-5)


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    whole, _ = fitted(2, tmp_path / "whole", run_eagerly=True)
    fitted(1, tmp_path / "parts", run_eagerly=True)
    resumed, _ = fitted(2, tmp_path / "parts", run_eagerly=True)
    assert all(np.array_equal(*values(a, b)) for a, b in zip(whole.variables, resumed.variables, strict=True))


def test_is_saved_with_its_banks(tmp_path):
    inputs = [keras.Input(shape) for shape in ((5,), (6,))] + [keras.Input((), dtype="int32")]
    contrast = layer(dtype="float32")
    model = keras.Model(inputs, contrast(*inputs))
    called(contrast, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert loaded.get_config() == contrast.get_config()
    assert len(loaded.weights) == 8
    assert all(np.array_equal(*values(a, b)) for a, b in zip(loaded.weights, contrast.weights, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [[0, 1]]}, r"`labels` must .* shape \(1, 2\)"),
        ({"labels": [0.0, 1.0]}, "Received: float64"),
        ({"labels": [0, 1, -1]}, "from -1 to 1"),
        ({"labels": [0, 2**31]}, "Received: int64 of shape .* to 2147483648"),
        ({"negatives": 8}, r"`negatives` must be a whole number in 1\.\.7\. Received: negatives=8"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(**arguments)


def test_a_wild_label_takes_no_memory():
    contrast = layer(labels=[0, 10**9, 1, 10**9, 0], negatives=3, built=False)
    tracemalloc.start()
    layer(labels=contrast.labels, negatives=3, built=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**7


def test_refuses_features_that_are_no_rows():
    with pytest.raises(
        ValueError, match=r"`teacher_features` must be of shape \(N, D\). Received: shape \(None, 2, 6\)"
    ):
        layer(built=False).build((None, 5), (None, 2, 6), (None,))
