import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from kls import calibration, ood
from kls.plots import (
    reliability_diagram,
    reliability_diagrams,
    risk_coverage_curves,
    roc_curves,
    score_histograms,
)

# Four bins of two classes: two samples in (0.5, 0.75], of them one right; three in (0.75, 1], of them two right.
LABELS = np.array([0, 1, 0, 1, 0])
CONFIDENCES = np.array([0.6, 0.7, 0.8, 0.9, 1.0])
PROBABILITIES = np.stack([CONFIDENCES, 1 - CONFIDENCES], axis=1)
PROBABILITIES[3] = [0.9, 0.1]
ECE = 2 / 5 * abs(1 / 2 - 0.65) + 3 / 5 * abs(2 / 3 - 0.9)
RNG = np.random.default_rng(0)
ID, FAR, NEAR = RNG.normal(2, 1, 300), RNG.normal(-1, 1, 200), RNG.normal(1.5, 1, 100)


def texts(panel):
    return "\n".join(text.get_text() for text in panel.texts)


def legend(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def shares(panel):
    """Returns the heights of both histograms of a panel."""
    return [[bar.get_height() for bar in bars] for bars in panel.containers]


def some_logits(count=400, classes=5, scale=3.0):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(count, classes)) * scale
    return np.where(rng.random(count) < 0.7, logits.argmax(axis=1), rng.integers(0, classes, count)), logits


OOD = {"far": FAR, "near": NEAR}


FIGURES = {
    "reliability": lambda labels, logits: reliability_diagram(labels, logits, from_logits=True),
    "reliabilities": lambda *sample: reliability_diagrams({"one": sample, "other": sample}, from_logits=True),
    "histograms": lambda *_: score_histograms(ID, OOD, xlabel="energy"),
    "roc": lambda *_: roc_curves(ID, OOD),
    "risk-coverage": lambda labels, logits: risk_coverage_curves(
        labels, {"as trained": logits, "halved": logits / 2}, from_logits=True
    ),
}


@pytest.mark.parametrize("kind", FIGURES)
def test_each_figure_is_saved_with_named_axes_and_nothing_global(kind, tmp_path):
    import matplotlib.pyplot as plt

    figure = FIGURES[kind](*some_logits())
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert all(panel.get_ylabel() for panel in figure.axes)
    assert any(panel.get_xlabel() for panel in figure.axes)
    assert plt.get_fignums() == []


