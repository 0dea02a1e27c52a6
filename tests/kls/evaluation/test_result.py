import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import kls
from kls import calibration, ood
from kls.evaluation.result import HEADINGS, SUMMARY
from kls.ood import scores

from .helpers import FAR, NEAR, NOISE, binned, dense, identity, only, shown, tables


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
            for side in (
                "the share of pairs in which the ID sample",
                "with ID samples as pos",
                "with OOD samples as pos",
            ):
                assert side in markdown
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
