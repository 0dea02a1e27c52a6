import collections
import csv
import io
import re

import keras
import numpy as np
import pytest

import kls
from kls import CalibrationCallback, FullStateCheckpoint, OODCallback
from kls.ood import scores
from kls.utils.feature_extractor import Network

X = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


def model(units=8, optimizer="adam", dropout=0.3):
    """A network with all that has a state: batch statistics, dropout seeds, Adam's moments."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(units, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(2, activation="softmax"),
    ]
    network = keras.Sequential(layers)
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def fit(network, directory, epochs, others=()):
    checkpoint = FullStateCheckpoint(directory, callbacks=others)
    network.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        initial_epoch=checkpoint.epoch,
        shuffle=False,
        verbose=0,
        validation_data=(X, Y),
        callbacks=[*others, checkpoint],
    )
    return checkpoint


def state(network):
    return [np.array(v) for v in [*network.variables, *network.optimizer.variables]]


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    whole = model()
    history = fit(whole, tmp_path / "whole", epochs=4).history
    fit(model(), tmp_path / "parts", epochs=2)
    resumed = model()
    checkpoint = fit(resumed, tmp_path / "parts", epochs=4)
    assert all(np.array_equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))
    assert checkpoint.history == history
    assert len(history) == checkpoint.epoch == 4


def test_without_the_optimiser_it_would_not(tmp_path):
    whole, half, weights_alone = (model(dropout=0.0) for _ in range(3))
    fit(whole, tmp_path / "whole", epochs=4)
    fit(half, tmp_path / "parts", epochs=2)
    weights_alone.set_weights(half.get_weights())
    weights_alone.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert not np.array_equal(weights_alone.get_weights()[0], whole.get_weights()[0])


def test_other_callbacks_go_on_where_they_were(tmp_path):
    def patience():
        return keras.callbacks.EarlyStopping(monitor="loss", min_delta=100, patience=3, restore_best_weights=True)

    first = patience()
    fit(model(), tmp_path, epochs=3, others=[first])
    second = patience()
    checkpoint = fit(model(), tmp_path, epochs=9, others=[second])
    assert (first.wait, second.wait) == (2, 3)
    assert checkpoint.epoch == 4
    assert second.best == first.best
    assert all(np.array_equal(a, b) for a, b in zip(first.best_weights, second.best_weights, strict=True))


def test_a_finished_model_is_restored_without_fit(tmp_path):
    trained = model()
    fit(trained, tmp_path, epochs=1)
    again = model()
    FullStateCheckpoint(tmp_path).restore(again)
    assert all(np.array_equal(a, b) for a, b in zip(state(trained), state(again), strict=True))


@pytest.mark.parametrize("other", [{"units": 9}, {"optimizer": "adamax"}])
def test_another_model_or_optimiser_is_refused(tmp_path, other):
    fit(model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="saved by another model"):
        fit(model(**other), tmp_path, epochs=2)


def test_other_callbacks_than_the_saved_are_refused(tmp_path):
    fit(model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="other callbacks"):
        fit(model(), tmp_path, epochs=2, others=[keras.callbacks.EarlyStopping()])


def test_a_model_that_is_not_built_is_refused(tmp_path):
    fit(model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match="begin it with an `Input` layer"):
        FullStateCheckpoint(tmp_path).restore(keras.Sequential([keras.layers.Dense(2)]))


def test_the_wrong_initial_epoch_is_refused(tmp_path):
    fit(model(), tmp_path, epochs=2)
    with pytest.raises(ValueError, match="`initial_epoch` must be 2"):
        model().fit(X, Y, epochs=3, verbose=0, callbacks=[FullStateCheckpoint(tmp_path)])


class TestAnotherProcessWritesToo:
    def test_a_later_state_than_the_one_announced_is_refused(self, tmp_path):
        fit(model(), tmp_path, epochs=1)
        checkpoint = FullStateCheckpoint(tmp_path)
        fit(model(), tmp_path, epochs=2)
        network = model()
        before = state(network)
        with pytest.raises(ValueError, match=r"state\.npz must hold epoch 1, .* Received: epoch 2"):
            checkpoint.restore(network)
        assert all(np.array_equal(a, b) for a, b in zip(before, state(network), strict=True))

    def test_fit_refuses_a_state_that_was_not_there_when_it_was_made(self, tmp_path):
        checkpoint = FullStateCheckpoint(tmp_path)
        fit(model(), tmp_path, epochs=1)
        with pytest.raises(ValueError, match="must hold epoch 0"):
            model().fit(X, Y, verbose=0, callbacks=[checkpoint])

    def test_fit_refuses_to_go_on_without_the_state_that_was_there(self, tmp_path):
        fit(model(), tmp_path, epochs=1)
        checkpoint = FullStateCheckpoint(tmp_path)
        (tmp_path / "state.npz").unlink()
        with pytest.raises(ValueError, match=r"state\.npz cannot be read"):
            model().fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=[checkpoint])

    def test_one_callback_goes_on_in_a_second_fit(self, tmp_path):
        network = model()
        checkpoint = fit(network, tmp_path, epochs=1)
        network.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=[checkpoint])
        assert checkpoint.epoch == 2


def _with_a_bit_flipped(content, name):
    """Turns on the bit that says "encrypted" in an archive's entry of a name."""
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(name))
    return content[: entry + 8] + bytes([content[entry + 8] | 1]) + content[entry + 9 :]


