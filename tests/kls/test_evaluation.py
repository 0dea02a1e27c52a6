import collections
import itertools
import re

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import decathlon
import kls
from kls import calibration, ood
from kls.calibration.scaling import SCALERS, TemperatureScaling
from kls.evaluation import HEADINGS, SUMMARY
from kls.ood import scores
from kls.utils.feature_extractor import Network
from kls.utils.formats import NOT_PERCENT

RNG = np.random.default_rng(3)
TRAIN, X, HELD_OUT = (RNG.normal(size=(size, 6)).astype("float32") for size in (120, 91, 60))
NEAR, FAR, NOISE = (
    (scale * RNG.normal(size=(size, 6)) + shift).astype("float32")
    for size, scale, shift in ((40, 1, 1), (33, 3, 0), (20, 0.2, 0))
)
SETTINGS = {"ece": ("bins", "convention"), "mce": ("bins", "convention"), "uce": ("bins",)}
OF_LOGITS = ("msp", "max_logit", "energy", "entropy", "gen")


def dense(activation=None, seed=5):
    """A small classifier; equal seeds give equal weights, whatever the activation."""
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(8, activation="relu", name="hidden"),
        keras.layers.Dense(3, activation=activation, name="last"),
    ]
    model = keras.Sequential(layers)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in model.get_weights()])
    return model


def identity(classes):
    """A model that returns its inputs as logits."""
    model = keras.Sequential([keras.layers.Input((classes,)), keras.layers.Dense(classes, use_bias=False)])
    model.set_weights([np.eye(classes)])
    return model


class Subclassed(keras.Model):
    """Probabilities out of a model whose last layer cannot be found."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return keras.ops.softmax(self.inner(x))


class Batches(keras.utils.PyDataset):
    """Batches of arrays that count how often each is read."""

    def __init__(self, *arrays, size=32):
        super().__init__()
        self.arrays, self.size, self.reads = arrays, size, collections.Counter()

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, index):
        self.reads[index] += 1
        return tuple(array[index * self.size : (index + 1) * self.size] for array in self.arrays)


class Unreadable(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("the data were read")


@pytest.fixture(scope="module")
def model():
    return dense()


@pytest.fixture(scope="module")
def predict(model):
    """The model's own predictions, each data set once."""
    found = {}

    def run(data):
        if id(data) not in found:
            found[id(data)] = model.predict(data, batch_size=len(data), verbose=0)
        return found[id(data)]

    return run


@pytest.fixture(scope="module")
def labelled(predict):
    """Labels that the model gets right on about two of three samples."""

    def pair(data):
        wrong = np.random.default_rng(len(data)).random(len(data)) < 1 / 3
        return data, (predict(data).argmax(axis=1) + wrong) % 3

    return {name: pair(data) for name, data in (("train", TRAIN), ("test", X), ("held_out", HELD_OUT))}


@pytest.fixture(scope="module")
def data(labelled):
    return labelled["test"]


@pytest.fixture(scope="module")
def everything(model, labelled):
    """All scores on two groups of data sets, scaled and resampled, each data set as batches that count."""
    counted = {
        "data": Batches(*labelled["test"]),
        "training_data": Batches(*labelled["train"]),
        "scaling_data": Batches(*labelled["held_out"]),
        "near": Batches(NEAR, np.full(len(NEAR), 99)),
        "far": Batches(FAR),
        "noise": Batches(NOISE),
    }
    evaluation = kls.evaluate(
        model,
        counted["data"],
        ood={"near": {"blobs": counted["near"]}, "far": {"wide": counted["far"], "noise": counted["noise"]}},
        scores="all",
        scaling="temperature",
        training_data=counted["training_data"],
        scaling_data=counted["scaling_data"],
        resamples=40,
    )
    return evaluation, counted


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    images, labels = decathlon.open("digits", data_dir=tmp_path_factory.mktemp("digits")).split("validation")
    batches = decathlon.Batches(images[:70], labels[:70], classes=10, batch_size=32)
    arrays = [np.concatenate(parts) for parts in zip(*(batches[i] for i in range(len(batches))), strict=True)]
    keras.utils.set_random_seed(2)
    layers = [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, kernel_initializer=keras.initializers.RandomNormal(stddev=1.0)),
    ]
    return keras.Sequential(layers), batches, arrays


def only(frame, **conditions):
    """The one row of a frame that meets the conditions."""
    for column, value in conditions.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, conditions
    return frame.iloc[0]


def binned(metric, bins, convention):
    chosen = {"bins": bins, "convention": convention}
    return {name: chosen[name] for name in SETTINGS.get(metric, ())}


def assert_same_numbers(one, other, rtol=1e-5):
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame(), rtol=rtol, atol=1e-7, check_dtype=False)


