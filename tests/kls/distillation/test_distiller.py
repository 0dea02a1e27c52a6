import h5py
import keras
import numpy as np
import pytest
from keras import ops

import kls
from kls.study.train import mirrored_strategy

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

    def test_modes_take_the_label_or_the_teachers_alone(self):
        student, teachers = network(1), [network(2), network(3)]
        logits = [np.asarray(teacher(X), "float64") for teacher in teachers]
        kd, plain = (np.mean([softmax(z / t) for z in logits], axis=0) for t in (3, 1))
        expected = {
            "kd": objective(student, kd, 0.1, 3).mean(),
            "ensemble": objective(student, plain, 1, 1).mean(),
            "multi": sum(objective(student, softmax(z), 1, 1).mean() for z in logits),
        }
        for mode, value in expected.items():
            assert evaluated(distiller_of(student, teachers, mode=mode)) == pytest.approx(value, rel=1e-5)
        one = evaluated(distiller_of(student, teachers[0], mode="ensemble"))
        assert one == pytest.approx(objective(student, softmax(logits[0]), 1, 1).mean(), rel=1e-5)

    def test_weighted_soft_labels(self):
        student, teachers = network(1), [network(2), network(3)]
        packed = kls.pack_teacher(Y, np.stack([np.asarray(teacher(X)) for teacher in teachers], axis=1))
        for arguments, loss in (({}, (2.25, 4)), ({"alpha": 2.5, "temperature": 2}, (2.5, 2))):
            found = evaluated(distiller_of(student, teachers, mode="wsl", **arguments))
            expected = kls.WeightedSoftLabels(*loss, from_logits=True)(packed, student(X))
            assert found == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize("labels", [Y[:, None], np.eye(3, dtype="float32")[Y]], ids=["column", "one-hot"])
    def test_other_forms_of_labels(self, labels):
        distiller = distiller_of(network(1), network(2))
        assert distiller.evaluate(X, labels, batch_size=8, verbose=0) == pytest.approx(evaluated(distiller))


class TestOffline:
    @pytest.mark.parametrize("mode", ["multi", "wsl"])
    def test_stored_logits_train_as_the_teachers_do(self, mode, tmp_path):
        teachers = [network(2), network(3)]
        online, offline = network(1), network(1)
        metrics = {"metrics": [kls.metrics.IDAccuracy()]}
        expected = fitted(distiller_of(online, teachers, metrics, rate=0.05, mode=mode), epochs=2)
        logits = kls.teacher_logits(teachers, X, tmp_path / "logits.npy", batch_size=9)
        distiller = distiller_of(offline, None, metrics, rate=0.05, mode=mode)
        packed = ops.convert_to_numpy(kls.pack_teacher(Y, logits))
        found = distiller.fit(X, packed, batch_size=8, shuffle=False, epochs=2, verbose=0).history
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
        assert found["accuracy"] == expected["accuracy"]
        for value, reference in zip(offline.get_weights(), online.get_weights(), strict=True):
            np.testing.assert_allclose(value, reference, atol=1e-6)

    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_labels_without_logits_are_taken_in_evaluation(self, activation):
        distiller = distiller_of(network(1, activation), None, from_logits=activation is None)
        p = softmax(np.asarray(network(1)(X), "float64"))
        cross_entropy = -np.log(p[np.arange(24), Y]).mean()
        for labels in (Y, Y[:, None], np.eye(3, dtype="float32")[Y]):
            found = distiller.evaluate(X, labels, batch_size=8, verbose=0)
            assert found == pytest.approx(cross_entropy, rel=1e-5)

    def test_validation_data_have_no_logits(self):
        metrics = {**COMPILED, "metrics": [kls.metrics.IDAccuracy()]}
        distiller = distiller_of(network(1), None, metrics, rate=0.0)
        packed = ops.convert_to_numpy(kls.pack_teacher(Y, RNG.normal(size=(24, 2, 3))))
        history = distiller.fit(X, packed, batch_size=8, validation_data=(X, Y), verbose=0).history
        p = softmax(np.asarray(network(1)(X), "float64"))
        assert history["accuracy"] == history["val_accuracy"] == [pytest.approx((p.argmax(axis=1) == Y).mean())]
        assert history["val_loss"] == [pytest.approx(-np.log(p[np.arange(24), Y]).mean(), rel=1e-5)]

    def test_training_without_logits_is_refused(self):
        for labels in (Y, np.eye(3, dtype="float32")[Y]):
            with pytest.raises(ValueError, match=r"Without `teachers`.*stored logits.*Received: labels of shape"):
                distiller_of(network(1), None).fit(X, labels, verbose=0)