class TestReliability:
    def test_bars_end_at_the_accuracy_and_gaps_at_the_confidence(self):
        above, below = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        accuracy, gap = above.containers
        for bars in (accuracy, gap, *below.containers):
            np.testing.assert_allclose([bar.get_x() for bar in bars], [0.5, 0.75])
            np.testing.assert_allclose([bar.get_width() for bar in bars], 0.25)
        np.testing.assert_allclose([bar.get_height() for bar in accuracy], [1 / 2, 2 / 3])
        np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in gap], [0.65, 0.9])
        np.testing.assert_allclose([bar.get_y() for bar in gap], [1 / 2, 2 / 3])
        np.testing.assert_allclose([bar.get_height() for bar in below.containers[0]], [40, 60])
        names = [text.get_text() for text in above.figure.legends[0].get_texts()]
        assert names == ["its 95 % confidence interval", "accuracy", "gap", "accuracy", "mean confidence"]
        assert above.get_xlim() == above.get_ylim() == (0, 1)
        np.testing.assert_allclose(above.lines[0].get_xydata(), [[0, 0], [1, 1]])

    def test_the_accuracy_of_each_bin_has_its_exact_interval(self):
        above, _ = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        segments = [np.asarray(segment) for segment in above.collections[0].get_segments()]
        for segment, centre, right, count in zip(segments, (0.625, 0.875), (1, 2), (2, 3), strict=True):
            expected = stats.binomtest(right, count).proportion_ci(0.95, method="exact")
            np.testing.assert_allclose(segment, [[centre, expected.low], [centre, expected.high]])

    def test_the_text_tells_the_error_the_bins_and_the_samples(self):
        assert pytest.approx(ECE) == 0.2
        above, _ = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        assert texts(above) == "accuracy 60.00 %, ECE 20.00 %\n4 bins, n = 5"
        labels, logits = some_logits(1200)
        text = texts(reliability_diagram(labels, logits, from_logits=True).axes[0])
        error = calibration.expected_calibration_error(labels, logits, from_logits=True)
        right = (logits.argmax(axis=1) == labels).mean()
        assert text == f"accuracy {100 * right:.2f} %, ECE {100 * error:.2f} %\n15 bins, n = 1,200"

    def test_lines_mark_the_accuracy_and_the_mean_confidence(self):
        _, below = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        found = {line.get_label(): line.get_xdata()[0] for line in below.lines}
        assert found == pytest.approx({"accuracy": 3 / 5, "mean confidence": 0.8})

    @pytest.mark.parametrize("from_logits", [False, True])
    def test_logits_and_one_hot_labels_draw_the_same(self, from_logits):
        logits = np.log(np.maximum(PROBABILITIES, 1e-300))
        figure = reliability_diagram(np.eye(2)[LABELS], logits if from_logits else PROBABILITIES, 4, from_logits)
        heights = [bar.get_height() for bar in figure.axes[0].containers[0]]
        np.testing.assert_allclose(heights, [1 / 2, 2 / 3])

    def test_edges_belong_to_the_bin_below(self):
        probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
        _, below = reliability_diagram([0, 0, 0], probabilities, bins=4).axes
        bars = [(bar.get_x(), bar.get_height()) for bar in below.containers[0]]
        np.testing.assert_allclose(bars, [(0.25, 100 / 3), (0.5, 100 / 3), (0.75, 100 / 3)])

    @pytest.mark.parametrize("right", [True, False])
    def test_one_sample_and_one_bin(self, right, tmp_path):
        figure = reliability_diagram([0 if right else 1], [[1.0, 0.0]], bins=1)
        figure.savefig(tmp_path / "figure.png")
        assert [bar.get_height() for bar in figure.axes[0].containers[0]] == [float(right)]
        assert f"ECE {0 if right else 100:.2f} %\n1 bin, n = 1" in texts(figure.axes[0]).replace("1 bins", "1 bin")

    def test_shares_sum_to_all_samples(self):
        labels, logits = some_logits()
        _, below = reliability_diagram(labels, logits, bins=13, from_logits=True, title="Mine").axes
        assert sum(bar.get_height() for bar in below.containers[0]) == pytest.approx(100)
        assert below.figure.axes[0].get_title() == "Mine"

    def test_what_is_no_probability_is_refused(self):
        with pytest.raises(ValueError, match="from_logits=True"):
            reliability_diagram([0], [[3.0, 1.0]])


class TestReliabilities:
    def test_each_panel_is_the_upper_one_of_the_methods_own_diagram(self):
        labels, logits = some_logits()
        methods = {"as trained": (labels, logits), "halved": (labels[:200], logits[:200] / 2)}
        panels = reliability_diagrams(methods, bins=7, from_logits=True, convention="netcal").axes
        for panel, (method, (y_true, scores)) in zip(panels, methods.items(), strict=True):
            own = reliability_diagram(y_true, scores, 7, from_logits=True, convention="netcal").axes[0]
            for bars, expected in zip(panel.containers, own.containers, strict=True):
                assert [bar.get_bbox().bounds for bar in bars] == [bar.get_bbox().bounds for bar in expected]
            assert texts(panel) == texts(own)
            assert panel.get_title() == method
            assert panel.get_xlim() == panel.get_ylim() == (0, 1)

    def test_accuracy_and_error_of_each_method_are_told(self):
        sharp = np.eye(2)[PROBABILITIES.argmax(axis=1)]
        figure = reliability_diagrams({"given": (LABELS, PROBABILITIES), "sharp": (LABELS, sharp)}, bins=4)
        assert [texts(panel) for panel in figure.axes] == [
            f"accuracy 60.00 %, ECE {error} %\n4 bins, n = 5" for error in ("20.00", "40.00")
        ]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "its 95 % confidence interval",
            "accuracy",
            "gap",
        ]

    def test_four_panels_to_a_row(self):
        figure = reliability_diagrams({f"method {i}": (LABELS, PROBABILITIES) for i in range(5)})
        assert figure.axes[0].get_gridspec().get_geometry() == (2, 4)
        assert [panel.get_visible() for panel in figure.axes] == [True] * 5 + [False] * 3


