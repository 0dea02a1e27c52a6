import h5py
import keras
import numpy as np
import pytest
from keras import ops

import kls
from benchmarks.runner.train import mirrored_strategy

BACKEND = keras.backend.backend()
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype("float32"), RNG.integers(3, size=24)


def network(seed, activation=None, regularizer=None):
    """Returns a small network whose weights the seed gives."""
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Input((4,)),
        keras.layers.Dense(5, "tanh", kernel_regularizer=regularizer),
        keras.layers.Dense(3, activation=activation, kernel_initializer="random_normal"),
    ]
    model = keras.Sequential(layers)
    model.set_weights([np.random.default_rng(seed).normal(size=w.shape) for w in model.get_weights()])
    return model


def changing(seed):
    """Returns a network whose layers would draw and average, were they in training mode."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)]
    return keras.Sequential([keras.layers.Input((4,)), *layers, keras.layers.Dense(3, activation="softmax")])


class Subclassed(keras.Model):
    """Has no symbolic inputs or outputs, and no `training` argument; keeps count of its calls."""

    def __init__(self, classes=3):
        super().__init__()
        self.dense = keras.layers.Dense(classes)
        self.calls = 0

    def call(self, inputs):
        self.calls += 1
        return self.dense(inputs)


def distiller_of(student, teachers, more=None, rate=0.1, **arguments):
    """Returns a distiller that runs eagerly, which is quick for three batches, unless `more` says otherwise."""
    distiller = kls.Distiller(student, teachers, **{"from_logits": True, **arguments})
    distiller.compile(keras.optimizers.SGD(rate), **{"run_eagerly": True, **(more or {})})
    return distiller


COMPILED = {"run_eagerly": False}


def fitted(distiller, **arguments):
    return distiller.fit(X, Y, **{"batch_size": 8, "shuffle": False, "verbose": 0, **arguments}).history


def evaluated(distiller, **arguments):
    return distiller.evaluate(X, Y, batch_size=8, verbose=0, **arguments)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def objective(student, tempered, alpha, temperature):
    """Returns the loss of each sample, of the student's logits and the teachers' tempered distribution."""
    logits = np.asarray(student(X), "float64")
    label_term = -np.log(softmax(logits))[np.arange(len(Y)), Y]
    return (1 - alpha) * label_term - alpha * (tempered * np.log(softmax(logits / temperature))).sum(axis=1)


class TestObjective:
    def test_training_is_that_of_keras(self):
        """Its loss is a divergence, times the square of the temperature: the same but for a constant."""
        ours, theirs, teacher = network(1), network(1), network(2)
        found = distiller_of(
            ours, teacher, alpha=0.4, scale_by_temperature=True, more={**COMPILED, "metrics": ["accuracy"]}
        )
        expected = keras.distillation.Distiller(
            teacher=teacher,
            student=theirs,
            distillation_losses=keras.distillation.LogitsDistillation(3.0, keras.losses.KLDivergence()),
            student_loss_weight=0.6,
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        expected.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
        logs, other = fitted(found, epochs=2), fitted(expected, epochs=2)
        assert logs["accuracy"] == other["accuracy"]
        for value, reference, start in zip(
            ours.get_weights(), theirs.get_weights(), network(1).get_weights(), strict=True
        ):
            np.testing.assert_allclose(value, reference, atol=1e-6)
            assert np.abs(value - start).max() > 0.01

    def test_the_mean_of_several_teachers_tempered_distributions(self):
        student, teachers = network(1), [network(2), network(3)]
        tempered = np.mean([softmax(np.asarray(t(X), "float64") / 2) for t in teachers], axis=0)
        found = evaluated(distiller_of(student, teachers, alpha=0.7, temperature=2))
        assert found == pytest.approx(objective(student, tempered, 0.7, 2).mean(), rel=1e-5)

    def test_probabilities_are_as_logits(self):
        found = evaluated(distiller_of(network(1, "softmax"), network(2, "softmax"), alpha=0.7, from_logits=False))
        assert found == pytest.approx(evaluated(distiller_of(network(1), network(2), alpha=0.7)), rel=1e-5)

    def test_sample_weights_and_the_students_regulariser_count(self):
        student, teacher = network(1, regularizer="l2"), network(2, regularizer="l2")
        weights = RNG.uniform(0, 2, 24).astype("float32")
        losses = objective(student, softmax(np.asarray(teacher(X), "float64") / 3), 0.5, 3)
        found = evaluated(distiller_of(student, teacher, alpha=0.5), sample_weight=weights)
        assert found == pytest.approx((weights * losses).mean() + float(student.losses[0]), rel=1e-5)

    def test_training_reports_what_evaluation_does(self):
        distiller = distiller_of(network(1), network(2), {"metrics": ["accuracy"]}, rate=0.0)
        assert [values[0] for values in fitted(distiller).values()] == pytest.approx(evaluated(distiller)[::-1])

    def test_metrics_see_the_labels_as_they_are(self):
        distiller = distiller_of(
            network(1),
            network(2),
            more={"metrics": ["accuracy"], "weighted_metrics": [kls.metrics.NegativeLogLikelihood(from_logits=True)]},
        )
        p = softmax(np.asarray(distiller.student(X), "float64"))
        _, accuracy, nll = evaluated(distiller)
        assert accuracy == pytest.approx((p.argmax(axis=1) == Y).mean())
        assert nll == pytest.approx(-np.log(p[np.arange(24), Y]).mean(), rel=1e-5)

    @pytest.mark.parametrize("form", ["column", "one-hot"])
    def test_other_forms_of_labels(self, form):
        labels = {"column": Y[:, None], "one-hot": np.eye(3, dtype="float32")[Y]}[form]
        distiller = distiller_of(network(1), network(2))
        assert distiller.evaluate(X, labels, batch_size=8, verbose=0) == pytest.approx(evaluated(distiller))


class TestTeachers:
    def test_stay_as_they_are_and_out_of_the_model(self, tmp_path):
        student, teachers = changing(1), [changing(2), changing(3)]
        names = [v.path for v in student.variables]
        before = [teacher.get_weights() for teacher in teachers]
        distiller = distiller_of(student, teachers, from_logits=False, more={**COMPILED, "metrics": ["accuracy"]})
        history = fitted(distiller, epochs=2, validation_data=(X, Y))
        assert np.isfinite(history["loss"] + history["val_loss"]).all()
        for teacher, weights in zip(teachers, before, strict=True):
            assert all(map(np.array_equal, teacher.get_weights(), weights))
            assert teacher.trainable
        assert [id(v) for v in distiller.variables] == [id(v) for v in student.variables]
        assert [id(v) for v in distiller.trainable_variables] == [id(v) for v in student.trainable_variables]
        assert [v.path for v in student.variables] == names
        distiller.save_weights(tmp_path / "distiller.weights.h5")
        with h5py.File(tmp_path / "distiller.weights.h5") as file:
            found = []
            file["layers"].visititems(lambda _, item: found.append(item.shape) if hasattr(item, "shape") else None)
        assert sorted(found) == sorted(tuple(v.shape) for v in student.weights)
        np.testing.assert_array_equal(distiller.predict(X, verbose=0), student.predict(X, verbose=0))

    def test_run_once_per_batch(self):
        teacher = Subclassed()
        distiller = distiller_of(network(1), teacher)
        fitted(distiller)  # the first builds
        for run in (fitted, evaluated):
            teacher.calls = 0
            run(distiller)
            assert teacher.calls == 3

    def test_half_precision(self):
        teacher = network(2)
        keras.config.set_dtype_policy("mixed_bfloat16")
        half = network(2)
        keras.config.set_dtype_policy("float32")
        assert keras.backend.standardize_dtype(half(X).dtype) == "bfloat16"
        tempered = softmax(np.asarray(ops.cast(half(X), "float32"), "float64") / 3)
        student = network(1)
        found = evaluated(distiller_of(student, half, alpha=1.0))
        assert found == pytest.approx(objective(student, tempered, 1.0, 3).mean(), rel=1e-5)
        assert found != evaluated(distiller_of(student, teacher, alpha=1.0))

    @pytest.mark.usefixtures("bfloat16")
    def test_a_float32_student_gets_its_images_in_float32(self):
        student = Subclassed()
        assert kls.Distiller(student, Subclassed()).dtype_policy == student.dtype_policy


@on_tensorflow
class TestTensorFlow:
    def test_xla(self):
        student, other = network(1), network(1)
        fitted(distiller_of(student, network(2), more={**COMPILED, "jit_compile": True}))
        fitted(distiller_of(other, network(2)))
        for value, expected in zip(student.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)

    def test_two_replicas_are_one(self):
        def trained(teachers, more=None):
            distiller = distiller_of(network(1), teachers, alpha=0.5, more=more)
            return [*fitted(distiller)["loss"], *distiller.get_weights()]

        outside = network(2)
        with mirrored_strategy().scope():
            found = trained([outside, network(3)], COMPILED)
        for value, expected in zip(found, trained([outside, network(3)]), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


class TestFailures:
    def other(self, inputs, classes):
        return keras.Sequential([keras.layers.Input((inputs,)), keras.layers.Dense(classes)], name="other")

    def test_another_number_of_classes_names_both(self):
        with pytest.raises(
            ValueError, match=r"outputs.*student '.*' with \(None, 3\), teacher 'other' with \(None, 7\)"
        ):
            kls.Distiller(network(1), [network(2), self.other(4, 7)])

    def test_other_inputs_name_both(self):
        with pytest.raises(
            ValueError, match=r"inputs.*student '.*' with \(None, 4\), teacher 'other' with \(None, 9\)"
        ):
            kls.Distiller(network(1), self.other(9, 3))

    def test_another_number_of_classes_of_a_subclassed_model_is_found_in_training(self):
        with pytest.raises(
            ValueError, match=r"outputs.*student '.*' with \(8, 3\), teacher 'subclassed.*' with \(8, 7\)"
        ):
            fitted(distiller_of(network(1), Subclassed(7)))

    def test_no_teacher(self):
        with pytest.raises(ValueError, match=r"`teachers` must be .* Received: \[\]"):
            kls.Distiller(network(1), [])

    @pytest.mark.parametrize("wrong", [{"alpha": 2}, {"temperature": 0}])
    def test_arguments_of_the_loss_are_checked_at_once(self, wrong):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
            kls.Distiller(network(1), network(2), **wrong)

    def test_a_loss(self):
        distiller = kls.Distiller(network(1), network(2))
        with pytest.raises(ValueError, match=r"`loss` must be left out.*Received: loss=mse"):
            distiller.compile("adam", "mse")
        with pytest.raises(ValueError, match="`loss` must be left out"):
            distiller.compile("adam", loss="mse", metrics=["accuracy"])

    def test_saving(self, tmp_path):
        distiller = kls.Distiller(network(1), network(2))
        distiller(X)
        with pytest.raises(NotImplementedError, match=r"save `\.student`"):
            distiller.save(tmp_path / "distiller.keras")
