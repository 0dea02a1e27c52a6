import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import kls
from kls import calibration, ood
from kls.calibration.scaling import SCALERS, TemperatureScaling
from kls.evaluation.result import SUMMARY
from kls.ood import scores
from kls.utils.feature_extractor import Network

from .helpers import FAR, HELD_OUT, NEAR, NOISE, Unreadable, X, binned, dense, only, tables

OF_LOGITS = ("msp", "max_logit", "energy", "entropy", "gen")


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
        with pytest.raises(ValueError, match="must not name a dataset 'mean'"):
            kls.evaluate(model, data, {"mean": NEAR})

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