class TestContrast:
    """Mode "crd": the features before the last layers of student and teacher, five numbers each."""

    ROWS = np.concatenate([np.eye(3, dtype="float32")[Y], np.arange(24, dtype="float32")[:, None]], axis=1)

    def contrast(self):
        return kls.ContrastiveDistillation(Y, dimension=4, negatives=6, seed=0)

    def features(self, model):
        return ops.convert_to_numpy(model.layers[0](X))

    @pytest.mark.parametrize("alpha", [0.0, 1.0])
    def test_the_contrast_is_added_to_label_and_teacher(self, alpha):
        """CRD has no term of the teacher's outputs, CRD+KD has one at temperature 4, times 16."""
        student, teacher, alone = network(1), network(2), self.contrast()
        label, taught = (
            objective(student, softmax(np.asarray(teacher(X), "float64") / 4), weight, 4).mean() for weight in (0, 1)
        )
        rows = np.arange(24)
        added = ops.mean(alone(self.features(student), self.features(teacher), rows, training=True))
        distiller = distiller_of(student, teacher, mode="crd", alpha=alpha, contrast=self.contrast(), rate=0.0)
        found = distiller.fit(X, self.ROWS, batch_size=24, shuffle=False, verbose=0).history["loss"]
        assert found == [pytest.approx(label + 16 * alpha * taught + float(added), rel=1e-4)]
        np.testing.assert_allclose(distiller.contrast.student_bank, alone.student_bank, rtol=1e-5, atol=1e-6)

    def test_compiled_training_moves_student_embeddings_and_banks(self):
        student, teacher, contrast = network(1), network(2), self.contrast()
        distiller = distiller_of(
            student, teacher, {**COMPILED, "metrics": [kls.metrics.IDAccuracy()]}, mode="crd", contrast=contrast
        )
        before = [ops.convert_to_numpy(v) for v in (*contrast.weights, *student.weights, *teacher.weights)]
        weights = np.full(24, 0.5, "float32")
        history = distiller.fit(X, self.ROWS, sample_weight=weights, validation_data=(X, Y), batch_size=8, verbose=0)
        after = [ops.convert_to_numpy(v) for v in (*contrast.weights, *student.weights, *teacher.weights)]
        moved = [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]
        assert moved == [True] * (len(moved) - 4) + [False] * 4
        p = softmax(np.asarray(student(X), "float64"))
        assert history.history["val_loss"] == [pytest.approx(-np.log(p[np.arange(24), Y]).mean(), rel=1e-5)]
        assert history.history["val_accuracy"] == [pytest.approx((p.argmax(axis=1) == Y).mean())]

    def test_labels_without_rows_are_refused_in_training(self):
        distiller = distiller_of(network(1), network(2), mode="crd", contrast=self.contrast())
        with pytest.raises(ValueError, match=r"\[distribution \| row\].*Received: labels of shape"):
            distiller.fit(X, np.eye(3, dtype="float32")[Y], verbose=0)

    @pytest.mark.parametrize(
        ("teachers", "arguments"),
        [(1, {"mode": "crd"}), (2, {"mode": "crd", "contrast": True}), (1, {"mode": "kd", "contrast": True})],
    )
    def test_contrast_mode_and_one_teacher_go_together(self, teachers, arguments):
        if "contrast" in arguments:
            arguments = {**arguments, "contrast": self.contrast()}
        with pytest.raises(ValueError, match="`mode='crd'` needs one teacher and, as `contrast`"):
            kls.Distiller(network(1), [network(2)] * teachers, **arguments)

    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_a_nested_student_runs_once(self, activation):
        """A moving average tells how often: by half towards the mean of the batch."""
        inner = keras.Sequential(
            [
                keras.layers.Input((4,)),
                keras.layers.BatchNormalization(momentum=0.5),
                keras.layers.Dense(3, activation=activation),
            ]
        )
        inputs = keras.Input((4,))
        student = keras.Model(inputs, inner(inputs))
        distiller = distiller_of(
            student, network(2, activation), mode="crd", contrast=self.contrast(), from_logits=activation is None
        )
        np.testing.assert_allclose(distiller(X, training=True).shape, (24, 3))
        np.testing.assert_allclose(inner.layers[0].moving_mean, X.mean(axis=0) / 2, rtol=1e-4)
        np.testing.assert_allclose(distiller(X), student(X), rtol=1e-5, atol=1e-6)

    @on_tensorflow
    def test_several_replicas_are_refused(self):
        with mirrored_strategy().scope(), pytest.raises(ValueError, match="memory of one replica"):
            kls.Distiller(network(1), network(2), mode="crd", contrast=self.contrast())

    def test_networks_without_a_last_layer_are_refused(self):
        with pytest.raises(ValueError, match=r"in a Dense layer or a 1x1 convolution\. Received: student 'sub"):
            kls.Distiller(Subclassed(), network(2), mode="crd", contrast=self.contrast())

    def test_wrong_alpha(self):
        with pytest.raises(ValueError, match=r"`alpha` must be a number in \[0, inf\)\. Received: alpha=-1"):
            kls.Distiller(network(1), network(2), mode="crd", alpha=-1, contrast=self.contrast())


