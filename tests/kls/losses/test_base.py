import keras
import numpy as np
import pytest
from keras import ops

import kls
from kls.analysis.overfitting import OverfittingCE

from .helpers import BACKEND, LOSSES, compiled, compiled_by_xla, every_loss, gradient, labels_for, numbers, sample

ADVICE = "`y_pred` must be probabilities.*: pass from_logits=True or end the model in softmax"
HUGE = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, -1e4, 1e4]], "float32")
of_any_label = pytest.mark.parametrize("kind", ["SmoothedCE", "FocalStd", "OverfittingCE"])


class TestPredictions:
    RIGHT = 0.2, 0.5, 0.3

    @every_loss
    @pytest.mark.parametrize("row", [[2.0, 0.1, -1.0], [0.5, 0.6, -0.1], [0.2, 0.5, 0.32], [0.2, 0.5, 0.28], [0.0] * 3])
    def test_that_are_no_probabilities_are_refused_when_eager(self, kind, row):
        with pytest.raises(ValueError, match=rf"{ADVICE}\. Received: \[{row[0]}, {row[1]}, {row[2]}\]"):
            LOSSES[kind]()(labels_for(kind), np.array([self.RIGHT, row], "float32"))

    @every_loss
    @pytest.mark.parametrize("row", [[2.0, 0.1, -1.0], [0.2, 0.5, 0.32]])
    def test_that_are_no_probabilities_give_nan_by_xla_for_their_row(self, kind, row):
        loss = LOSSES[kind](reduction=None)
        rows = np.array([self.RIGHT, row], "float32")
        losses = numbers(compiled_by_xla(lambda y, p: loss(y, p))(labels_for(kind), rows))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])

    @every_loss
    @pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow's graphs can raise")
    def test_that_are_no_probabilities_end_a_graph_with_advice(self, kind):
        import tensorflow as tf

        loss = LOSSES[kind]()
        step = tf.function(lambda y, p: loss(y, p))
        assert np.isfinite(float(step(labels_for(kind), np.array([self.RIGHT, self.RIGHT], "float32"))))
        with pytest.raises(tf.errors.InvalidArgumentError, match=ADVICE):
            step(labels_for(kind), np.array([self.RIGHT, [2.0, 0.1, -1.0]], "float32"))

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_of_a_head_without_softmax_do_not_train(self, jit_compile):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
        model.compile("sgd", kls.SmoothedCE(0.9), jit_compile=jit_compile)
        x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
        if jit_compile:
            assert np.isnan(model.fit(x, y, verbose=0).history["loss"]).all()
            return
        error = ValueError
        if BACKEND == "tensorflow":
            import tensorflow as tf

            error = tf.errors.InvalidArgumentError
        with pytest.raises(error, match=ADVICE):
            model.fit(x, y, verbose=0)

    @pytest.mark.skipif(BACKEND != "tensorflow", reason="Keras keeps a layer's logits on TensorFlow alone")
    def test_of_a_sigmoid_are_refused_although_keras_knows_its_logits(self):
        rows = keras.activations.sigmoid(ops.convert_to_tensor([[2.0, 1.0, -3.0]]))
        assert hasattr(rows, "_keras_logits")
        with pytest.raises(ValueError, match=ADVICE):
            kls.SmoothedCE()([0], rows)

    def test_of_nan_are_no_mistake_of_the_head(self):
        losses = numbers(kls.SmoothedCE(reduction=None)([0, 1], np.array([self.RIGHT, [np.nan] * 3])))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    @pytest.mark.parametrize("k", [10, 1000])
    def test_of_a_softmax_in_any_precision_are_taken(self, dtype, k):
        for scale in (0.0, 0.01, 3.0):
            logits = np.random.default_rng(1).normal(scale=scale, size=(64, k))
            rows = compiled_by_xla(ops.softmax)(ops.cast(logits, dtype))
            value = float(kls.SmoothedCE(0.9)(np.zeros(64), rows))
            assert value == pytest.approx(float(kls.SmoothedCE(0.9, True)(np.zeros(64), logits)), rel=0.02)

    @every_loss
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_of_huge_logits_have_a_finite_loss_and_gradient(self, kind, from_logits):
        loss, labels = (
            LOSSES[kind](from_logits=from_logits),
            labels_for(kind, (1, -1, -1) if kind == "OutlierExposure" else (1, 1, 1)),
        )

        def value(z):
            return loss(labels, z if from_logits else ops.softmax(z))

        assert np.isfinite(float(value(ops.convert_to_tensor(HUGE))))
        assert np.isfinite(gradient(value, HUGE)).all()

    @every_loss
    def test_compiled_give_the_same(self, kind):
        logits, p, labels = sample(k=3)
        labels = labels_for(kind, labels)
        for y_pred, from_logits in ((logits, True), (p, False)):
            loss, y_pred = LOSSES[kind](from_logits=from_logits), y_pred.astype("float32")
            found = compiled(lambda y, z, loss=loss: loss(y, z))(labels, y_pred)
            assert float(found) == pytest.approx(float(loss(labels, y_pred)), rel=1e-6)

    def test_without_a_class_axis_are_refused(self):
        with pytest.raises(ValueError, match=r"y_pred\.shape=\(3,\)"):
            kls.SmoothedCE(0.9)(np.zeros(3, "float32"), np.full(3, 0.5, "float32"))

    def test_of_a_single_class_are_refused(self):
        with pytest.raises(ValueError, match=r"`y_pred` of shape \(N, K\), K >= 2.*y_pred.shape=\(6, 1\)"):
            kls.FocalStd()(np.zeros(6), np.ones((6, 1)))