def tables(markdown):
    """Returns each table of a text as a list of rows, lists of cells, without the rule below the header."""
    found = []
    for is_table, lines in itertools.groupby(markdown.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            assert all(set(cell) <= set(":-") for cell in rows[1])
            found.append([rows[0], *rows[2:]])
    return found


def shown(row):
    """A row as a cell of a table."""
    scale, digits = (100, 2) if row["metric"] not in NOT_PERCENT else (1, 4)
    ends = () if pd.isna(row["low"]) else (row["low"], row["high"])
    value, *ends = (f"{scale * number:.{digits}f}" for number in (row["value"], *ends))
    return f"{value} [{', '.join(ends)}]" if ends else value


class TestNumbers:
    @pytest.mark.parametrize(("bins", "convention"), [(15, "guo"), (4, "netcal"), (7, "torchmetrics")])
    def test_calibration_is_measured_on_what_the_model_predicts(self, model, data, predict, bins, convention):
        frame = kls.evaluate(model, data, bins=bins, convention=convention).to_frame()
        assert frame["metric"].tolist() == list(SUMMARY)
        for metric in SUMMARY:
            row = only(frame, metric=metric, scaling="none")
            expected = calibration.METRICS[metric](
                data[1], predict(X), from_logits=True, **binned(metric, bins, convention)
            )
            assert row["value"] == pytest.approx(expected, abs=1e-6)
            assert (row["n"], row["score"], row["group"], row["data"]) == (len(X), "", "", "")
            recorded = {"bins": row["bins"], "convention": row["convention"]}
            settings = {name: value for name, value in recorded.items() if value != "" and not pd.isna(value)}
            assert settings == binned(metric, bins, convention)
        assert frame["low"].isna().all()
        assert frame["high"].isna().all()

    def test_scores_of_logits_are_measured_on_what_the_model_predicts(self, model, data, predict):
        frame = kls.evaluate(model, data, {"near": NEAR, "far": FAR}, OF_LOGITS).to_frame()
        for score, (name, ood_data), metric in itertools.product(
            OF_LOGITS, {"near": NEAR, "far": FAR}.items(), ood.METRICS
        ):
            function = getattr(scores, score)
            expected = ood.METRICS[metric](function(predict(X)), function(predict(ood_data)))
            row = only(frame, score=score, data=name, metric=metric)
            assert row["value"] == pytest.approx(expected, abs=1e-6), (score, name, metric)
            assert row["n"] == len(X) + len(ood_data)
            side = "" if row["metric"] == "auroc" else "odin"
            assert (row["group"], row["scaling"], row["convention"]) == ("", "", side)

    def test_every_score_is_the_score_on_its_own(self, everything, model, labelled):
        evaluation, _ = everything
        network = Network(model)
        assert list(evaluation.scores) == list(scores.SCORES)
        for name, (id_scores, ood_scores) in evaluation.scores.items():
            alone = scores.get(name).fit(network, labelled["train"])
            np.testing.assert_allclose(id_scores, alone(network, X), rtol=1e-4, atol=1e-6, err_msg=name)
            assert list(ood_scores) == [("near", "blobs"), ("far", "wide"), ("far", "noise")]
            for values, images in zip(ood_scores.values(), (NEAR, FAR, NOISE), strict=True):
                np.testing.assert_allclose(values, alone(network, images), rtol=1e-4, atol=1e-6, err_msg=name)

    def test_every_score_fills_a_row_per_data_set_and_measure(self, everything):
        evaluation, _ = everything
        frame = evaluation.to_frame()
        found = frame[frame["score"] != ""]
        places = [("near", "blobs"), ("far", "wide"), ("far", "noise"), ("far", "mean")]
        expected = [(s, m, *place) for s in scores.SCORES for m in ood.METRICS for place in places]
        assert list(found[["score", "metric", "group", "data"]].itertuples(index=False, name=None)) == expected
        assert np.isfinite(frame["value"]).all()
        assert found["value"].between(0, 1).all()
        for row in found[found["data"] != "mean"].to_dict("records"):
            id_scores, ood_scores = evaluation.scores[row["score"]]
            one = ood_scores[row["group"], row["data"]]
            assert row["value"] == ood.METRICS[row["metric"]](id_scores, one)

    def test_a_group_of_several_data_sets_has_their_mean(self, everything):
        frame = everything[0].to_frame()
        for score, metric in itertools.product(scores.SCORES, ood.METRICS):
            far = [only(frame, score=score, metric=metric, data=name)["value"] for name in ("wide", "noise")]
            mean = only(frame, score=score, metric=metric, data="mean")
            assert mean["group"] == "far"
            assert mean["value"] == pytest.approx(np.mean(far), abs=1e-15)

    def test_flat_data_sets_have_a_mean_too_but_a_single_one_has_none(self, model, data):
        two = kls.evaluate(model, data, {"near": NEAR, "far": FAR}).to_frame()
        assert two[two["metric"] == "auroc"]["data"].tolist() == ["near", "far", "mean"]
        one = kls.evaluate(model, data, {"near": NEAR}).to_frame()
        assert one[one["metric"] == "auroc"]["data"].tolist() == ["near"]

    @pytest.mark.parametrize("no_data", [None, {}, {"near": {}}])
    def test_without_ood_data_there_are_no_scores(self, model, data, no_data):
        evaluation = kls.evaluate(model, data, no_data, scores=["msp", "knn"])
        assert evaluation.scores == {}
        assert len(evaluation.to_frame()) == len(SUMMARY)
        assert len(tables(evaluation.to_markdown())) == 1
        with pytest.raises(ValueError, match="pass `ood`"):
            evaluation.plot_roc()

    def test_named_features_are_taken(self, data, labelled):
        rng = np.random.default_rng(0)
        wide = keras.Sequential(
            [
                keras.layers.Input((6,)),
                keras.layers.Dense(5, activation="tanh", name="first"),
                keras.layers.Dense(4, activation="tanh"),
                keras.layers.Dense(3),
            ]
        )
        wide.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in wide.get_weights()])
        found = kls.evaluate(
            wide,
            data,
            {"far": FAR},
            [scores.KNN(k=3), "mahalanobis"],
            training_data=labelled["train"],
            features="first",
        )
        for name, score in (("KNN(k=3)", scores.KNN(k=3, features="first")), ("mahalanobis", None)):
            score = score or scores.Mahalanobis(features="first")
            np.testing.assert_allclose(found.scores[name][0], score.fit(wide, labelled["train"])(wide, X), rtol=1e-4)

    @pytest.mark.parametrize("number", [1, 2])
    def test_the_fewest_samples(self, model, data, number):
        evaluation = kls.evaluate(model, (X[:number], data[1][:number]), {"far": FAR[:1]}, list(OF_LOGITS), resamples=5)
        frame = evaluation.to_frame()
        assert np.isfinite(frame[["value", "low", "high"]]).all(axis=None)
        assert evaluation.to_markdown()
        for figure in (evaluation.plot_reliability(), evaluation.plot_confidences(), evaluation.plot_risk_coverage()):
            assert isinstance(figure, Figure)

    def test_the_model_is_left_as_it_was(self, labelled):
        model = dense()
        before = model.get_weights()
        config, nodes = model.get_config(), [len(layer._inbound_nodes) for layer in model.layers]
        kls.evaluate(model, labelled["test"], {"far": FAR}, ["odin", "react", "msp"], training_data=labelled["train"])
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        assert model.get_config() == config
        assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
        assert "evaluate" not in vars(model)


