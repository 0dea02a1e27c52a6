"""The streaming metrics within `fit` and `evaluate`, and what they refuse there and in eager calls."""

import keras
import numpy as np
import pytest
from keras import ops

import kls
from kls import calibration
from kls.metrics import BrierScore, ExpectedCalibrationError, NegativeLogLikelihood
from kls.study.train import mirrored_strategy

BACKEND = keras.backend.backend()
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own")
ADVICE = "`y_pred` must be probabilities.*: pass from_logits=True or end the model in softmax"

# one metric for each way to add a batch, and the array function
METRICS = {
    "ece": (ExpectedCalibrationError, calibration.expected_calibration_error),
    "nll": (NegativeLogLikelihood, calibration.negative_log_likelihood),
    "brier": (BrierScore, calibration.brier_score),
}
each = pytest.mark.parametrize("kind", [kind for kind, _ in METRICS.values()], ids=METRICS)

# two batches of eight and an uneven one of three
RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(19, 4)).astype("float32"), RNG.integers(3, size=19)
WEIGHTS = RNG.uniform(0, 3, 19).astype("float32")
P = RNG.dirichlet([1, 1, 1], 19).astype("float32")


def network(metrics="metrics", more=None):
    """Returns a model with each metric, whose weights training leaves as they are."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.set_weights([np.random.default_rng(4).normal(size=(4, 3)), np.zeros(3)])
    found = {metrics: [kind() for kind, _ in METRICS.values()], **(more or {})}
    model.compile(keras.optimizers.SGD(0.0), kls.SmoothedCE(0.9), jit_compile=BACKEND == "jax", **found)
    return model


def evaluated(model, x, labels, weights=None):
    logs = model.evaluate(x, labels, sample_weight=weights, batch_size=8, verbose=0, return_dict=True)
    return reported(logs)


def reported(logs, prefix=""):
    return {name: logs[prefix + name] for name in METRICS}


def predictions(model, x):
    return ops.convert_to_numpy(ops.cast(model.predict(x, verbose=0), "float32"))


def measured(p, labels, weights=None):
    """Returns what a network's logs must hold: the array functions on the predictions of all data at once."""
    values = {name: function(labels, p, sample_weight=weights) for name, (_, function) in METRICS.items()}
    return {name: pytest.approx(value, rel=2e-6, abs=1e-6) for name, value in values.items()}