class TestLabels:
    @of_any_label
    @pytest.mark.parametrize("wrong", [-1, 3, 2.5, float("nan")])
    def test_outside_the_classes_are_refused_when_eager(self, kind, wrong):
        with pytest.raises(ValueError, match=rf"0\.\.2.*{wrong}"):
            LOSSES[kind](from_logits=True)(np.array([0, wrong, 1], "float32"), HUGE)

    @every_loss
    @pytest.mark.parametrize("wrong", [-2, 3])
    def test_outside_the_classes_give_nan_when_compiled(self, kind, wrong):
        loss = LOSSES[kind](from_logits=True, reduction=None)
        labels = labels_for(kind, (0, 1, 2))
        if labels.ndim == 1:
            labels[1] = wrong
        else:
            labels[1, :3] = np.nan  # as `kls.pack_teacher` marks them
        losses = numbers(compiled(lambda y, z: loss(y, z))(labels, np.zeros((3, 3), "float32")))
        np.testing.assert_array_equal(np.isnan(losses), [False, True, False])

    @of_any_label
    @pytest.mark.parametrize("shape", [(6, 4), (6, 3, 1, 1), (), (1,), (1, 1), (1, 3), (5,)])
    def test_of_other_shapes_are_refused_with_both_shapes(self, kind, shape):
        with pytest.raises(ValueError, match=r"y_true\.shape=.*y_pred\.shape=\(6, 3\)"):
            LOSSES[kind]()(np.zeros(shape, "float32"), np.full((6, 3), 1 / 3, "float32"))

    @of_any_label
    def test_in_a_column_are_those_in_a_row(self, kind):
        logits, _, labels = sample(k=3)
        loss = LOSSES[kind](from_logits=True)
        assert float(loss(labels[:, None], logits)) == float(loss(labels, logits))

    @of_any_label
    def test_of_dense_predictions(self, kind):
        logits, _, labels = sample(n=24, k=3)
        loss = LOSSES[kind](from_logits=True, reduction=None)
        for y_true, shape in ((labels, (2, 3, 4)), (np.eye(3)[labels], (2, 3, 4, 3))):
            dense = numbers(loss(y_true.reshape(shape), logits.reshape(2, 3, 4, 3)))
            np.testing.assert_allclose(dense.reshape(-1), numbers(loss(labels, logits)), rtol=1e-6)


class TestDistributionsAsLabels:
    WRONG = [0.5, 0.4, 0.0], [0.5, 0.6, 0.0], [1.1, -0.1, 0.0], [np.nan, 1.0, 0.0], [0.0, 0.0, 0.0], [3.0, 1.0, 2.0]

    @pytest.mark.parametrize("kind", ["SmoothedCE", "KnowledgeDistillation", "FocalStd", "OverfittingCE"])
    @pytest.mark.parametrize("wrong", WRONG)
    def test_that_are_none_are_refused_and_give_nan_when_compiled(self, kind, wrong):
        rows = np.array([[0.2, 0.8, 0.0], wrong], "float32")
        if kind == "KnowledgeDistillation":
            rows = np.concatenate([rows, np.zeros((2, 3), "float32")], axis=1)
        loss, logits = LOSSES[kind](from_logits=True, reduction=None), np.zeros((2, 3), "float32")
        with pytest.raises(ValueError, match=r"`y_true` must hold distributions.*Received: \["):
            loss(rows, logits)
        losses = numbers(compiled(lambda y, z: loss(y, z))(rows, logits))
        np.testing.assert_array_equal(np.isnan(losses), [False, True])

    def test_that_are_mixed_smoothed_or_rounded_are_taken(self):
        mixed = numbers(
            kls.targets.mix(kls.targets.smooth([0, 1], 1000, 0.9), kls.targets.smooth([5, 7], 1000, 1), 0.3)
        )
        rounded = ops.cast(mixed, "bfloat16")
        for rows in (mixed, rounded):
            assert np.isfinite(float(kls.SmoothedCE(0.9, from_logits=True)(rows, np.zeros((2, 1000)))))