class TestNames:
    def test_a_data_set_called_mean_is_refused(self, model, data):
        with pytest.raises(ValueError, match="must not name a data set 'mean'"):
            kls.evaluate(model, data, {"mean": NEAR})

    def test_a_bar_in_a_name_does_not_break_the_table(self, model, data):
        markdown = kls.evaluate(model, data, {"near|blobs": NEAR, "far": FAR}).to_markdown()
        header = next(line for line in markdown.splitlines() if line.startswith("| score"))
        assert header.replace("\\|", "").count("|") == 5

    def test_numbers_name_data_sets(self, model, data):
        evaluation = kls.evaluate(model, data, {2: NEAR, 0: FAR})
        assert evaluation.plot_roc().axes
        assert tables(evaluation.to_markdown())[1][0] == ["score", "2", "0", "mean"]

    def test_a_mixture_of_groups_and_data_sets_is_refused(self, model):
        with pytest.raises(ValueError, match=r"Received: a mixture"):
            kls.evaluate(model, Unreadable(), {"near": {"blobs": Unreadable()}, "far": Unreadable()})

    def test_a_score_need_not_be_in_a_list(self, model, data):
        named = kls.evaluate(model, data, {"far": FAR}, scores="energy")
        instance = kls.evaluate(model, data, {"far": FAR}, scores=scores.Energy())
        assert named.value("ece") == instance.value("ece")
        assert list(named.scores) == ["energy"]

    def test_two_settings_of_a_score_stand_side_by_side(self, model, data):
        cold, hot = scores.Energy(0.1), scores.Energy(100.0)
        found = kls.evaluate(model, data, {"far": FAR}, ["energy", cold, hot]).scores
        assert list(found) == ["energy", "Energy(temperature=0.1)", "Energy(temperature=100.0)"]
        assert not np.allclose(found["energy"][0], found["Energy(temperature=0.1)"][0])

    def test_scores_are_not_modified(self, model, data, labelled):
        given = [scores.KNN(k=3), scores.Mahalanobis(), scores.KLMatching(), scores.ODIN()]
        before = [dict(vars(score)) for score in given]
        kls.evaluate(model, data, {"far": FAR}, given, training_data=labelled["train"], features="hidden")
        assert [vars(score) for score in given] == before
        assert not any(score.fitted for score in given)