def test_a_bit_flipped_in_the_archive_is_named(tmp_path):
    fit(model(), tmp_path, epochs=1)
    path = tmp_path / "state.npz"
    path.write_bytes(_with_a_bit_flipped(path.read_bytes(), b"state.npy"))
    with pytest.raises(ValueError, match=r"state\.npz cannot be read .*Delete it to start anew"):
        FullStateCheckpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK damaged"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.npz cannot be read .*Delete it to start anew"):
        FullStateCheckpoint(tmp_path)


def test_a_write_that_fails_leaves_the_last_whole_state(tmp_path, monkeypatch):
    fit(model(), tmp_path, epochs=1)
    before = (tmp_path / "state.npz").read_bytes()

    def disk_full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", disk_full)
    with pytest.raises(OSError, match="No space left"):
        fit(model(), tmp_path, epochs=2)
    assert (tmp_path / "state.npz").read_bytes() == before
    assert FullStateCheckpoint(tmp_path).epoch == 1


def test_the_file_holds_nothing_pickled(tmp_path):
    fit(model(), tmp_path, epochs=1)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file)


TENSORFLOW = keras.backend.backend() == "tensorflow"
FAR = 3 * np.random.default_rng(1).normal(size=(40, 6)).astype("float32")
NEAR = np.random.default_rng(2).normal(size=(30, 6)).astype("float32") + 0.5
NAMES = ("val_ece", "val_nll", "val_brier", "val_uce")


def quick(*arrays):
    """Arrays in the form that the backend's `fit` takes without a wait: see `kls.utils.data.feed`."""
    if not TENSORFLOW:
        return arrays
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return tf.data.Dataset.from_tensor_slices(arrays).batch(16).with_options(options)


def train(network, callbacks, epochs=2, validation_data=None, **options):
    """Returns the history of a fit of `X` and `Y`."""
    data = quick(X, Y)
    data, batch_size = ({"x": data}, {}) if TENSORFLOW else ({"x": data[0], "y": data[1]}, {"batch_size": 16})
    return network.fit(
        **data,
        **batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        validation_data=validation_data,
        callbacks=callbacks,
        **options,
    ).history


