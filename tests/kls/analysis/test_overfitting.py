import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from sklearn.metrics import log_loss

import kls
from kls import FullStateCheckpoint
from kls.analysis.overfitting import (
    ClassLosses,
    ClassWeights,
    OverfittingCE,
    OverfittingWeights,
    overfitting_to_generalization,
)
from kls.study.train import mirrored_strategy

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(24, 4)).astype("float32"), np.arange(24) % 3
X_OTHER, Y_OTHER = RNG.normal(size=(15, 4)).astype("float32"), np.arange(15) % 3
SETS = {"train": (X, Y), "validation": (X_OTHER, Y_OTHER)}


def network(activation=None):
    """A small classifier that draws in training."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(6, "tanh"), keras.layers.Dropout(0.2)]
    return keras.Sequential([keras.layers.Input((4,)), *layers, keras.layers.Dense(3, activation=activation)])


def fitted(model, callbacks, epochs, initial_epoch=0, batch_size=8):
    """Returns the history of a fit without shuffling; TensorFlow takes the data as `kls.utils.data.feed` makes them."""
    data = {"x": X, "y": Y, "batch_size": batch_size}
    if BACKEND == "tensorflow":
        import tensorflow as tf

        options = tf.data.Options()
        options.autotune.enabled = False
        data = {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch_size).with_options(options)}
    more = {"epochs": epochs, "initial_epoch": initial_epoch, "shuffle": False, "verbose": 0}
    return model.fit(**data, **more, callbacks=callbacks).history


def compiled(loss="sparse_categorical_crossentropy", metrics=(), model=None):
    model = model or network(None if isinstance(loss, OverfittingCE) else "softmax")
    model.compile(keras.optimizers.SGD(0.3), loss, metrics=list(metrics))
    return model


def softmax(logits):
    return keras.ops.convert_to_numpy(ops.softmax(logits))


class Probabilities(keras.callbacks.Callback):
    """Keeps what the model says of each set at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.found = []

    def on_epoch_end(self, epoch, logs=None):
        outputs = [ops.convert_to_numpy(self.model(x, training=False)) for x, _ in SETS.values()]
        self.found.append([p if np.allclose(p.sum(axis=1), 1) else softmax(p) for p in outputs])


def losses_by_sklearn(probabilities, labels):
    return [log_loss(labels[labels == k], probabilities[labels == k], labels=[0, 1, 2]) for k in range(3)]


class TestRatio:
    TRAIN = np.array([[2.0, 1.0, 1.0], [1.5, 0.8, 1.0], [1.0, 0.5, 0.9]])
    VALIDATION = np.array([[2.2, 1.1, 2.0], [1.9, 1.3, 2.0], [1.8, 1.2, 1.0]])

    def test_by_hand(self):
        found = overfitting_to_generalization(self.TRAIN, self.VALIDATION, window=2)
        # the gaps grow by 0.8 - 0.2, 0.7 - 0.1 and 0.1 - 1; the validation losses fall by 0.4, -0.1 and 1
        np.testing.assert_allclose(found, [[(0.6 / 0.4) ** 2, (0.6 / -0.1) ** 2, (-0.9 / 1.0) ** 2]])

    def test_a_window_later_is_a_row_later(self):
        found = overfitting_to_generalization(self.TRAIN, self.VALIDATION, window=1)
        assert found.shape == (2, 3)
        later = overfitting_to_generalization(self.TRAIN[1:], self.VALIDATION[1:], window=1)
        assert np.array_equal(found[1:], later)

    def test_is_infinite_without_generalisation_zero_without_overfitting(self):
        train = [[1.0, 1.0, 1.0], [0.5, 1.0, 0.5]]
        validation = [[2.0, 2.0, 2.0], [2.0, 2.0, 1.5]]
        assert overfitting_to_generalization(train, validation, window=1).tolist() == [[np.inf, 0.0, 0.0]]

    @pytest.mark.parametrize("window", [3, 10])
    def test_has_no_row_before_the_first_window_is_full(self, window):
        assert overfitting_to_generalization(self.TRAIN, self.VALIDATION, window).shape == (0, 3)

    @given(
        losses=arrays("float64", (2, 4, 3), elements=st.integers(0, 64).map(lambda n: n / 8)),
        shift=st.integers(-8, 8),
        scale=st.sampled_from([0.5, 4.0]),
    )
    def test_sees_neither_the_level_nor_the_unit_of_the_losses(self, losses, shift, scale):
        found = overfitting_to_generalization(*losses, window=2)
        assert np.array_equal(overfitting_to_generalization(*(scale * losses + shift), window=2), found)

    @pytest.mark.parametrize(
        ("train", "message"),
        [
            (np.zeros((2, 3)), r"Received: shapes \(2, 3\) and \(3, 3\)"),
            (np.zeros(3), r"Received: shapes \(3,\) and \(3, 3\)"),
        ],
    )
    def test_refuses(self, train, message):
        with pytest.raises(ValueError, match=message):
            overfitting_to_generalization(train, np.zeros((3, 3)), window=1)