class TestScaling:
    @pytest.mark.parametrize("count", [91, 90, 3])
    def test_no_sample_is_scaled_by_a_scaler_that_saw_it(self, model, data, count):
        labels = data[1][:count] if count > 3 else np.array([0, 1, 2])
        logits = kls.evaluate(model, (X[:count], labels), scaling="temperature", seed=4).logits
        plain, scaled = logits["none"].astype(np.float64), logits["temperature"]
        temperature = np.median(plain / scaled, axis=1)
        np.testing.assert_allclose(scaled * temperature[:, None], plain, rtol=1e-5, atol=1e-6)
        one = np.isclose(temperature, temperature[0], rtol=1e-6)
        assert sorted((one.sum(), (~one).sum())) == [count // 2, count - count // 2]
        for judged in (one, ~one):
            expected = TemperatureScaling().fit(plain[~judged], labels[~judged]).temperature
            np.testing.assert_allclose(temperature[judged], expected, rtol=1e-5)

    @pytest.mark.parametrize("scaling", list(SCALERS))
    def test_every_scaler_is_cross_fitted(self, model, data, predict, scaling):
        evaluation = kls.evaluate(model, data, scaling=scaling, seed=11)
        assert list(evaluation.logits) == ["none", scaling]
        order = np.random.default_rng(11).permutation(len(X))
        halves = order[: len(X) // 2], order[len(X) // 2 :]
        expected = np.empty((len(X), 3))
        for seen, judged in (halves, halves[::-1]):
            expected[judged] = SCALERS[scaling]().fit(predict(X)[seen], data[1][seen]).transform(predict(X)[judged])
        probabilities = calibration.samples.softmax(evaluation.logits[scaling])
        np.testing.assert_allclose(probabilities, calibration.samples.softmax(expected), atol=1e-4)
        for metric in SUMMARY:
            value = calibration.METRICS[metric](
                data[1], evaluation.logits[scaling], from_logits=True, **binned(metric, 15, "guo")
            )
            assert evaluation.value(metric, scaling) == pytest.approx(value, abs=1e-12)
        assert "each half of the samples is scaled by what was fitted to the other half" in evaluation.scaling_note

    def test_scaling_data_of_its_own(self, model, data, labelled, predict):
        evaluation = kls.evaluate(model, data, scaling="temperature", scaling_data=labelled["held_out"])
        fitted = TemperatureScaling().fit(predict(HELD_OUT), labelled["held_out"][1])
        np.testing.assert_allclose(evaluation.logits["temperature"], predict(X) / fitted.temperature, rtol=1e-4)
        note = f"temperature: fitted to 60 other samples (T = {fitted.temperature:.3f})."
        assert evaluation.scaling_note == note
        assert note in evaluation.to_markdown()

    @pytest.mark.parametrize("held_out", [False, True])
    def test_a_scaler_is_not_modified(self, model, data, labelled, held_out):
        scaler = kls.calibration.scaling.MatrixScaling(off_diagonal=0.5)
        evaluation = kls.evaluate(model, data, scaling=scaler, scaling_data=labelled["held_out"] if held_out else None)
        assert (scaler.weights, scaler.bias) == (None, None)
        assert list(evaluation.logits) == ["none", "MatrixScaling"]
        assert evaluation.value("nll", "MatrixScaling") != evaluation.value("nll")
        fitted = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
        kls.evaluate(model, data, scaling=fitted)
        assert fitted.temperature == pytest.approx(5.771, abs=1e-3)

    def test_temperature_changes_neither_accuracy_nor_what_is_not_scaled(self, model, data):
        plain, scaled = kls.evaluate(model, data), kls.evaluate(model, data, scaling="temperature")
        assert scaled.value("accuracy", "temperature") == scaled.value("accuracy")
        assert all(plain.value(metric) == scaled.value(metric) for metric in SUMMARY)

    def test_one_sample_cannot_be_halved(self, model, data):
        with pytest.raises(ValueError, match="two samples at least to be scaled in halves"):
            kls.evaluate(model, (X[:1], data[1][:1]), scaling="temperature")

    def test_scaling_data_without_labels_are_refused(self, model, data):
        with pytest.raises(ValueError, match="`scaling_data` must have labels"):
            kls.evaluate(model, data, scaling="vector", scaling_data=HELD_OUT)


class TestPasses:
    def test_each_data_set_is_read_once(self, everything):
        _, counted = everything
        for name, batches in counted.items():
            assert batches.reads == dict.fromkeys(range(len(batches)), 1), name

    def test_training_data_that_no_score_needs_are_not_read(self, model, data):
        kls.evaluate(model, data, {"far": FAR}, ["msp", "ash"], training_data=Unreadable())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"scores": ["msp", "knn", "vim"]},
                "`training_data` must be given for the scores knn, vim. Received: None",
            ),
            ({"scores": "all"}, "`training_data` must be given for the scores mahalanobis, "),
            ({"scores": ["nonsense"]}, "`score` must be one of msp, "),
            ({"features": "nonsense"}, "`features` must name a layer of the model: hidden, last"),
            ({"scores": ["ash"], "features": "hidden"}, "ASH needs the last layer and its own input as features"),
            (
                {"scores": [scores.KNN(features="hidden")], "training_data": Unreadable()},
                "name the layer by `features` of `evaluate` instead",
            ),
            ({"scaling": "nonsense"}, "`scaling` must be one of 'temperature', "),
            ({"scores": []}, "`scores` must be 'all', or names or `Score`s in a list. Received: scores=[]"),
            ({"resamples": True}, "`resamples` must be a whole number of at least 0. Received: resamples=True"),
            ({"batch_size": "a"}, "`batch_size` must be a whole number of at least 1. Received: batch_size='a'"),
            ({"seed": None}, "`seed` must be a whole number"),
            ({"bins": 0}, "`bins` must be a whole number in 1..10000"),
            ({"convention": "nonsense"}, "`convention` must be one of 'guo', "),
            ({"ood_convention": "guo"}, "`ood_convention` must be one of 'odin', 'openood'"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_wrong_settings_are_refused_before_the_data_are_read(self, model, arguments, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            kls.evaluate(model, Unreadable(), {"far": Unreadable()}, **arguments)


class TestData:
    def test_arrays_batches_and_tensorflow_data_give_the_same(self, digits):
        tf = pytest.importorskip("tensorflow")
        model, batches, (images, labels) = digits
        noise = np.random.default_rng(0).random((45, 8, 8, 1)).astype("float32")

        def evaluation(data, ood_data, **options):
            return kls.evaluate(
                model,
                data,
                {"noise": ood_data},
                ["msp", "odin", "ash"],
                scaling="temperature",
                resamples=10,
                **options,
            )

        expected = evaluation((images, labels), noise)
        assert expected.to_frame()["n"].unique().tolist() == [70, 115]
        assert_same_numbers(evaluation(batches, Batches(noise)), expected)
        dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(24)
        assert_same_numbers(evaluation(dataset, tf.data.Dataset.from_tensor_slices(noise).batch(45)), expected)
        assert_same_numbers(evaluation((images, labels), (noise, np.zeros(45)), batch_size=10_000), expected)
        assert_same_numbers(evaluation((images, labels), noise, batch_size=9), expected)

    @pytest.mark.parametrize("form", ["column", "one-hot", "float", "uint8"])
    def test_labels_of_any_form(self, model, data, form):
        _, labels = data
        forms = {
            "column": labels[:, None],
            "one-hot": np.eye(3)[labels],
            "float": labels.astype("float32"),
            "uint8": labels.astype("uint8"),
        }
        assert_same_numbers(
            kls.evaluate(model, (X, forms[form]), scaling="temperature"),
            kls.evaluate(model, data, scaling="temperature"),
        )

    @pytest.mark.parametrize("images", [X, Batches(X)], ids=["array", "batches"])
    def test_missing_labels_are_refused(self, model, images):
        with pytest.raises(ValueError, match=r"`data` must have labels: a pair \(images, labels\), or batches of them"):
            kls.evaluate(model, images)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (np.full(91, 3), r"whole numbers in 0\.\.2\. Received: y_true\[0\]=3"),
            (np.where(np.arange(91) == 50, -1, 0), r"Received: y_true\[50\]=-1"),
            (np.where(np.arange(91) == 90, np.nan, 0), r"Received: y_true\[90\]=nan"),
            (np.full(91, 0.5), r"Received: y_true\[0\]=0\.5"),
            (np.zeros((91, 3)), "must be one-hot"),
            (np.zeros((91, 2)), r"Received: shape \(91, 2\)"),
            (np.zeros(90), "a label for each"),
        ],
    )
    def test_wrong_labels_are_refused(self, model, labels, message):
        with pytest.raises(ValueError, match=message):
            kls.evaluate(model, (X, labels))

    @pytest.mark.parametrize("data", [None, "digits", [X, X], (X, X, X), {"x": X}, X[:0], (X[:0], X[:0, 0])])
    def test_what_is_no_data_is_refused(self, model, data):
        with pytest.raises(ValueError, match="`data` must"):
            kls.evaluate(model, data)

    @pytest.mark.parametrize(
        "ood_data", [FAR[:, :5], FAR.reshape(33, 3, 2), FAR[:0]], ids=["features", "rank", "empty"]
    )
    def test_ood_data_of_the_wrong_shape_are_refused(self, model, data, ood_data):
        with pytest.raises(ValueError, match="far: `data` must hold"):
            kls.evaluate(model, data, {"far": ood_data})

    @pytest.mark.parametrize("name", ["data", "ood", "training_data", "scaling_data"])
    def test_nan_is_refused_with_the_name_of_the_data(self, model, labelled, name):
        images, labels = labelled["train"]
        images = np.where(np.arange(len(images))[:, None] == 100, np.nan, images).astype("float32")
        arguments = {"data": labelled["test"], "ood": {"far": FAR}, "scores": ["knn"], "scaling": "temperature"}
        arguments |= {"training_data": labelled["train"], "scaling_data": labelled["held_out"]}
        arguments[name] = {"far": images} if name == "ood" else (images, labels)
        prefix = {"data": "", "ood": "far: "}.get(name, f"{name}: ")
        for batch_size in (128, 32):
            message = rf"^{prefix}`data` must give images without NaN\. Received: NaN in sample 100"
            with pytest.raises(ValueError, match=message):
                kls.evaluate(model, **arguments, batch_size=batch_size)

    def test_logits_that_are_nan_are_refused(self, data):
        model = dense()
        model.layers[-1].bias.assign(np.array([0, np.nan, 0]))
        with pytest.raises(ValueError, match=r"`data` must give logits without NaN\. Received: NaN in sample 0"):
            kls.evaluate(model, data)