def compiled(layers=()):
    """A small classifier that returns logits; equal weights each time."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(5, activation="relu", name="hidden"),
        *layers,
        keras.layers.Dense(4, activation="relu"),
        keras.layers.Dense(2),
    ]
    network = keras.Sequential(layers)
    network.compile(keras.optimizers.SGD(0.2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


@pytest.fixture(scope="module")
def compiled_once():
    network = compiled()
    return network, network.get_weights()


@pytest.fixture
def small(compiled_once):
    """One network for all, with the same weights for each test; what `fit` runs is compiled once."""
    network, weights = compiled_once
    network.set_weights(weights)
    yield network
    vars(network).pop("evaluate", None)


def predicted(network, images):
    return network.predict(quick(images) if TENSORFLOW else images, verbose=0)


class Counting(keras.utils.PyDataset):
    """Batches of arrays that count how often each is read."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays, self.reads = arrays, collections.Counter()

    def __len__(self):
        return -(-len(self.arrays[0]) // 24)

    def __getitem__(self, index):
        self.reads[index] += 1
        return tuple(array[24 * index : 24 * (index + 1)] for array in self.arrays)


def once_and_first(data, evaluations):
    """How often each batch is read: in every evaluation, the first also before the first epoch."""
    return dict.fromkeys(range(len(data)), evaluations) | {0: evaluations + 1}


class Predictions(keras.callbacks.Callback):
    """Keeps what the model predicts at each epoch's end."""

    def __init__(self, **data):
        super().__init__()
        self.data, self.found = data, []

    def on_epoch_end(self, epoch, logs=None):
        self.found.append({name: predicted(self.model, images) for name, images in self.data.items()})


class Failing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("stopped")


def calibration_of(logits):
    found = kls.calibration.summarize(Y, logits, from_logits=True)
    return {name: found[name.removeprefix("val_")] for name in NAMES}


def detection_of(logits, ood_data, score=scores.msp):
    return kls.ood.auroc(score(logits), score(ood_data)), kls.ood.fpr_at_tpr(score(logits), score(ood_data))


def separated(network, data, ood_data=FAR, score="msp"):
    """AUROC of a trained network."""
    function = scores.get(score)
    return kls.ood.auroc(function(network, data), function(network, ood_data))


def test_the_logs_are_the_metrics_of_each_epochs_predictions(small):
    predictions = Predictions(id_data=X, far=FAR, near=NEAR)
    both = [CalibrationCallback((X, Y)), OODCallback({"far": FAR, "near": NEAR}, score="energy", id_data=X)]
    history = train(small, [*both, predictions], epochs=3)
    assert list(history) == ["loss", *NAMES, "auroc_far", "fpr95_far", "auroc_near", "fpr95_near"]
    for epoch, found in enumerate(predictions.found):
        for name, value in calibration_of(found["id_data"]).items():
            assert history[name][epoch] == pytest.approx(value, abs=1e-6)
        for name in ("far", "near"):
            numbers = detection_of(found["id_data"], found[name], scores.energy)
            assert (history[f"auroc_{name}"][epoch], history[f"fpr95_{name}"][epoch]) == pytest.approx(numbers)
    assert len(set(history["val_nll"])) == len(set(history["val_ece"])) == 3
    last = calibration_of(predicted(small, X))
    assert {name: history[name][-1] for name in NAMES} == pytest.approx(last, abs=1e-6)


def test_bins_and_batch_size_are_those_asked_for(small):
    history = train(small, [CalibrationCallback((X, Y), bins=4, batch_size=9)], epochs=1)
    expected = kls.calibration.summarize(Y, small(X), bins=4, from_logits=True)
    assert (history["val_ece"][0], history["val_uce"][0]) == pytest.approx((expected["ece"], expected["uce"]), abs=1e-6)


class TestOtherCallbacks:
    def test_early_stopping_as_its_example_shows_it(self, small):
        history = train(small, [CalibrationCallback((X, Y)), keras.callbacks.EarlyStopping("val_nll", mode="min")])
        assert len(history["val_nll"]) == 2

    def test_they_see_the_metrics(self, small, tmp_path):
        stopping = keras.callbacks.EarlyStopping(
            monitor="val_nll", mode="min", patience=1, min_delta=100, restore_best_weights=True
        )
        callbacks = [
            CalibrationCallback((X, Y)),
            OODCallback({"far": FAR}, id_data=X),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor="auroc_far", mode="max", save_best_only=True
            ),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
            stopping,
        ]
        history = train(small, callbacks, epochs=9)
        assert len(history["val_nll"]) == 2
        assert stopping.best == history["val_nll"][0]
        with open(tmp_path / "log.csv", newline="") as file:
            lines = list(csv.DictReader(file))
        for name in (*NAMES, "auroc_far", "fpr95_far"):
            assert [float(line[name]) for line in lines] == history[name]
        best = keras.models.load_model(tmp_path / "best.keras")
        assert separated(best, X) == pytest.approx(max(history["auroc_far"]))

    def test_a_model_is_saved_whole_while_fit_is_listened_to(self, small, tmp_path):
        callbacks = [OODCallback({"far": FAR}), keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")]
        train(small, callbacks, epochs=1, validation_data=quick(X, Y))
        again = keras.models.load_model(tmp_path / "model.keras")
        assert "evaluate" not in vars(again)
        np.testing.assert_allclose(again.predict_on_batch(X), small.predict_on_batch(X), rtol=1e-6)

    def test_the_full_state_goes_on_with_them(self, tmp_path):
        def run(directory, epochs):
            checkpoint = FullStateCheckpoint(directory)
            keras.utils.clear_session()
            network, evaluations = compiled(), [CalibrationCallback((X, Y), every=2), OODCallback({"far": FAR})]
            data = quick(X, Y)
            train(network, [*evaluations, checkpoint], epochs, validation_data=data, initial_epoch=checkpoint.epoch)
            return network, checkpoint.history

        whole, history = run(tmp_path / "whole", 4)
        run(tmp_path / "parts", 3)
        resumed, resumed_history = run(tmp_path / "parts", 4)
        assert all(np.array_equal(a, b) for a, b in zip(state(whole), state(resumed), strict=True))
        assert resumed_history == history
        assert ["val_nll" in logs for logs in history] == [True, False, True, True]
        assert all("auroc_far" in logs for logs in history)


class TestEvery:
    @pytest.mark.parametrize(
        ("every", "epochs", "initial", "expected"),
        [
            (1, 3, 0, [0, 1, 2]),
            (2, 5, 0, [0, 2, 4]),
            (2, 4, 0, [0, 2, 3]),
            (3, 5, 0, [0, 3, 4]),
            (7, 3, 0, [0, 2]),
            (7, 1, 0, [0]),
            (2, 4, 1, [2, 3]),
        ],
    )
    def test_the_first_every_so_many_and_the_last(self, small, every, epochs, initial, expected):
        seen = []
        listening = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(epoch) if "val_ece" in logs else None
        )
        both = [CalibrationCallback((X, Y), every=every), OODCallback({"far": FAR}, every=every, id_data=X)]
        history = train(small, [*both, listening], epochs, initial_epoch=initial)
        assert seen == expected
        assert len(history["val_ece"]) == len(history["auroc_far"]) == len(expected)
        assert len(history["loss"]) == epochs - initial

    @pytest.mark.filterwarnings("ignore:.*not available", "ignore:.*Can save best model only", "ignore:.*conditioned")
    def test_other_callbacks_get_over_an_epoch_without(self, small, tmp_path):
        callbacks = [
            CalibrationCallback((X, Y), every=2),
            keras.callbacks.EarlyStopping(monitor="val_nll", mode="min", patience=1),
            keras.callbacks.ReduceLROnPlateau(monitor="val_nll", mode="min", patience=3),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor="val_nll", mode="min", save_best_only=True
            ),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ]
        history = train(small, callbacks, epochs=4)
        assert [len(history[name]) for name in ("loss", "val_nll")] == [4, 3]
        with open(tmp_path / "log.csv", newline="") as file:
            assert [line["val_nll"] == "NA" for line in csv.DictReader(file)] == [False, True, False, False]
        assert (tmp_path / "best.keras").exists()