class TestHistograms:
    @pytest.mark.parametrize("count", [1, 3])
    def test_a_panel_per_data_set_with_shares_of_all_samples(self, count):
        ood_scores = dict(list({"far": FAR, "near": NEAR, "three": ID[:3]}.items())[:count])
        figure = score_histograms(ID, ood_scores, xlabel="energy", bins=20)
        assert len(figure.axes) == count
        for panel, (name, values) in zip(figure.axes, ood_scores.items(), strict=True):
            assert [sum(heights) for heights in shares(panel)] == pytest.approx([100, 100])
            edges = np.histogram_bin_edges(np.concatenate([ID, values]), 20)
            for heights, scores in zip(shares(panel), (ID, values), strict=True):
                np.testing.assert_allclose(heights, 100 * np.histogram(scores, edges)[0] / len(scores))
            np.testing.assert_allclose([bar.get_x() for bar in panel.containers[1]], edges[:-1])
            assert legend(panel) == ["ID (n = 300)", f"{name} (n = {len(values)})"]
            assert (panel.get_xlabel(), panel.get_ylabel()) == ("energy", "samples, %")

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_infinite_scores_are_counted_but_not_drawn(self, tmp_path):
        figure = score_histograms([0.0, 1.0, np.inf, -np.inf], {"far": np.array([0.0, 1.0, 2.0, -np.inf])}, bins=4)
        assert [sum(heights) for heights in shares(figure.axes[0])] == pytest.approx([50, 75])
        assert legend(figure.axes[0]) == ["ID (n = 4, 2 infinite not shown)", "far (n = 4, 1 infinite not shown)"]
        figure.savefig(tmp_path / "figure.png")

    def test_nothing_but_infinite_scores(self, tmp_path):
        figure = score_histograms(np.full(3, np.inf), {"far": np.full(2, -np.inf)})
        assert np.sum(shares(figure.axes[0])) == 0
        figure.savefig(tmp_path / "figure.png")

    @pytest.mark.parametrize(
        ("one", "other"),
        [(0.5, 0.5), (0.0, 0.0), (1.0, np.nextafter(1, 0)), (-1e20, -1e20), (-3e6, np.nextafter(-3e6, 0))],
        ids=["equal", "zero", "next to equal", "large and equal", "large and next to equal"],
    )
    def test_scores_that_hardly_differ(self, one, other, tmp_path):
        figure = score_histograms(np.full(7, one), {"far": np.full(3, other)})
        assert [sum(heights) for heights in shares(figure.axes[0])] == pytest.approx([100, 100])
        figure.savefig(tmp_path / "figure.png")

    def test_lists_and_single_precision(self):
        figure = score_histograms([1, 2], {"far": np.array([1.5], "float32")})
        assert [sum(heights) for heights in shares(figure.axes[0])] == pytest.approx([100, 100])