class TestModels:
    def test_softmax_in_the_model_makes_no_difference(self, model, data, labelled):
        names = [*scores.SCORES]
        arguments = {"ood": {"far": FAR}, "scores": names, "scaling": "temperature", "training_data": labelled["train"]}
        expected = kls.evaluate(model, data, **arguments)
        assert_same_numbers(kls.evaluate(dense("softmax"), data, **arguments), expected)
        layer = keras.Sequential([*dense().layers, keras.layers.Softmax()])
        layer.build((None, 6))
        assert_same_numbers(kls.evaluate(layer, data, **arguments), expected)

    def test_probabilities_of_unknown_origin_make_no_difference(self, model, data):
        arguments = {"ood": {"far": FAR}, "scores": ["msp", "entropy", "gen"], "scaling": "temperature"}
        subclassed = Subclassed(model)
        expected = kls.evaluate(model, data, **arguments)
        assert_same_numbers(kls.evaluate(subclassed, data, **arguments), expected, rtol=1e-3)
        with pytest.raises(ValueError, match="Energy needs logits"):
            kls.evaluate(subclassed, data, {"far": FAR}, ["energy"])

    def test_odin_of_probabilities_is_odin(self, model, data):
        expected = kls.evaluate(model, data, {"far": FAR}, ["odin"]).scores["odin"][0]
        found = kls.evaluate(Subclassed(model), data, {"far": FAR}, ["odin"]).scores["odin"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    def test_probabilities_of_low_precision_are_not_taken_for_logits(self, data, bfloat16):
        inner = dense()
        expected = kls.evaluate(inner, data)
        found = kls.evaluate(Subclassed(inner), data)
        assert found.value("nll") == pytest.approx(expected.value("nll"), rel=0.02)
        assert found.value("ece") == pytest.approx(expected.value("ece"), abs=0.02)

    def test_a_model_without_classes_is_refused(self):
        single = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(1)])
        with pytest.raises(ValueError, match="logits or probabilities of shape"):
            kls.evaluate(single, (X, np.zeros(91)))

    def test_several_outputs_are_refused_before_the_data_are_read(self):
        x = keras.Input((6,))
        model = keras.Model(x, [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)])
        with pytest.raises(ValueError, match="`model` must have one output"):
            kls.evaluate(model, Unreadable())