class TestPasses:
    def test_one_an_epoch_over_each_data_set(self, small):
        labelled, id_data, training, far, near = (
            Counting(*arrays) for arrays in ((X, Y), (X,), (X[:50], Y[:50]), (FAR,), (NEAR, np.zeros(30)))
        )
        ood = OODCallback({"far": far, "near": near}, "mahalanobis", id_data=id_data, training_data=training)
        train(small, [CalibrationCallback(labelled), ood], epochs=3)
        for data in (labelled, id_data, training, far, near):
            assert data.reads == once_and_first(data, 3)

    def test_odin_takes_no_second_pass(self, small):
        id_data, far = Counting(X), Counting(FAR)
        train(small, [OODCallback({"far": far}, "odin", every=2, id_data=id_data)], epochs=4)
        assert id_data.reads == once_and_first(id_data, 3)
        assert far.reads == once_and_first(far, 3)

    def test_the_validation_data_are_read_by_fit_and_once_more(self, small):
        validation = Counting(X, Y)
        train(small, [Predictions()], epochs=2, validation_data=validation)
        alone = validation.reads.total()
        validation.reads.clear()
        train(small, [OODCallback({"far": FAR})], epochs=2, validation_data=validation)
        assert validation.reads.total() == alone + 2 * len(validation)

    @pytest.mark.parametrize("score", ["msp", "odin", "knn"])
    def test_nothing_is_traced_after_the_first_epoch(self, score):
        traces = []

        class Traced(keras.layers.Layer):
            def call(self, x):
                traces.append(tuple(x.shape))
                return x

        counts = []
        counting = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: counts.append(len(traces)))
        function = scores.KNN(k=3) if score == "knn" else score
        evaluations = [
            CalibrationCallback((X[:61], Y[:61]), batch_size=20),
            OODCallback({"far": FAR, "near": NEAR}, function, id_data=X, training_data=X, batch_size=25),
        ]
        train(compiled([Traced()]), [*evaluations, counting], epochs=4)
        assert counts[0] > 0
        assert counts == [counts[0]] * 4