class Bare(keras.utils.PyDataset):
    """One batch of images without labels."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return (X,)


class TestClassLosses:
    def test_are_those_of_scikit_learn_in_inference_mode(self):
        record, seen = ClassLosses(SETS, batch_size=7), Probabilities()
        fitted(compiled(), [record, seen], epochs=2)
        assert record.epochs.tolist() == [0, 1]
        for index, (name, (_, labels)) in enumerate(SETS.items()):
            assert record.losses[name].shape == record.accuracies[name].shape == (2, 3)
            for epoch in range(2):
                probabilities = seen.found[epoch][index]
                expected = losses_by_sklearn(probabilities, labels)
                np.testing.assert_allclose(record.losses[name][epoch], expected, rtol=1e-5)
                right = probabilities.argmax(axis=1) == labels
                expected = [right[labels == k].mean() for k in range(3)]
                np.testing.assert_allclose(record.accuracies[name][epoch], expected)

    def test_of_a_distiller_are_those_of_its_student(self):
        record, student = ClassLosses({"test": (X, np.eye(3)[Y])}), network()
        distiller = kls.Distiller(student, network(), from_logits=True)
        distiller.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        fitted(distiller, [record], epochs=1)
        expected = losses_by_sklearn(softmax(student(X, training=False)), Y)
        np.testing.assert_allclose(record.losses["test"], [expected], rtol=1e-5)

    def test_of_a_class_without_samples_are_nan(self):
        record = ClassLosses({"two": (X[Y < 2], Y[Y < 2])})
        record.set_model(compiled())
        record.evaluate(0)
        assert np.isnan(record.losses["two"]).tolist() == [[False, False, True]]
        assert np.isnan(record.accuracies["two"]).tolist() == [[False, False, True]]

    def test_come_every_so_often_and_at_the_end(self):
        record, model = ClassLosses(SETS, every=3), compiled()
        fitted(model, [record], epochs=6)
        assert record.epochs.tolist() == [0, 3, 5]
        first = record.losses["train"][:2].copy()
        fitted(model, [record], epochs=6, initial_epoch=4)
        assert record.epochs.tolist() == [0, 3, 5]
        assert np.array_equal(record.losses["train"][:2], first)
        fitted(model, [record], epochs=1)
        assert record.epochs.tolist() == [0]

    def test_are_kept_by_a_checkpoint(self, tmp_path):
        def run(epochs):
            record = ClassLosses(SETS)
            checkpoint = FullStateCheckpoint(tmp_path, callbacks=[record])
            fitted(compiled(), [record, checkpoint], epochs, checkpoint.epoch)
            return record

        first, second = run(1), run(2)
        assert second.epochs.tolist() == [0, 1]
        assert np.array_equal(second.losses["validation"][:1], first.losses["validation"])

    def test_refuse_data_without_labels(self):
        with pytest.raises(ValueError, match=r"`data` must have labels.*none in `bare`"):
            ClassLosses({"bare": X})
        record = ClassLosses({"bare": Bare()})
        record.set_model(compiled())
        with pytest.raises(ValueError, match=r"`data` must have labels.*none in `bare`"):
            record.evaluate(0)


class TestLoss:
    LOGITS = RNG.normal(size=(24, 3)).astype("float32")
    WEIGHTS = np.array([0.3, 2.2, 0.5], "float32")

    def loss_with(self, weights, **arguments):
        loss = OverfittingCE(**{"classes": 3, "from_logits": True, "reduction": None, **arguments})
        loss.class_weights.weights.assign(weights)
        return loss

    def test_weighs_the_cross_entropy_of_keras(self):
        keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
        expected = ops.convert_to_numpy(keras_loss(Y, self.LOGITS, sample_weight=self.WEIGHTS[Y]))
        found = ops.convert_to_numpy(self.loss_with(self.WEIGHTS)(Y, self.LOGITS))
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert found.mean() == pytest.approx(float(self.loss_with(self.WEIGHTS, reduction="mean")(Y, self.LOGITS)))

    def test_softens_labels_towards_the_weights(self):
        labels = 0.8 * np.eye(3)[Y] + 0.2 * self.WEIGHTS / 3
        keras_loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction=None)
        expected = ops.convert_to_numpy(keras_loss(labels, self.LOGITS))
        loss = self.loss_with(self.WEIGHTS, mode="label", alpha=0.2)
        np.testing.assert_allclose(ops.convert_to_numpy(loss(Y, self.LOGITS)), expected, rtol=1e-5)

    @pytest.mark.parametrize(("mode", "smoothing"), [("loss", 0.0), ("label", 0.3)])
    def test_begins_as_plain_cross_entropy_and_label_smoothing(self, mode, smoothing):
        keras_loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
        expected = float(keras_loss(np.eye(3)[Y], softmax(self.LOGITS)))
        found = OverfittingCE(classes=3, mode=mode, alpha=0.3)(Y, softmax(self.LOGITS))
        assert float(found) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("mode", ["loss", "label"])
    def test_is_linear_in_the_label(self, mode):
        loss = self.loss_with(self.WEIGHTS, mode=mode)
        other = (Y + 1) % 3
        mixed = 0.4 * np.eye(3)[Y] + 0.6 * np.eye(3)[other]
        expected = 0.4 * loss(Y, self.LOGITS) + 0.6 * loss(other[:, None], self.LOGITS)
        found = ops.convert_to_numpy(loss(mixed.astype("float32"), self.LOGITS))
        np.testing.assert_allclose(found, ops.convert_to_numpy(expected), rtol=1e-5)

    @pytest.mark.parametrize("mode", ["loss", "label"])
    def test_refuses_a_class_that_is_none(self, mode):
        with pytest.raises(ValueError, match=r"class indices in 0\.\.2.*Received: \[3\.0\]"):
            OverfittingCE(classes=3, mode=mode)(np.full(24, 3), softmax(self.LOGITS))

    def test_is_restored_from_its_config_with_even_weights(self):
        loss = self.loss_with(self.WEIGHTS, mode="label", alpha=0.25)
        restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
        assert restored.get_config() == loss.get_config()
        assert ops.convert_to_numpy(restored.class_weights.weights).tolist() == [1, 1, 1]

    def test_refuses_other_classes_than_its_own(self):
        with pytest.raises(ValueError, match=r"`y_pred` must be of shape \(N, 4\). Received: shape \(24, 3\)"):
            OverfittingCE(classes=4)(Y, self.LOGITS)


def test_class_weights_are_neither_updated_nor_reset():
    metric = ClassWeights(classes=3)
    metric.weights.assign([0.5, 2.0, 0.5])
    metric.update_state(Y, np.eye(3)[Y])
    metric.reset_state()
    assert float(metric.result()) == 2.0
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert restored.get_config() == metric.get_config()


def weighing(mode="loss", window=2, every=1):
    """Returns a loss and the callback that sets its weights."""
    loss = OverfittingCE(classes=3, mode=mode, from_logits=True)
    return loss, OverfittingWeights(loss, *SETS.values(), window=window, every=every)


class WeightsOfEpochs(keras.callbacks.Callback):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.found = []

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.found.append(np.array(ops.convert_to_numpy(self.loss.class_weights.weights)))


class TestWeights:
    def test_of_an_epoch_are_the_ratios_of_the_epochs_before(self):
        loss, callback = weighing()
        seen, weights = Probabilities(), WeightsOfEpochs(loss)
        history = fitted(compiled(loss, [loss.class_weights]), [callback, seen, weights], epochs=5)
        train, validation = (
            np.array([losses_by_sklearn(found[i], labels) for found in seen.found])
            for i, (_, labels) in enumerate(SETS.values())
        )
        assert [w.tolist() for w in weights.found[:3]] == [[1, 1, 1]] * 3
        for epoch in (3, 4):
            first, last = epoch - 3, epoch - 1
            growth = (validation[last] - train[last]) - (validation[first] - train[first])
            ratios = (growth / (validation[first] - validation[last])) ** 2
            np.testing.assert_allclose(weights.found[epoch], ratios / ratios.mean(), rtol=1e-3)
            assert history["largest_class_weight"][epoch] == pytest.approx(weights.found[epoch].max())
        assert not np.allclose(weights.found[3], weights.found[4])

    @pytest.mark.parametrize("mode", ["loss", "label"])
    def test_take_effect_in_compiled_training(self, mode):
        loss, callback = weighing(mode, window=1)
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
        outputs, weights = [], WeightsOfEpochs(loss)
        keep = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: outputs.append(softmax(model(X, training=False)))
        )
        compiled(loss, [loss.class_weights], model)
        history = fitted(model, [callback, keep, weights], epochs=4, batch_size=24)
        for epoch, logged in enumerate(history["loss"]):
            of_samples = -np.log(outputs[epoch])
            if mode == "loss":
                expected = (of_samples[np.arange(24), Y] * weights.found[epoch][Y]).mean()
            else:
                expected = ((0.9 * np.eye(3)[Y] + 0.1 * weights.found[epoch] / 3) * of_samples).sum(axis=1).mean()
            assert logged == pytest.approx(expected, rel=1e-5)
        assert np.ptp(weights.found[3]) > 0.1

    def test_of_a_resumed_run_end_with_the_bits_of_an_uninterrupted_one(self, tmp_path):
        def run(directory, epochs):
            loss, callback = weighing()
            model = compiled(loss, [loss.class_weights])
            checkpoint = FullStateCheckpoint(directory, callbacks=[callback])
            fitted(model, [callback, checkpoint], epochs, checkpoint.epoch)
            return [*model.get_weights(), callback.record], checkpoint.history

        whole, history = run(tmp_path / "whole", 6)
        run(tmp_path / "parts", 4)
        resumed, resumed_history = run(tmp_path / "parts", 6)
        assert all(np.array_equal(a, b) for a, b in zip(whole, resumed, strict=True))
        assert resumed_history == history
        assert history[-1]["largest_class_weight"] > 1

    def set_at(self, epoch, epochs, train, validation, **arguments):
        """Returns the weights that an epoch begins with, given the losses of epochs before."""
        loss, callback = weighing(**arguments)
        callback.epochs = np.array(epochs)
        callback.record = np.zeros((len(epochs), 2, 2, 3))
        callback.record[:, 0, 0], callback.record[:, 1, 0] = train, validation
        callback.on_epoch_begin(epoch)
        return ops.convert_to_numpy(loss.class_weights.weights).tolist()

    def test_an_infinite_ratio_counts_as_the_largest_finite_one(self):
        train, validation = [[1, 1, 1], [0.5, 0, 0]], [[2, 3, 2], [2, 2.5, 1]]
        # the gaps grow by 0.5, 0.5 and 0; the validation losses fall by 0, 0.5 and 1
        assert self.set_at(2, [0, 1], train, validation, window=1) == [1.5, 1.5, 0]

    def test_are_even_where_all_ratios_vanish(self):
        train, validation = [[1, 1, 1], [0, 0, 0.5]], [[2, 3, 2], [1, 2, 1.5]]
        assert self.set_at(2, [0, 1], train, validation, window=1) == [1, 1, 1]

    def test_take_the_last_two_epochs_that_are_a_window_apart(self):
        train = [[1, 1, 1], [1, 1, 1], [0, 1, 1], [9, 9, 9]]
        validation = [[2, 2, 2], [2, 2, 2], [1.5, 1.5, 1.5], [9, 9, 9]]
        # from epoch 2 to 4 the gaps grow by 0.5, -0.5 and -0.5, the validation losses fall by 0.5; 5 has no partner
        assert self.set_at(6, [0, 2, 4, 5], train, validation, window=2, every=2) == [1, 1, 1]
        train[2] = [0, 1.5, 1.5]
        # now they grow by 0.5, -1 and -1: ratios 1, 4, 4
        np.testing.assert_allclose(
            self.set_at(6, [0, 2, 4, 5], train, validation, window=2, every=2), [1 / 3, 4 / 3, 4 / 3]
        )

    def test_forget_an_earlier_run(self):
        train, validation = [[1, 1, 1], [0, 1, 1]], [[2, 2, 2], [1.5, 1, 1]]
        assert self.set_at(0, [0, 1], train, validation, window=1) == [1, 1, 1]

    def test_must_be_among_the_metrics(self):
        loss, callback = weighing()
        with pytest.raises(ValueError, match=r"must be compiled with `metrics=\[\.\.\., loss.class_weights\]`"):
            fitted(compiled(loss, ["accuracy"]), [callback], epochs=1)

    def test_need_samples_of_every_class(self):
        loss = OverfittingCE(classes=3, from_logits=True)
        callback = OverfittingWeights(loss, (X, Y), (X[Y != 1], Y[Y != 1]))
        callback.set_model(compiled(loss))
        with pytest.raises(
            ValueError, match=r"`validation` must hold samples of every class. Received: none of class 1"
        ):
            callback.evaluate(0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's own")
def test_each_replica_has_the_whole_weights():
    with mirrored_strategy().scope():
        weights = ClassWeights(3)
    weights.weights.assign([0.5, 1.0, 1.5])
    for replica in mirrored_strategy().run(lambda: weights.weights + 0.0).values:
        np.testing.assert_array_equal(replica, [0.5, 1.0, 1.5])