class TestAll:
    def test_what_the_model_cannot_give_is_skipped_and_said(self, model, labelled, data):
        subclassed = Subclassed(model)
        with pytest.warns(UserWarning, match=r"Scores that were skipped: .*vim \(ViM needs features") as caught:
            found = kls.evaluate(subclassed, data, {"far": FAR}, "all", training_data=labelled["train"])
        assert len([warning for warning in caught if "skipped" in str(warning.message)]) == 1
        no_features = {"mahalanobis", "relative_mahalanobis", "knn", "vim", "react", "ash"}
        assert set(found.skipped) == {*no_features, "max_logit", "energy"}
        assert "Energy needs logits" in found.skipped["energy"]
        assert list(found.scores) == ["msp", "entropy", "gen", "odin", "kl_matching"]
        assert "skipped: max_logit" in found.summary or "skipped: mahalanobis" in found.summary
        expected = kls.evaluate(subclassed, data, {"far": FAR}, list(found.scores), training_data=labelled["train"])
        assert_same_numbers(found, expected)

    def test_what_training_data_are_too_few_for_is_skipped(self, model, labelled, data):
        few = tuple(part[:20] for part in labelled["train"])
        with pytest.warns(UserWarning, match="knn .`k` must be at most 20"):
            assert set(kls.evaluate(model, data, {"far": FAR}, "all", training_data=few).skipped) == {"knn"}

    def test_nothing_is_skipped_where_all_can_be_given(self, everything):
        assert everything[0].skipped == {}

    def test_a_score_that_is_named_is_not_skipped(self, model, labelled, data):
        with pytest.raises(ValueError, match="ViM needs features"):
            kls.evaluate(Subclassed(model), data, {"far": FAR}, ["msp", "vim"], training_data=labelled["train"])


class TestRemarks:
    LOGITS = np.log([[0.7, 0.3], [0.3, 0.7]])[[0, 1] * 10].astype("float32")

    def test_a_temperature_at_the_end_of_its_range(self):
        right, wrong = np.array([0, 1] * 10), np.array([1, 0] * 10)
        for labels, temperature in ((right, "0.01"), (wrong, "100")):
            found = kls.evaluate(identity(2), (self.LOGITS, labels), scaling="temperature")
            remark = f"temperature scaling: T = {temperature} is an end of the range searched, the best lies beyond"
            assert remark in found.summary
            assert remark in found.to_markdown()

    def test_a_scaling_that_made_the_ece_worse(self):
        data = self.LOGITS, np.array([0, 1] * 10)
        found = kls.evaluate(identity(2), data, scaling="temperature", scaling_data=(self.LOGITS, data[1][::-1]))
        remark = "temperature scaling made the ECE worse: 30.00 % before, 49.79 % after"
        assert remark in found.summary
        assert remark in found.to_markdown()
        assert "worse" not in kls.evaluate(identity(2), data, scaling="temperature").summary

    def test_auroc_below_chance_is_named_and_nothing_is_bold(self):
        sure = np.array([[9.0, 0.0]] * 3, "float32")
        found = kls.evaluate(identity(2), (self.LOGITS, np.array([0, 1] * 10)), {"sure": sure, "same": self.LOGITS})
        remark = "AUROC below 50 %, OOD samples score higher than ID ones: msp on sure"
        assert found.summary.endswith(remark)
        assert f"{remark}." in found.to_markdown()
        assert "**" not in found.to_markdown()

    def test_nothing_is_remarked_without_a_reason(self, data, model):
        assert kls.evaluate(model, data).remarks == []

    @pytest.mark.parametrize(
        ("metric", "side"),
        [
            ("auroc", "the share of pairs in which the ID sample scores higher"),
            ("aupr_in", "with ID samples as positives"),
            ("aupr_out", "with OOD samples as positives"),
            ("fpr95", "OOD samples that pass for ID at the threshold that keeps 95 % of the ID samples"),
        ],
    )
    def test_each_table_names_its_side(self, everything, metric, side):
        assert side in everything[0].to_markdown([metric])


class TestScale:
    @pytest.mark.parametrize("name", ["ood", "training_data", "scaling_data"])
    @pytest.mark.parametrize(("factor", "times"), [(255, "larger"), (1 / 255, "smaller")])
    def test_data_of_another_scale_than_the_others_are_told(self, model, labelled, name, factor, times):
        other = (HELD_OUT * np.float32(factor), labelled["held_out"][1])
        arguments = {"ood": {"far": FAR}, "training_data": labelled["train"], "scaling_data": labelled["held_out"]}
        arguments[name] = {"far": other[0]} if name == "ood" else other
        shown_name = "`ood` far" if name == "ood" else f"`{name}`"
        with pytest.warns(
            UserWarning, match=rf"scale than `data`: {shown_name} about [23]\d\d times {times}"
        ) as caught:
            found = kls.evaluate(model, labelled["test"], scores=scores.KNN(k=3), scaling="temperature", **arguments)
        assert found.remarks[-1] == str(caught[-1].message)
        assert caught[-1].filename == __file__

    @pytest.mark.filterwarnings("error::UserWarning")
    @pytest.mark.parametrize("images", [NOISE, 3 * FAR, -FAR, 0 * FAR, 0 * FAR + 2])
    def test_ood_data_of_its_scale_are_not(self, model, data, images):
        kls.evaluate(model, data, {"far": images})


class TestNotebook:
    def test_it_is_shown_in_a_line_and_as_tables(self, everything):
        evaluation, _ = everything
        assert repr(evaluation).startswith("Evaluation(accuracy ")
        assert len(repr(evaluation)) < 300
        html = evaluation._repr_html_()
        assert html.count("<table>") == 3
        for row in evaluation.rows[:3]:
            assert f"<td>{shown(pd.Series(row))}</td>" in html.replace("<td >", "<td>")

    def test_names_cannot_break_a_table_or_hold_markup(self, model, data):
        evaluation = kls.evaluate(model, data, {"<b>a</b>|\nb": NEAR})
        assert "<b>" not in evaluation._repr_html_().replace("<b>Ev", "")
        markdown = evaluation.to_markdown()
        assert "&lt;b>a&lt;/b>\\| b" in markdown
        assert [len(table[0]) for table in tables(markdown.replace("\\|", ""))] == [9, 2, 2]


