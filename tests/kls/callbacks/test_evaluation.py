import csv
import io
import re

import keras
import numpy as np
import pytest

import kls
from kls import CalibrationCallback, OODCallback
from kls.ood import scores
from kls.utils.feature_extractor import Network

from .helpers import (
    FAR,
    NAMES,
    NEAR,
    TENSORFLOW,
    Counting,
    Predictions,
    X,
    Y,
    calibration_of,
    compiled,
    detection_of,
    predicted,
    quick,
    separated,
    train,
)


class NoEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        raise AssertionError("an epoch has begun")


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


def test_one_sigmoid_is_judged_as_two_classes():
    layers = [keras.layers.Input((6,)), keras.layers.Dense(1, activation="sigmoid")]
    network = keras.Sequential(layers)
    network.compile("sgd", "binary_crossentropy")
    callbacks = [
        CalibrationCallback((X, Y[:, None])),
        OODCallback({"far": FAR}, score="knn", id_data=X, training_data=X),
    ]
    history = network.fit(X, Y, verbose=0, callbacks=callbacks).history
    p = network.predict(X, verbose=0)[:, 0].astype("float64")
    assert history["val_nll"] == [pytest.approx(-np.log(np.where(Y, p, 1 - p)).mean(), rel=1e-5)]
    assert history["auroc_far"] == [pytest.approx(separated(network, X, score=scores.KNN().fit(network, X)))]


class TestOtherCallbacks:
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


def once_and_first(data, evaluations):
    """How often each batch is read: in every evaluation, the first also before the first epoch."""
    return dict.fromkeys(range(len(data)), evaluations) | {0: evaluations + 1}


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