def by_xla(metric, labels, rows):
    """Returns the metric's result in code that cannot raise."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    model.compile(loss=kls.SmoothedCE(), metrics=[metric], jit_compile=True)
    return model.evaluate(rows, labels, verbose=0, return_dict=True)[metric.name]


class TestTraining:
    def test_fit_and_validation_report_the_array_functions(self):
        model = network(more={"weighted_metrics": [ExpectedCalibrationError(name="weighted")]})
        p, held_out = predictions(model, X), (X[8:], Y[8:], WEIGHTS[8:])
        history = model.fit(
            X, Y, sample_weight=WEIGHTS, validation_data=held_out, batch_size=8, epochs=2, verbose=0
        ).history
        for epoch in (0, 1):
            logs = {name: values[epoch] for name, values in history.items()}
            assert reported(logs) == measured(p, Y)
            assert logs["weighted"] == measured(p, Y, WEIGHTS)["ece"]
            assert reported(logs, "val_") == measured(p[8:], Y[8:])
            assert logs["val_weighted"] == measured(p[8:], Y[8:], WEIGHTS[8:])["ece"]

    @pytest.mark.skipif(BACKEND == "jax", reason="XLA leaves out the rounding to bfloat16")
    @pytest.mark.usefixtures("bfloat16")
    def test_bfloat16_outputs_with_label_columns_are_summed_in_float32(self):
        model = network()
        assert model.compute_dtype == "bfloat16"
        assert evaluated(model, X, Y[:, None]) == measured(predictions(model, X), Y)
        assert {keras.backend.standardize_dtype(v.dtype) for v in model.metrics_variables} == {"float32"}

    @on_tensorflow
    def test_two_replicas_and_an_uneven_last_batch_are_one(self):
        with mirrored_strategy().scope():
            model = network("weighted_metrics")
        p = predictions(model, X)
        for n in (19, 17):  # the last batch is two samples and one, or one and none
            assert evaluated(model, X[:n], Y[:n], WEIGHTS[:n]) == measured(p[:n], Y[:n], WEIGHTS[:n])

    def test_a_saved_model_keeps_them(self, tmp_path):
        model = network("weighted_metrics")
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert evaluated(again, X, Y, WEIGHTS) == measured(predictions(model, X), Y, WEIGHTS)


class TestPredictions:
    @each
    @pytest.mark.parametrize("row", [[2.0, 0.1, -1.0], [0.5, 0.6, -0.1], [0.2, 0.5, 0.32], [0.2, 0.5, 0.28]])
    def test_that_are_no_probabilities_are_refused_and_give_nan_by_xla(self, kind, row):
        p = P.copy()
        p[4] = row
        with pytest.raises(ValueError, match=rf"{ADVICE}\. Received: \[{row[0]}"):
            kind().update_state(Y, p)
        assert np.isnan(by_xla(kind(), Y, p))

    @on_tensorflow  # elsewhere compiled code cannot raise
    @each
    def test_of_a_head_without_softmax_stop_an_evaluation(self, kind):
        import tensorflow as tf

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        model.compile(loss=kls.SmoothedCE(from_logits=True), metrics=[kind()])
        with pytest.raises(tf.errors.InvalidArgumentError, match=ADVICE):
            model.evaluate(X, Y, verbose=0)

    @each
    def test_with_a_mask_are_refused(self, kind):
        with pytest.raises(ValueError, match="`y_pred` must not be masked"):
            kind().update_state(Y, np.ma.masked_array(P, P > 0.5))

    @on_tensorflow  # elsewhere Keras takes the mask off before its metrics
    @each
    def test_with_the_mask_of_a_layer_are_refused(self, kind):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Masking(), keras.layers.Dense(3, "softmax")])
        model.compile(loss=kls.SmoothedCE(), metrics=[kind()])
        with pytest.raises(ValueError, match="`y_pred` must not be masked"):
            model.evaluate(X, Y, verbose=0)

    @pytest.mark.parametrize("shape", [(4, 1), (4,), (1, 4, 3)])
    @each
    def test_other_than_of_two_classes_or_more_are_refused(self, kind, shape):
        with pytest.raises(ValueError, match=r"y_pred"):
            kind().update_state(np.zeros(4, "int32"), np.full(shape, 0.5, "float32"))


class TestLabelsAndWeights:
    @pytest.mark.parametrize("wrong", [-1, 3, 1.5, float("nan")])
    @each
    def test_a_label_outside_gives_no_number(self, kind, wrong):
        labels = Y.astype("float32")
        labels[5] = wrong
        metric = kind()
        try:
            metric.update_state(labels, P)
        except ValueError as error:
            assert "0..2" in str(error)  # noqa: PT017
        else:
            assert np.isnan(metric.result())

    @pytest.mark.parametrize("shape", [(1,), (1, 1), (8,), (19, 2)])
    @each
    def test_labels_that_do_not_fit_are_refused_with_both_shapes(self, kind, shape):
        with pytest.raises(ValueError, match=r"y_true.*y_pred.*\(19, 3\)"):
            kind().update_state(np.zeros(shape, "int32"), P)

    @pytest.mark.parametrize("row", [[0.5, 0.4, 0], [1.1, -0.1, 0], [np.nan, 0, 1]])
    @each
    def test_label_rows_that_are_no_distributions_are_refused(self, kind, row):
        rows = np.eye(3, dtype="float32")[Y]
        rows[3] = row
        with pytest.raises(ValueError, match="`y_true` must hold distributions"):
            kind().update_state(rows, P)
        assert np.isnan(by_xla(kind(), rows, P))

    @pytest.mark.parametrize("shape", [(8,), (1,), (), (19, 3), (19, 1, 1)])
    @each
    def test_weights_that_do_not_fit_are_refused_with_both_shapes(self, kind, shape):
        with pytest.raises(ValueError, match=r"`sample_weight` must be of shape.*y_pred\.shape=\(19, 3\)"):
            kind().update_state(Y, P, np.ones(shape))