class TestResamples:
    def test_every_number_but_means_has_an_interval_around_it(self, everything):
        frame = everything[0].to_frame()
        means = frame["data"] == "mean"
        assert frame[means][["low", "high"]].isna().all(axis=None)
        found = frame[~means]
        assert len(found) == 2 * len(SUMMARY) + len(scores.SCORES) * 4 * 3
        assert (found["low"] <= found["value"]).all()
        assert (found["value"] <= found["high"]).all()
        assert (found["low"] < found["high"]).sum() > 0.9 * len(found)

    def test_intervals_are_those_of_the_metrics(self, everything, data):
        evaluation, _ = everything
        frame = evaluation.to_frame()
        for scaling, metric in itertools.product(("none", "temperature"), SUMMARY):
            expected = calibration.interval(
                kls.calibration.METRICS[metric],
                data[1],
                evaluation.logits[scaling],
                n=40,
                from_logits=True,
                **binned(metric, 15, "guo"),
            )
            row = only(frame, metric=metric, scaling=scaling)
            assert (row["low"], row["high"]) == (expected.low, expected.high)
        id_scores, ood_scores = evaluation.scores["odin"]
        expected = ood.interval(ood.fpr_at_tpr, id_scores, ood_scores["far", "noise"], n=40)
        row = only(frame, metric="fpr95", score="odin", data="noise")
        assert (row["low"], row["high"]) == (expected.low, expected.high)

    def test_the_frame_and_the_tables_say_how_they_were_found(self, everything):
        evaluation, _ = everything
        frame = evaluation.to_frame()
        assert only(frame, metric="accuracy", scaling="none")["interval"] == "Clopper-Pearson"
        assert only(frame, metric="nll", scaling="none")["interval"] == "bootstrap"
        first, auroc, fpr = (part for part in evaluation.to_markdown().split("\n\n") if "Brackets" in part)
        assert "accuracy: Clopper-Pearson; ece, uce: bias bound; mce, nll" in first
        assert "bootstrap). Too narrow: mce." in first
        assert auroc.endswith("(auroc: bootstrap). Too narrow: auroc near 100 %.")
        assert fpr.endswith("(fpr95: Clopper-Pearson, order statistics).")

    def test_a_perfect_model_is_not_certain(self, data):
        perfect = np.eye(3)[data[1]] * 40.0
        identity = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(3, use_bias=False)])
        identity.layers[-1].set_weights([np.eye(3)])
        row = only(kls.evaluate(identity, (perfect, data[1]), resamples=25).to_frame(), metric="accuracy")
        assert (row["value"], row["high"]) == (1, 1)
        assert row["low"] == pytest.approx(0.025 ** (1 / len(perfect)))

    def test_a_constant_model_has_intervals_of_next_to_no_width(self, data):
        model = dense()
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        frame = kls.evaluate(model, data, {"far": FAR}, resamples=25).to_frame()
        assert (frame["low"] <= frame["value"] + 1e-12).all()
        assert (frame["value"] <= frame["high"] + 1e-12).all()
        assert only(frame, metric="nll")["value"] == pytest.approx(np.log(3), rel=1e-6)
        assert only(frame, metric="nll")["high"] == pytest.approx(np.log(3), rel=1e-6)
        auroc = only(frame, metric="auroc")
        assert (auroc["low"], auroc["value"], auroc["high"]) == (0.5, 0.5, 0.5)

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_an_infinite_likelihood_has_an_interval_that_is_a_number(self, model, data):
        found = kls.evaluate(model, data, scaling="isotonic", resamples=25)
        row = only(found.to_frame(), metric="nll", scaling="isotonic")
        assert row["value"] == np.inf
        assert row["high"] == np.inf
        assert not np.isnan(row["low"])

    def test_a_seed_gives_the_same_numbers_again_and_another_others(self, model, data):
        def frame(seed):
            return kls.evaluate(model, data, {"far": FAR}, scaling="vector", resamples=15, seed=seed).to_frame()

        pd.testing.assert_frame_equal(frame(3), frame(3), check_exact=True)
        one, other = frame(3), frame(4)
        plain = one["scaling"] != "vector"
        pd.testing.assert_series_equal(one["value"][plain], other["value"][plain])
        assert one["value"][~plain].tolist() != other["value"][~plain].tolist()
        assert (one["low"] != other["low"]).mean() > 0.5


class TestOODConvention:
    OOD = {"near": {"blobs": NEAR}, "far": {"wide": FAR, "noise": NOISE}}  # noqa: RUF012

    @pytest.mark.parametrize("convention", ["odin", "openood"])
    def test_numbers_and_intervals_are_of_its_side(self, model, data, convention):
        evaluation = kls.evaluate(model, data, self.OOD, ood_convention=convention, resamples=12)
        frame, (id_scores, ood_scores) = evaluation.to_frame(), evaluation.scores["msp"]
        for metric in ("aupr_in", "aupr_out", "fpr95"):
            function = ood.METRICS[metric]
            rows = [only(frame, metric=metric, data=name) for name in ("wide", "noise", "mean")]
            sides = [(id_scores, ood_scores["far", name]) for name in ("wide", "noise")]
            assert [row["value"] for row in rows[:2]] == [function(*pair, convention=convention) for pair in sides]
            expected = ood.interval(function, *sides[0], n=12, convention=convention)
            assert (rows[0]["low"], rows[0]["high"]) == (expected.low, expected.high)
            assert {row["convention"] for row in rows} == {convention}
        assert set(frame[frame["metric"] == "auroc"]["convention"]) == {""}

    def test_every_table_names_its_side(self, model, data):
        captions = {"odin": "keeps 95 % of the ID samples", "openood": "finds 95 % of the OOD samples"}
        for convention, caption in captions.items():
            markdown = kls.evaluate(model, data, self.OOD, ood_convention=convention).to_markdown(ood.METRICS)
            assert f"{caption} ({convention}'s convention)" in markdown
            assert markdown.count(f"({convention}'s convention)") == 3