class TestROC:
    def test_lines_are_the_characteristics_and_the_legend_tells_the_area(self):
        panel = roc_curves([3.0, 2.0, 1.0], {"far": np.array([2.5, 0.0]), "tied": [1.0, 1.0]}, title="Mine").axes[0]
        far, tied, diagonal = panel.lines
        np.testing.assert_allclose(
            far.get_xydata(), [[0, 0], [0, 1 / 3], [1 / 2, 1 / 3], [1 / 2, 2 / 3], [1 / 2, 1], [1, 1]]
        )
        np.testing.assert_allclose(tied.get_xydata(), [[0, 0], [0, 1 / 3], [0, 2 / 3], [1, 1]])
        np.testing.assert_allclose(diagonal.get_xydata(), [[0, 0], [1, 1]])
        assert legend(panel) == ["far: AUROC 66.67 %", "tied: AUROC 83.33 %"]
        assert panel.get_title() == "Mine"

    def test_the_area_below_the_line_is_the_one_in_the_legend(self):
        panel = roc_curves(ID, {"near": NEAR}).axes[0]
        x, y = panel.lines[0].get_xydata().T
        assert legend(panel) == [f"near: AUROC {100 * np.trapezoid(y, x):.2f} %"]
        assert legend(panel) == [f"near: AUROC {100 * ood.auroc(ID, NEAR):.2f} %"]

    @pytest.mark.parametrize("value", [0.5, np.inf, -np.inf])
    def test_equal_scores_are_the_diagonal(self, value, tmp_path):
        figure = roc_curves(np.full(4, value), {"far": np.full(2, value)})
        np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[0, 0], [1, 1]])
        assert legend(figure.axes[0]) == ["far: AUROC 50.00 %"]
        figure.savefig(tmp_path / "figure.png")

    def test_infinite_scores_are_the_most_and_the_least_in_distribution(self):
        panel = roc_curves([np.inf, 1.0], {"far": [-np.inf, 0.0]}).axes[0]
        np.testing.assert_allclose(panel.lines[0].get_xydata(), [[0, 0], [0, 0.5], [0, 1], [0.5, 1], [1, 1]])
        assert legend(panel) == ["far: AUROC 100.00 %"]

    def test_chosen_thresholds_are_marked_and_named(self):
        # of the ID two of three lie above 1.5, of the OOD one of two; above 0.5 all and one
        points = {"above 1.5": (0.5, 2 / 3), "above 0.5": np.array([0.5, 1.0])}
        panel = roc_curves([3.0, 2.0, 1.0], {"far": [2.5, 0.0]}, points=points).axes[0]
        curve, _, first, second = panel.lines
        assert [first.get_xydata().tolist(), second.get_xydata().tolist()] == [[[0.5, 2 / 3]], [[0.5, 1.0]]]
        assert all(point in curve.get_xydata().tolist() for point in ([0.5, 2 / 3], [0.5, 1.0]))
        assert first.get_marker() != second.get_marker()
        assert legend(panel) == [
            "far: AUROC 66.67 %",
            "above 1.5\nFPR 50.00 %, TPR 66.67 %",
            "above 0.5\nFPR 50.00 %, TPR 100.00 %",
        ]


class TestRiskCoverage:
    def test_lines_are_the_error_among_the_most_confident(self):
        panel = risk_coverage_curves(LABELS, {"model": PROBABILITIES}).axes[0]
        # from the most confident down: right, wrong, right, wrong, right
        coverage, risk = [20, 40, 60, 80, 100], [0, 100 / 2, 100 / 3, 100 / 2, 100 * 2 / 5]
        np.testing.assert_allclose(panel.lines[0].get_xydata(), np.transpose([coverage, risk]), atol=1e-9)
        assert legend(panel) == [f"model: AURC {np.mean(risk):.3f} %"]
        assert panel.lines[0].get_drawstyle() == "steps-post"
        assert panel.get_xlim() == (0, 101)
        assert panel.get_ylim()[0] == 0

    def test_a_line_per_model_ending_at_its_error(self):
        labels, logits = some_logits()
        panel = risk_coverage_curves(labels, {"one": logits, "other": -logits}, from_logits=True).axes[0]
        for line, values in zip(panel.lines, (logits, -logits), strict=True):
            error = 100 * (1 - calibration.accuracy(labels, values, from_logits=True))
            assert line.get_xydata()[-1].tolist() == pytest.approx([100, error])
        assert [text.partition(":")[0] for text in legend(panel)] == ["one", "other"]

    @pytest.mark.parametrize("right", [True, False])
    def test_equal_confidences_are_answered_together_and_seen(self, right, tmp_path):
        probabilities = np.tile([0.7, 0.3], (6, 1))
        figure = risk_coverage_curves(np.full(6, 0 if right else 1), {"model": probabilities})
        line = figure.axes[0].lines[0]
        assert line.get_xydata()[-1].tolist() == [100, 0 if right else 100]
        assert len(line.get_xydata()) > 1 or line.get_marker() != "None"  # else nothing is to be seen
        assert legend(figure.axes[0]) == [f"model: AURC {0 if right else 100:.3f} %"]
        figure.savefig(tmp_path / "figure.png")
