import keras
import numpy as np
import pytest

import kls
from kls.metrics import IDAccuracy

# right, wrong, an outlier, right
LABELS = np.array([0, 1, -1, 2])
ROWS = np.array([[0.9, 0.1, 0], [0.8, 0.1, 0.1], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]], "float32")

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(19, 4)).astype("float32"), RNG.integers(3, size=19)


def found(labels, rows, weights=None, metric=None):
    metric = metric or IDAccuracy()
    metric.update_state(labels, rows, weights)
    return float(metric.result())


def network(loss):
    """Returns a model that training leaves as it is, and whether it is right about each of `X`."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(0.0), loss, metrics=[IDAccuracy()])
    return model, model.predict(X, verbose=0).argmax(axis=1) == Y


@pytest.mark.parametrize("weights", [None, [1.0, 1, 1, 1], [[2.0], [1.0], [9.0], [0.0]]])
def test_outliers_do_not_count(weights):
    for labels in (LABELS, LABELS[:, None], LABELS.astype("float32")):
        assert found(labels, ROWS, weights) == pytest.approx(2 / 3)


def test_without_outliers_it_is_keras_accuracy():
    rows = RNG.dirichlet([1, 1, 1], 19).astype("float32")
    assert found(Y, rows) == pytest.approx(found(Y, rows, metric=keras.metrics.SparseCategoricalAccuracy()))


def test_a_batch_without_id_samples_adds_nothing():
    outliers = np.full(4, -1)
    assert found(outliers, ROWS) == 0
    metric = IDAccuracy()
    for labels in (outliers, LABELS, outliers):
        metric.update_state(labels, ROWS)
    assert float(metric.result()) == pytest.approx(2 / 3)


def test_nan_counts_where_the_sample_does():
    for row, value in ((2, 2 / 3), (0, np.nan)):
        rows = ROWS.copy()
        rows[row] = np.nan
        assert found(LABELS, rows) == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("wrong", [-2, 3])
def test_another_label_is_refused_and_gives_nan_by_xla(wrong):
    labels = np.array([0, wrong, -1, 2])
    with pytest.raises(ValueError, match=rf"`y_true` must hold class indices in 0\.\.2.*\[{wrong}"):
        found(labels, ROWS)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
    model.compile(loss=kls.OutlierExposure(), metrics=[IDAccuracy()], jit_compile=True)
    assert np.isnan(model.evaluate(ROWS, labels, verbose=0, return_dict=True)["accuracy"])


@pytest.mark.parametrize("weights", [None, [2.0, 1.0, 0.5, 0.0]])
def test_of_distributions_it_is_keras_categorical_accuracy(weights):
    mixed = np.array([[0.6, 0.4, 0], [0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0, 1, 0]], "float32")
    expected = found(mixed, ROWS, weights, keras.metrics.CategoricalAccuracy())
    assert found(mixed, ROWS, weights) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(3,), (4, 2), (3, 3)])
def test_labels_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"`y_true` must hold class indices.*y_true\.shape"):
        found(np.zeros(shape, "int32"), ROWS)


def test_training_on_mixed_labels_and_validation_on_indices_share_it():
    model, right = network(kls.SmoothedCE(from_logits=True))
    mixed = (0.7 * np.eye(3)[Y] + 0.3 * np.eye(3)[Y[::-1]]).astype("float32")
    history = model.fit(X, mixed, validation_data=(X, Y), batch_size=19, verbose=0).history
    assert history["accuracy"] == history["val_accuracy"] == [pytest.approx(right.mean())]


def test_fit_with_outlier_exposure():
    model, right = network(kls.OutlierExposure(from_logits=True))
    labels = np.where(np.arange(19) % 3 == 0, -1, Y)
    labels[8:16] = -1
    history = model.fit(X, labels, batch_size=8, shuffle=False, verbose=0).history
    assert history["accuracy"] == [pytest.approx(right[labels != -1].mean())]
    assert np.isfinite(history["loss"]).all()


def test_config_round_trip():
    again = keras.metrics.deserialize(keras.metrics.serialize(IDAccuracy(name="mine", dtype="float64")))
    assert (type(again), again.name, again.dtype) == (IDAccuracy, "mine", "float64")
    assert IDAccuracy().name == "accuracy"