class TestIDData:
    @pytest.mark.parametrize("kind", ["arrays", "weighted arrays", "tensorflow", "batches", "split"])
    def test_it_is_the_validation_data_of_fit(self, small, kind):
        if kind == "tensorflow" and not TENSORFLOW:
            pytest.skip("tf.data.Dataset")
        data, id_data = (X[:40], Y[:40]), X[:40]
        callback = OODCallback({"far": FAR})
        if kind == "split":
            id_data = X[48:]
            history = small.fit(
                X, Y, batch_size=16, validation_split=0.25, epochs=2, verbose=0, callbacks=[callback], shuffle=False
            ).history
        else:
            kinds = {
                "arrays": lambda: data,
                "weighted arrays": lambda: (*data, np.ones(40)),
                "tensorflow": lambda: quick(*data),
                "batches": lambda: Counting(*data),
            }
            history = train(small, [callback], validation_data=kinds[kind]())
        assert history["auroc_far"][-1] == pytest.approx(separated(small, id_data), abs=1e-9)
        assert len(history["auroc_far"]) == len(history["val_loss"]) == 2
        assert "evaluate" not in vars(small)
        assert small.evaluate.__func__ is type(small).evaluate

    def test_what_is_given_comes_before_the_validation_data(self, small):
        validation = quick(NEAR, np.zeros(30, int))
        history = train(small, [OODCallback({"far": FAR}, id_data=X)], validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X), abs=1e-9)

    def test_without_any_the_error_says_what_to_pass(self, small):
        with pytest.raises(ValueError, match="pass `id_data`, or `validation_data` to `fit`"):
            train(small, [OODCallback({"far": FAR})])
        with pytest.raises(RuntimeError, match="stopped"):
            train(small, [OODCallback({"far": FAR}, id_data=X), Failing()])

    def test_two_of_them_listen_to_one_fit(self, small):
        validation = quick(X, Y)
        callbacks = [OODCallback({"far": FAR}), OODCallback({"near": NEAR}, score="energy")]
        history = train(small, callbacks, validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X))
        assert history["auroc_near"][-1] == pytest.approx(separated(small, X, NEAR, "energy"))
        assert "evaluate" not in vars(small)

    def test_a_first_epoch_without_validation_is_told_what_to_pass(self, small):
        with pytest.raises(ValueError, match="pass `id_data`"):
            train(small, [OODCallback({"far": FAR})], 4, validation_data=quick(X, Y), validation_freq=2)

    def test_the_validation_data_of_an_earlier_fit_are_forgotten(self, small):
        callback = OODCallback({"far": FAR})
        train(small, [callback], epochs=1, validation_data=quick(X, Y))
        with pytest.raises(ValueError, match="needs ID data"):
            train(small, [callback], epochs=1)

    def test_it_is_not_what_another_callback_evaluates(self, small):
        class Other(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                self.model.evaluate(NEAR, np.zeros(30, int), verbose=0)

        validation = quick(X, Y)
        history = train(small, [Other(), OODCallback({"far": FAR})], epochs=1, validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X))

    def test_a_method_that_the_caller_has_set_is_given_back(self, small):
        original = type(small).evaluate.__get__(small)

        def mine(*arguments, **options):
            return original(*arguments, **options)

        small.evaluate = mine
        train(small, [OODCallback({"far": FAR})], epochs=1, validation_data=quick(X, Y))
        assert small.evaluate is mine

    def test_after_a_fit_that_failed_the_model_evaluates_and_fits_again(self, small):
        callback, validation = OODCallback({"far": FAR}), quick(X, Y)
        with pytest.raises(RuntimeError, match="stopped"):
            train(small, [callback, Failing()], validation_data=validation)
        loss = small.evaluate(X, Y, verbose=0)
        assert loss == pytest.approx(kls.calibration.negative_log_likelihood(Y, small(X), from_logits=True), rel=1e-5)
        history = train(small, [callback], validation_data=validation)
        assert history["auroc_far"][-1] == pytest.approx(separated(small, X))
        assert "evaluate" not in vars(small)