class TestPredictions:
    ADVICE = "must be probabilities.*: pass from_logits=True or end the model in softmax"
    HEADS = ((None, "softmax"), "y_pred"), (("softmax", None), "teacher_outputs")

    @pytest.mark.parametrize(("heads", "name"), HEADS, ids=["student", "teacher"])
    @pytest.mark.parametrize("mode", ["kd", "wsl", "ensemble"])
    def test_of_a_head_without_softmax_are_refused(self, mode, heads, name):
        networks = [network(seed, head) for seed, head in enumerate(heads)]
        with pytest.raises(ValueError, match=f"`{name}` {self.ADVICE}"):
            fitted(distiller_of(*networks, mode=mode, from_logits=False))

    @pytest.mark.parametrize(("heads", "name"), HEADS, ids=["student", "teacher"])
    def test_of_a_head_without_softmax_give_nan_by_xla(self, heads, name):
        networks = [network(seed, head) for seed, head in enumerate(heads)]
        distiller = distiller_of(*networks, from_logits=False, more={**COMPILED, "jit_compile": True})
        assert np.isnan(fitted(distiller)["loss"]).all()

    @on_tensorflow
    def test_of_a_head_without_softmax_stop_a_graph(self):
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError, match=self.ADVICE):
            fitted(distiller_of(network(1), network(2, "softmax"), from_logits=False, more=COMPILED))


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
        own = {id(v) for v in student.variables}
        assert own < {id(v) for v in distiller.variables}
        drawing = [v.path for v in distiller.variables if id(v) not in own]
        assert len(drawing) == 2
        assert all("seed_generator" in path for path in drawing)
        assert [id(v) for v in distiller.trainable_variables] == [id(v) for v in student.trainable_variables]
        assert [v.path for v in student.variables] == names
        distiller.save_weights(tmp_path / "distiller.weights.h5")
        with h5py.File(tmp_path / "distiller.weights.h5") as file:
            found = []
            file.visititems(lambda _, item: found.append(item.shape) if hasattr(item, "shape") else None)
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

    @pytest.mark.usefixtures("needs_bfloat16")
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
def test_two_replicas_are_one():
    def trained(teachers, more=None):
        distiller = distiller_of(network(1), teachers, alpha=0.5, more=more)
        return [*fitted(distiller)["loss"], *distiller.get_weights()]

    outside = network(2)
    with mirrored_strategy().scope():
        found = trained([outside, network(3)], COMPILED)
    for value, expected in zip(found, trained([outside, network(3)]), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


class TestFailures:
    @pytest.mark.parametrize(
        ("inputs", "classes", "message"),
        [
            (4, 7, r"outputs.*student '.*' with \(None, 3\), teacher 'other' with \(None, 7\)"),
            (9, 3, r"inputs.*student '.*' with \(None, 4\), teacher 'other' with \(None, 9\)"),
        ],
    )
    def test_other_classes_or_inputs_name_both(self, inputs, classes, message):
        other = keras.Sequential([keras.layers.Input((inputs,)), keras.layers.Dense(classes)], name="other")
        with pytest.raises(ValueError, match=message):
            kls.Distiller(network(1), [network(2), other])

    def test_class_mismatch_of_a_subclassed_model_is_found_in_training(self):
        with pytest.raises(
            ValueError, match=r"outputs.*student '.*' with \(8, 3\), teacher 'subclassed.*' with \(8, 7\)"
        ):
            fitted(distiller_of(network(1), Subclassed(7)))