NO_NUMBERS = {
    "strings": np.array(["0", "1"]),
    "objects": np.array([0, None], dtype=object),
    "complex numbers": np.array([0j, 1]),
    "a masked array": np.ma.masked_array([0, 1], [True, False]),
    "ragged": [[0], [1, 2]],
}


class TestWhatIsNoArrayOfNumbers:
    @every_loss
    @pytest.mark.parametrize("wrong", NO_NUMBERS)
    @pytest.mark.parametrize("name", ["y_true", "y_pred", "sample_weight"])
    def test_is_refused_by_name(self, kind, name, wrong):
        given = {"y_true": labels_for(kind), "y_pred": np.full((2, 3), 1 / 3, "float32"), "sample_weight": None}
        with pytest.raises(ValueError, match=f"`{name}` must"):
            LOSSES[kind]()(**{**given, name: NO_NUMBERS[wrong]})

    def test_is_refused_as_a_tensor(self):
        with pytest.raises(ValueError, match=r"`y_pred` must be an array of real numbers.*complex64"):
            kls.SmoothedCE()([0], ops.convert_to_tensor(np.ones((1, 2), "complex64")))


class TestArguments:
    @pytest.mark.parametrize(
        ("loss", "expected"),
        [
            (kls.SmoothedCE(), "SmoothedCE(gamma=0.9, from_logits=False)"),
            (kls.SmoothedCE(1, True, name="mine"), "SmoothedCE(gamma=1.0, from_logits=True)"),
            (kls.OutlierExposure(), "OutlierExposure(gamma=1.0, weight=0.5, from_logits=False)"),
            (kls.WeightedSoftLabels(), "WeightedSoftLabels(alpha=2.25, temperature=4.0, from_logits=False)"),
            (kls.FocalStd(), "FocalStd(k=1.0, std_weight=1.0, from_logits=False, as_printed=False)"),
            (OverfittingCE(3), "OverfittingCE(classes=3, mode='loss', alpha=0.1, from_logits=False)"),
            (
                kls.KnowledgeDistillation(),
                "KnowledgeDistillation(alpha=0.1, temperature=3.0, from_logits=False, scale_by_temperature=False, "
                "reduce_teachers='mean')",
            ),
        ],
    )
    def test_repr_shows_the_arguments(self, loss, expected):
        assert repr(loss) == expected

    @pytest.mark.parametrize(
        ("kind", "arguments"),
        [
            (kls.SmoothedCE, {"gamma": 0.7}),
            (kls.OutlierExposure, {"gamma": 0.7, "weight": 0.2}),
            (
                kls.KnowledgeDistillation,
                {"alpha": 0.2, "temperature": 4.0, "scale_by_temperature": True, "reduce_teachers": "sum"},
            ),
            (kls.WeightedSoftLabels, {"alpha": 1.5, "temperature": 2.0}),
            (kls.FocalStd, {"k": 0.7, "std_weight": 2.0, "as_printed": True}),
        ],
    )
    def test_the_config_keeps_all_arguments(self, kind, arguments):
        arguments = {**arguments, "from_logits": True, "reduction": "sum", "name": "mine"}
        loss = keras.losses.deserialize(keras.losses.serialize(kind(**arguments)))
        assert type(loss) is kind
        assert {name: getattr(loss, name) for name in arguments} == arguments

    def test_the_default_name(self):
        assert kls.OutlierExposure().name == "outlier_exposure"

    @every_loss
    def test_the_config_keeps_the_dtype(self, kind):
        loss = LOSSES[kind](dtype="float64")
        assert keras.losses.deserialize(keras.losses.serialize(loss)).dtype == "float64"
        assert keras.losses.deserialize(keras.losses.serialize(LOSSES[kind]())).dtype == "float32"

    @every_loss
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_a_dtype_that_does_not_hold_every_class_index_is_refused(self, kind, dtype):
        with pytest.raises(ValueError, match=f"`dtype` must be one of 'float32', 'float64'.*dtype='{dtype}'"):
            LOSSES[kind](dtype=dtype)

    @pytest.mark.parametrize(
        ("kind", "arguments"),
        [(kls.SmoothedCE, {"gamma": 0.8}), (kls.FocalStd, {"k": 0.5, "std_weight": 2.0, "as_printed": True})],
    )
    def test_a_trained_and_saved_model_keeps_its_loss(self, kind, arguments, tmp_path):
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3, activation="softmax")])
        model.compile(keras.optimizers.SGD(0.1), kind(**arguments))
        x, y = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.arange(8) % 3
        model.fit(x, y, verbose=0)
        expected = model.evaluate(x, y, verbose=0)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert {name: getattr(again.loss, name) for name in arguments} == arguments
        assert again.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-6)