class TestScores:
    def test_a_fitted_score_learns_anew_each_epoch(self, small):
        values, score = [], scores.KNN(k=3)
        listening = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: values.append(separated(small, NEAR, score=scores.KNN(k=3).fit(small, X)))
        )
        callback = OODCallback({"far": FAR}, score, id_data=NEAR, training_data=X)
        history = train(small, [callback, listening], epochs=3)
        assert history["auroc_far"] == pytest.approx(values)
        assert len(set(values)) > 1

    def test_named_features_are_taken(self, small):
        callback = OODCallback({"far": FAR}, scores.KNN(k=3, features="hidden"), id_data=NEAR, training_data=X)
        history = train(small, [callback], epochs=1)
        expected = separated(small, NEAR, score=scores.KNN(k=3, features="hidden").fit(small, X))
        assert expected != pytest.approx(separated(small, NEAR, score=scores.KNN(k=3).fit(small, X)))
        assert history["auroc_far"][0] == pytest.approx(expected)

    def test_a_score_is_not_modified(self, small):
        score = scores.KNN(k=3)
        train(small, [OODCallback({"far": FAR}, score, id_data=NEAR, training_data=X)], epochs=1)
        assert not score.fitted

    def test_training_data_are_asked_for_at_once(self):
        with pytest.raises(ValueError, match="`training_data` must be given for the score 'knn'"):
            OODCallback({"far": FAR}, score="knn")

    @pytest.mark.parametrize(
        "ood", [None, {}, FAR, [FAR], {"near": {"far": FAR}}], ids=["none", "empty", "array", "list", "nested"]
    )
    def test_without_names_and_data_it_is_refused(self, ood):
        with pytest.raises(ValueError, match="`ood` must"):
            OODCallback(ood)


class NoEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        raise AssertionError("an epoch has begun")


class TestBeforeTheFirstEpoch:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (X, "`data` must have labels"),
            (Counting(X), "`data` must have labels"),
            ((X, np.full(64, 2)), r"whole numbers in 0\.\.1\. Received: y_true\[0\]=2"),
            ((X, np.where(np.arange(64) == 63, 9, 0)), r"Received: y_true\[63\]=9"),
            ((X[:, :5], Y), r"CalibrationCallback: `data` must hold images of shape \(None, 6\)"),
            ((X, Y[:9]), "CalibrationCallback: `data` must hold a label for each"),
            ((np.full_like(X, np.nan), Y), "CalibrationCallback: `data` must give images without NaN"),
            ((X.astype(str), Y), "CalibrationCallback: `data` must be an array of real numbers"),
            ("data", "CalibrationCallback: `data` must be an array"),
        ],
    )
    def test_wrong_data_of_calibration_are_refused(self, small, data, message):
        with pytest.raises(ValueError, match=message):
            train(small, [CalibrationCallback(data, batch_size=16), NoEpoch()])

    @pytest.mark.parametrize("name", ["far", "id_data", "training_data"])
    def test_wrong_data_of_ood_are_refused(self, small, name):
        arguments = {"id_data": X, "training_data": X, "far": FAR} | {name: X[:, :5]}
        callback = OODCallback({"far": arguments.pop("far")}, scores.KNN(k=3), **arguments)
        with pytest.raises(ValueError, match=rf"OODCallback, {name}: `data` must hold images of shape \(None, 6\)"):
            train(small, [callback, NoEpoch()])

    def test_a_model_of_several_outputs_is_refused(self):
        x = keras.Input((6,))
        model = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(2)(x)])
        model.compile("sgd", [None, "sparse_categorical_crossentropy"])
        for callback in (CalibrationCallback((X, Y)), OODCallback({"far": FAR}, id_data=X)):
            with pytest.raises(ValueError, match="`model` must have one output"):
                model.fit(X, Y, verbose=0, callbacks=[callback, NoEpoch()])

    def test_a_score_that_the_model_cannot_give_is_refused(self):
        class Own(keras.Model):
            def __init__(self):
                super().__init__()
                self.dense = keras.layers.Dense(2)

            def call(self, x):
                return self.dense(x)

        model = Own()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        with pytest.raises(ValueError, match="ASH needs features"):
            model.fit(X, Y, verbose=0, callbacks=[OODCallback({"far": FAR}, "ash", id_data=X), NoEpoch()])
        history = model.fit(X, Y, verbose=0, callbacks=[OODCallback({"far": FAR}, id_data=X)]).history
        assert "auroc_far" in history