class TestMarkdown:
    @pytest.mark.parametrize("resamples", [0, 12])
    def test_tables_show_the_numbers_of_the_frame(self, model, data, resamples):
        evaluation = kls.evaluate(
            model,
            data,
            {"near": {"blobs": NEAR}, "far": {"wide": FAR, "noise": NOISE}},
            ["msp", scores.Energy(2.0)],
            scaling="temperature",
            resamples=resamples,
            bins=10,
            convention="netcal",
        )
        frame = evaluation.to_frame()
        markdown = evaluation.to_markdown(metrics=tuple(ood.METRICS))
        first, *others = tables(markdown)
        assert first[0] == ["scaling", *(HEADINGS[metric] for metric in SUMMARY)]
        assert [line[0] for line in first[1:]] == ["as trained", "temperature"]
        for line, scaling in zip(first[1:], ("none", "temperature"), strict=True):
            assert line[1:] == [shown(only(frame, metric=metric, scaling=scaling)) for metric in SUMMARY]
        assert len(others) == len(ood.METRICS)
        for table, metric in zip(others, ood.METRICS, strict=True):
            assert table[0] == ["score", "near blobs", "far wide", "far noise", "far mean"]
            assert [line[0] for line in table[1:]] == ["msp", "Energy(temperature=2.0)"]
            for line in table[1:]:
                rows = [only(frame, metric=metric, score=line[0], data=n) for n in ("blobs", "wide", "noise", "mean")]
                assert line[1:] == [shown(row) for row in rows]
        assert "Calibration on 91 samples" in markdown
        assert "10 bins of equal width, closed by netcal's convention" in markdown
        assert markdown.endswith("\n\n".join(["", *evaluation.remarks]) + "\n")
        assert "nan" not in markdown

    def test_by_default_there_are_three_tables(self, everything):
        markdown = everything[0].to_markdown()
        assert [(len(table), len(table[0])) for table in tables(markdown)] == [(3, 9), (14, 5), (14, 5)]
        for metric in ("auroc", "fpr95"):
            assert HEADINGS[metric] in markdown


class TestSummary:
    def test_it_is_one_line_with_the_numbers_of_the_frame(self, everything):
        evaluation, _ = everything
        frame = evaluation.to_frame()
        means = {}
        for score in scores.SCORES:
            rows = frame[(frame["score"] == score) & (frame["metric"] == "auroc") & (frame["data"] != "mean")]
            means[score] = rows["value"].mean()
        best = max(means, key=means.get)
        value = evaluation.value
        assert evaluation.summary == (
            f"accuracy {100 * value('accuracy'):.2f} %, ECE {100 * value('ece'):.2f} %, NLL {value('nll'):.4f}, "
            f"Brier {value('brier'):.4f} (n = 91); temperature scaling: ECE {100 * value('ece', 'temperature'):.2f} %; "
            f"mean AUROC over 3 OOD datasets {100 * means[best]:.2f} % by {best}, the best of 13 scores on these data: "
            f"it flatters; {evaluation.remarks[0].removesuffix('.')}"
        )
        assert evaluation.remarks[0].startswith("AUROC below 50 %")

    def test_without_ood_data(self, model, data):
        summary = kls.evaluate(model, data).summary
        assert summary.endswith("(n = 91)")
        assert "\n" not in summary

    def test_a_single_ood_set_is_no_mean(self, model, data):
        summary = kls.evaluate(model, data, {"far": FAR}).summary
        assert "1 OOD datasets" not in summary
        assert "the best of" not in summary


class TestPlots:
    def test_all_are_figures(self, everything):
        evaluation, _ = everything
        for figure in (
            evaluation.plot_reliability(),
            evaluation.plot_reliability("temperature"),
            evaluation.plot_confidences(),
            evaluation.plot_confidences("odin"),
            evaluation.plot_roc(),
            evaluation.plot_roc("knn"),
            evaluation.plot_risk_coverage(),
        ):
            assert isinstance(figure, Figure)
        assert evaluation.plot_confidences("odin").axes[0].get_xlabel() == "odin"
        assert len(evaluation.plot_confidences().axes) == 3
        assert [line.get_label().partition(":")[0] for line in evaluation.plot_roc().axes[0].lines[:3]] == [
            "near blobs",
            "far wide",
            "far noise",
        ]
        labels = [line.get_label().partition(":")[0] for line in evaluation.plot_risk_coverage().axes[0].lines]
        assert labels == ["as trained", "temperature"]

    @pytest.mark.parametrize(("convention", "ece"), [("guo", 5.0), ("netcal", 45.0), ("torchmetrics", 45.0)])
    def test_the_diagram_shows_the_ece_of_the_frame(self, convention, ece):
        model = identity(4)
        half = [0.0, 0.0, -1e4, -1e4]  # a confidence of 0.5, on an edge of four bins
        other = np.log([0.4, 0.3, 0.2, 0.1])
        logits = np.array([half, other], "float32")
        found = kls.evaluate(model, (logits, np.array([0, 1])), bins=4, convention=convention)
        assert 100 * found.value("ece") == pytest.approx(ece, abs=1e-5)
        text = "\n".join(text.get_text() for text in found.plot_reliability().axes[0].texts)
        assert f"ECE {ece:.2f} %" in text

    @pytest.mark.parametrize("gap", [1000.0, 36.5, 30.0])
    def test_scores_of_a_very_confident_model_are_drawn(self, gap):
        sure, surer = (np.array([[size, 0.0], [0.0, size]], "float32") for size in (gap, 1000.0))
        evaluation = kls.evaluate(identity(2), (sure, np.array([0, 1])), {"far": surer})
        assert len(evaluation.plot_confidences().axes) == 1