class TestScale:
    def test_images_of_another_scale_are_told_once(self):
        network = compiled([keras.layers.BatchNormalization(momentum=0.5)])
        callbacks = [
            CalibrationCallback((255 * X, Y)),
            OODCallback({"far": 255 * FAR}, id_data=X),
        ]
        with pytest.warns(UserWarning, match="another scale") as caught:
            train(network, callbacks, epochs=3)
        found = [str(warning.message) for warning in caught if "another scale" in str(warning.message)]
        assert len(found) == 2
        trained = (
            r"than what the network was trained on, by its first batch normalisation: {} about \d\d\d times larger"
        )
        assert re.search(trained.format("`data`"), found[0])
        assert re.search(trained.format("`ood` far"), found[1])

    @pytest.mark.filterwarnings("error::UserWarning")
    def test_ood_images_of_its_scale_are_not(self):
        network = compiled([keras.layers.BatchNormalization()])
        ood = {"far": FAR, "near": NEAR, "black": 0 * FAR, "inverted": -FAR}
        train(network, [CalibrationCallback((X, Y)), OODCallback(ood, id_data=X)], epochs=1)

    def test_without_batch_normalisation_data_are_compared(self, small):
        with pytest.warns(UserWarning, match=r"than `id_data`: `ood` far about \d\d\d times larger"):
            train(small, [OODCallback({"far": 255 * FAR}, id_data=X)], epochs=1)


def test_another_model_is_evaluated_with_its_own_weights(small):
    callback = CalibrationCallback((X, Y))
    train(small, [callback], epochs=1)
    other = compiled()
    other.set_weights([2 * weight for weight in other.get_weights()])
    history = train(other, [callback], epochs=1)
    assert history["val_nll"][0] == pytest.approx(calibration_of(other(X))["val_nll"], rel=1e-5)


def test_tensorboard_finds_the_diagram_of_each_evaluation(small, tmp_path):
    pytest.importorskip("tensorflow")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = CalibrationCallback((X, Y), every=2, bins=5, log_dir=tmp_path / "logs")
    train(small, [callback], epochs=4)
    events = EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0})
    events.Reload()
    assert events.Tags()["tensors"] == ["reliability"]
    found = events.Tensors("reliability")
    assert [event.step for event in found] == [0, 2, 3]
    width, height, png = found[-1].tensor_proto.string_val
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.size) == ("PNG", (int(width), int(height)))
    title = "Reliability, epoch 4"
    canvas = FigureCanvasAgg(kls.plots.reliability_diagram(Y, np.array(small(X)), 5, from_logits=True, title=title))
    canvas.draw()
    np.testing.assert_array_equal(np.asarray(image), np.asarray(canvas.buffer_rgba()))
    train(small, [callback], epochs=1)
    events.Reload()
    assert len(list((tmp_path / "logs").iterdir())) == 2


@pytest.fixture
def passes(monkeypatch):
    """The `Outputs` of each pass over data, in order."""
    found, outputs = [], Network.outputs

    def recorded(*args, **kwargs):
        found.append(outputs(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr(Network, "outputs", recorded)
    return found


@pytest.mark.skipif(not TENSORFLOW, reason="tf.distribute")
def test_two_replicas_log_the_metrics_of_the_predictions(passes):
    from kls.layers import BatchNormalization
    from kls.study.train import mirrored_strategy

    with mirrored_strategy().scope():
        network = compiled([BatchNormalization(momentum=0.5, synchronized=True)])
    predictions = Predictions(id_data=X, far=FAR)
    callbacks = [CalibrationCallback((X, Y)), OODCallback({"far": FAR}, id_data=X), predictions]
    history = train(network, callbacks)
    for epoch, found in enumerate(predictions.found):
        # one replica or two, the last bits differ: near-equal scores may change places, so each has its own metrics
        judged, id_data, far = (part.logits for part in passes[3 * epoch : 3 * epoch + 3])
        for logits, name in ((judged, "id_data"), (id_data, "id_data"), (far, "far")):
            np.testing.assert_allclose(logits, found[name], rtol=1e-4, atol=1e-5)
        for name, value in calibration_of(judged).items():
            assert history[name][epoch] == pytest.approx(value, abs=1e-6)
        numbers = history["auroc_far"][epoch], history["fpr95_far"][epoch]
        assert numbers == pytest.approx(detection_of(id_data, far))
