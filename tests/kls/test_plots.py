import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from kls import calibration, ood, plots
from kls.per_class import class_scores
from kls.plots import (
    accuracy_against_calibration,
    accuracy_against_gamma,
    class_confidence,
    class_loss_curves,
    confidence_histograms,
    error_by_class,
    image_rows,
    largest_by_class,
    penultimate_projection,
    reliability_diagram,
    reliability_diagrams,
    risk_coverage_curves,
    roc_curves,
    score_histograms,
    smoothing_curves,
    teacher_and_student,
)


def test_a_panel_per_data_set_and_a_line_per_curve():
    curves = {
        "digits": {"measured (n=2)": ([0.9, 1.0], [97.8, 97.5], [0.1, 0.2]), "published (n=1)": ([0.8], [90.0], [0])},
        **{f"set {i}": {"measured (n=1)": ([1.0], [50.0 + i], [0])} for i in range(5)},
    }
    figure = accuracy_against_gamma(curves)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == list(curves)
    np.testing.assert_allclose(visible[0].lines[0].get_xydata(), [[0.9, 97.8], [1.0, 97.5]])
    assert [text.get_text() for text in visible[0].get_legend().get_texts()] == ["measured (n=2)", "published (n=1)"]
    assert {axes.get_xlabel() for axes in visible} == {"gamma (probability of the true class)"}
    assert {axes.get_ylabel() for axes in visible} == {"best accuracy, %"}


def test_one_panel_is_drawn_alone(tmp_path):
    figure = accuracy_against_gamma({"digits": {"measured (n=1)": ([1.0], [97.5], [0])}})
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 1


# Four bins of two classes: two samples in (0.5, 0.75], of them one right; three in (0.75, 1], of them two right.
LABELS = np.array([0, 1, 0, 1, 0])
CONFIDENCES = np.array([0.6, 0.7, 0.8, 0.9, 1.0])
PROBABILITIES = np.stack([CONFIDENCES, 1 - CONFIDENCES], axis=1)
PROBABILITIES[3] = [0.9, 0.1]
ECE = 2 / 5 * abs(1 / 2 - 0.65) + 3 / 5 * abs(2 / 3 - 0.9)
NAN = float("nan")
RNG = np.random.default_rng(0)
FAMILIAR, FAR, NEAR = RNG.normal(2, 1, 300), RNG.normal(-1, 1, 200), RNG.normal(1.5, 1, 100)


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


def smoothing(**changes):
    """A column of `smoothing_curves` with the least calibration error at alpha = 0.1."""
    curves = {
        "alpha": [0, 0.001, 0.1, 0.2],
        "accuracy": ([95.0, 94.5, 95.5, 94.0], [0.1, 0, 0.3, NAN]),
        "ece": ([4.0, 3.5, 1.5, 9.0], [0, 0, 0, 0]),
        "auroc": {"mnist": ([98.0, 97.0, NAN, 80.0], [1, 1, 1, 1]), "lsun": ([90.0, 89.0, 88.0, 70.0], [0, 0, 0, 0])},
    }
    return {**curves, **changes}


def curves_of(panel):
    """Returns `{label: (points, ends of the bars)}` of the curves of a panel."""
    return {
        curve.get_label(): (
            curve.lines[0].get_xydata().tolist(),
            [s[:, 1].tolist() for bars in curve.lines[2] for s in bars.get_segments() if len(s)],
        )
        for curve in panel.containers
    }


def dotted(panel):
    """Returns where the dotted vertical lines of a panel stand."""
    return [line.get_xdata()[0] for line in panel.lines if line.get_linestyle() == ":"]


def ticks(panel):
    return dict(zip(panel.get_xticks(), (text.get_text() for text in panel.get_xticklabels()), strict=True))


def losses(epochs=3, classes=5):
    """Losses of `class + 10 * epoch`, the higher classes the better ones, and accuracies of 50, 60, ... %."""
    table = np.arange(classes) + 10.0 * np.arange(1, epochs + 1)[:, None]
    return table, np.linspace(0.5, 0.9, classes), 50 + 10 * np.arange(epochs)


def drawn_shares(panel):
    """Returns `{label: shares}` of the stairs of a panel, NaN where nothing is drawn."""
    return {stairs.get_label(): stairs.get_data().values.tolist() for stairs in panel.patches}


def box_at(panel, place):
    """Returns the median and the sorted heights of the ends of the box and its whiskers at a place of a panel."""
    lines = [line.get_xydata() for line in panel.lines if line.get_xdata().mean() == pytest.approx(place, abs=1e-9)]
    (median,) = {line[0, 1] for line in lines if np.ptp(line[:, 0]) > 0.5}
    return median, sorted({height for line in lines for height in line[:, 1]} - {median})


def with_hatch(panel):
    """Returns the places of the hatched boxes or bars of a panel."""
    extents = [patch.get_path().get_extents(patch.get_patch_transform()) for patch in panel.patches]
    middles = [round((box.x0 + box.x1) / 2) for box in extents]
    return [middle for middle, patch in zip(middles, panel.patches, strict=True) if patch.get_hatch()]


def images(count=4, height=6, width=4, channels=1):
    return np.random.default_rng(2).uniform(size=(count, height, width, channels)).astype("float32")


UNFAMILIAR = {"far": FAR, "near": NEAR}
SCATTER = {
    "vanilla": {"resnet18": (77.83, 8.0), "resnet50": (78.57, 10.7)},
    "on-ldl": {"resnet18": (81.26, 4.3), "resnet50": (83.09, 3.0)},
    "kd": {"resnet18": (NAN, NAN), "resnet50": (79.12, 10.3)},
}
FIGURES = {
    "reliability": lambda labels, logits: reliability_diagram(labels, logits, from_logits=True),
    "reliabilities": lambda *sample: reliability_diagrams({"one": sample, "other": sample}, from_logits=True),
    "histograms": lambda *_: score_histograms(FAMILIAR, UNFAMILIAR, xlabel="energy"),
    "roc": lambda *_: roc_curves(FAMILIAR, UNFAMILIAR),
    "risk-coverage": lambda labels, logits: risk_coverage_curves(
        labels, {"as trained": logits, "halved": logits / 2}, from_logits=True
    ),
    "class confidence": lambda *sample: class_confidence({"resnet18": {"vanilla": sample}}, from_logits=True),
    "accuracy against calibration": lambda *_: accuracy_against_calibration({"cifar10": SCATTER}),
    "class losses": lambda *_: class_loss_curves({"vanilla": losses()}),
    "largest by class": lambda *_: largest_by_class({"0": FAR**2, "1": NEAR**2}, unfamiliar=["0"]),
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
    def test_bars_stand_at_the_accuracy_and_the_gap_ends_at_the_confidence(self):
        above, below = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        accuracy, gap = above.containers
        for bars in (accuracy, gap, *below.containers):
            np.testing.assert_allclose([bar.get_x() for bar in bars], [0.5, 0.75])
            np.testing.assert_allclose([bar.get_width() for bar in bars], 0.25)
        np.testing.assert_allclose([bar.get_height() for bar in accuracy], [1 / 2, 2 / 3])
        np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in gap], [0.65, 0.9])
        np.testing.assert_allclose([bar.get_y() for bar in gap], [1 / 2, 2 / 3])
        np.testing.assert_allclose([bar.get_height() for bar in below.containers[0]], [40, 60])
        assert legend(above) == ["accuracy", "gap"]
        assert above.get_xlim() == above.get_ylim() == (0, 1)
        np.testing.assert_allclose(above.lines[0].get_xydata(), [[0, 0], [1, 1]])

    def test_the_text_tells_the_error_the_bins_and_the_samples(self):
        assert pytest.approx(ECE) == 0.2
        above, _ = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        assert texts(above) == "accuracy 60.00 %\nECE 20.00 %\n4 bins, n = 5"
        labels, logits = some_logits(1200)
        text = texts(reliability_diagram(labels, logits, from_logits=True).axes[0])
        error = calibration.expected_calibration_error(labels, logits, from_logits=True)
        right = (logits.argmax(axis=1) == labels).mean()
        assert text == f"accuracy {100 * right:.2f} %\nECE {100 * error:.2f} %\n15 bins, n = 1,200"

    def test_lines_mark_the_accuracy_and_the_mean_confidence(self):
        _, below = reliability_diagram(LABELS, PROBABILITIES, bins=4).axes
        found = dict(zip(legend(below), (line.get_xdata()[0] for line in below.lines), strict=True))
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
            f"accuracy 60.00 %\nECE {error} %\n4 bins, n = 5" for error in ("20.00", "40.00")
        ]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["accuracy", "gap"]

    def test_four_panels_to_a_row(self):
        figure = reliability_diagrams({f"method {i}": (LABELS, PROBABILITIES) for i in range(5)})
        assert figure.axes[0].get_gridspec().get_geometry() == (2, 4)
        assert [panel.get_visible() for panel in figure.axes] == [True] * 5 + [False] * 3


class TestHistograms:
    @pytest.mark.parametrize("count", [1, 3])
    def test_a_panel_per_data_set_with_shares_of_all_samples(self, count):
        unfamiliar = dict(list({"far": FAR, "near": NEAR, "three": FAMILIAR[:3]}.items())[:count])
        figure = score_histograms(FAMILIAR, unfamiliar, xlabel="energy", bins=20)
        assert len(figure.axes) == count
        for panel, (name, values) in zip(figure.axes, unfamiliar.items(), strict=True):
            assert [sum(heights) for heights in shares(panel)] == pytest.approx([100, 100])
            edges = np.histogram_bin_edges(np.concatenate([FAMILIAR, values]), 20)
            for heights, scores in zip(shares(panel), (FAMILIAR, values), strict=True):
                np.testing.assert_allclose(heights, 100 * np.histogram(scores, edges)[0] / len(scores))
            np.testing.assert_allclose([bar.get_x() for bar in panel.containers[1]], edges[:-1])
            assert legend(panel) == ["familiar (n = 300)", f"{name} (n = {len(values)})"]
            assert (panel.get_xlabel(), panel.get_ylabel()) == ("energy", "samples, %")

    @pytest.mark.filterwarnings("error::RuntimeWarning")
    def test_infinite_scores_are_counted_but_not_drawn(self, tmp_path):
        figure = score_histograms([0.0, 1.0, np.inf, -np.inf], {"far": np.array([0.0, 1.0, 2.0, -np.inf])}, bins=4)
        assert [sum(heights) for heights in shares(figure.axes[0])] == pytest.approx([50, 75])
        assert legend(figure.axes[0]) == ["familiar (n = 4, 2 infinite not shown)", "far (n = 4, 1 infinite not shown)"]
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
        panel = roc_curves(FAMILIAR, {"near": NEAR}).axes[0]
        x, y = panel.lines[0].get_xydata().T
        assert legend(panel) == [f"near: AUROC {100 * np.trapezoid(y, x):.2f} %"]
        assert legend(panel) == [f"near: AUROC {100 * ood.auroc(FAMILIAR, NEAR):.2f} %"]

    @pytest.mark.parametrize("value", [0.5, np.inf, -np.inf])
    def test_equal_scores_are_the_diagonal(self, value, tmp_path):
        figure = roc_curves(np.full(4, value), {"far": np.full(2, value)})
        np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[0, 0], [1, 1]])
        assert legend(figure.axes[0]) == ["far: AUROC 50.00 %"]
        figure.savefig(tmp_path / "figure.png")

    def test_infinite_scores_are_the_most_and_the_least_familiar(self):
        panel = roc_curves([np.inf, 1.0], {"far": [-np.inf, 0.0]}).axes[0]
        np.testing.assert_allclose(panel.lines[0].get_xydata(), [[0, 0], [0, 0.5], [0, 1], [0.5, 1], [1, 1]])
        assert legend(panel) == ["far: AUROC 100.00 %"]

    def test_chosen_thresholds_are_marked_and_named(self):
        # of the familiar two of three lie above 1.5, of the unfamiliar one of two; above 0.5 all and one
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

    @pytest.mark.parametrize("rates", [(4.0, 95.0), (-0.1, 0.5), (0.5,), 0.5, (NAN, 0.5)], ids=str)
    def test_a_point_that_is_no_pair_of_rates_is_refused(self, rates):
        message = f"`points` must hold pairs (FPR, TPR) of rates between 0 and 1. Received: 'chosen': {rates}"
        with pytest.raises(ValueError, match=re.escape(message)):
            roc_curves(FAMILIAR, {"far": FAR}, points={"chosen": rates})


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


class TestSmoothing:
    def test_curves_stand_at_even_distances_with_bars_where_there_is_a_deviation(self):
        upper, lower, right = smoothing_curves({"cifar10": smoothing()}).axes
        ((points, bars),) = curves_of(upper).values()
        assert points == [[0, 95.0], [1, 94.5], [2, 95.5], [3, 94.0]]
        np.testing.assert_allclose(bars, [[94.9, 95.1], [95.2, 95.8]])
        assert list(curves_of(right).values()) == [([[0, 4.0], [1, 3.5], [2, 1.5], [3, 9.0]], [])]
        for panel in (upper, lower):
            assert ticks(panel) == {0: "0", 1: "0.001", 2: "0.1", 3: "0.2"}
        assert upper.get_title() == "cifar10"
        assert [panel.get_ylabel() for panel in (upper, lower, right)] == ["accuracy, %", "AUROC, %", "ECE, %"]
        assert upper.get_xlabel() == lower.get_xlabel() == "alpha (label smoothing)"

    def test_a_mean_of_nan_is_left_out_with_its_bar(self):
        _, lower, _ = smoothing_curves({"cifar10": smoothing()}).axes
        assert curves_of(lower) == {
            "mnist": ([[0, 98.0], [1, 97.0], [3, 80.0]], [[97.0, 99.0], [96.0, 98.0], [79.0, 81.0]]),
            "lsun": ([[0, 90.0], [1, 89.0], [2, 88.0], [3, 70.0]], []),
        }
        assert legend(lower) == ["mnist", "lsun"]

    @pytest.mark.parametrize(
        ("errors", "at"),
        [
            ([4.0, 3.5, 1.5, 9.0], [2]),
            ([1.0, 3.5, 1.5, 9.0], [0]),
            ([NAN, 3.5, NAN, 2.0], [3]),
            ([2.0, 1.0, 1.0, 2.0], [1]),
            ([NAN] * 4, []),
        ],
        ids=["within", "first", "missing", "tied", "none"],
    )
    @pytest.mark.filterwarnings("error")
    def test_a_dotted_line_marks_the_least_calibration_error(self, errors, at, tmp_path):
        figure = smoothing_curves({"cifar10": smoothing(ece=(errors, [0] * 4))})
        upper, lower, _ = figure.axes
        assert dotted(upper) == dotted(lower) == at
        assert {line.get_color() for line in (*upper.lines, *lower.lines) if line.get_linestyle() == ":"} <= {"red"}
        figure.savefig(tmp_path / "figure.png")

    def test_an_unfamiliar_set_has_one_colour_in_all_columns(self):
        other = smoothing(
            alpha=[0], accuracy=([9], [0]), ece=([1], [0]), auroc={"noise": ([9], [0]), "lsun": ([8], [0])}
        )
        figure = smoothing_curves({"cifar10": smoothing(), "svhn": other})
        assert [panel.get_title() for panel in figure.axes[:2]] == ["cifar10", "svhn"]
        colors = [{curve.get_label(): curve.lines[0].get_color() for curve in p.containers} for p in figure.axes[2:4]]
        assert colors[0]["lsun"] == colors[1]["lsun"]
        assert len({*colors[0].values(), *colors[1].values()}) == 3
        assert dotted(figure.axes[1]) == dotted(figure.axes[3]) == [0]


class TestTeacherAndStudent:
    def test_bars_stand_side_by_side_at_their_values(self):
        panel = teacher_and_student({"cifar10": {"mnist": (84.28, 90.95), "lsun": (99.99, 99.94)}}).axes[0]
        bars = {c.get_label(): [(b.get_x(), b.get_width(), b.get_height()) for b in c] for c in panel.containers}
        np.testing.assert_allclose(bars["teacher"], [(-0.4, 0.4, 84.28), (0.6, 0.4, 99.99)])
        np.testing.assert_allclose(bars["student"], [(0, 0.4, 90.95), (1, 0.4, 99.94)], atol=1e-12)
        assert {text.get_text().strip(): text.get_position()[0] for text in panel.texts} == pytest.approx(
            {"84.28": -0.2, "99.99": 0.8, "90.95": 0.2, "99.94": 1.2}
        )
        assert ticks(panel) == {0: "mnist", 1: "lsun"}
        assert [text.get_text() for text in panel.figure.legends[0].get_texts()] == ["teacher", "student"]

    def test_nan_is_left_out(self):
        panel = teacher_and_student({"cifar10": {"mnist": (NAN, 90.0), "lsun": (95.0, NAN), "noise": (NAN, NAN)}}).axes[
            0
        ]
        np.testing.assert_allclose(
            [[(b.get_x(), b.get_height()) for b in c] for c in panel.containers], [[(0.6, 95)], [(0, 90)]], atol=1e-12
        )
        assert [text.get_text().strip() for text in panel.texts] == ["95.00", "90.00"]
        assert ticks(panel) == {0: "mnist", 1: "lsun", 2: "noise"}

    @pytest.mark.parametrize("pair", [(90.0, 80.0), (90.0, NAN), (NAN, NAN)])
    def test_the_legend_has_the_colours_of_the_bars_whatever_is_missing(self, pair):
        figure = teacher_and_student({"one": {"mnist": pair}, "other": {"mnist": (95.0, 94.0)}})
        bars = [container[0].get_facecolor() for container in figure.axes[1].containers]
        assert [patch.get_facecolor() for patch in figure.legends[0].get_patches()] == bars

    @pytest.mark.parametrize(
        ("least", "bottom"), [(84.28, 80), (81.0, 70), (80.0, 70), (99.99, 90), (50.0, 40), (2.0, 0), (NAN, 90)]
    )
    def test_the_axis_begins_below_the_least_bar_in_all_panels(self, least, bottom):
        figure = teacher_and_student({"one": {"mnist": (least, 100.0)}, "other": {"mnist": (100.0, 100.0)}})
        assert [panel.get_ylim() for panel in figure.axes] == [(bottom, 100)] * 2

    @pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (3, 1, 3), (4, 2, 3), (6, 2, 3)])
    def test_three_panels_to_a_row(self, count, rows, columns, tmp_path):
        panels = {f"set {i}": {"mnist": (90.0 + i, 91.0 + i)} for i in range(count)}
        figure = teacher_and_student(panels)
        assert figure.axes[0].get_gridspec().get_geometry() == (rows, columns)
        visible = [panel for panel in figure.axes if panel.get_visible()]
        assert [panel.get_title() for panel in visible] == list(panels)
        assert [panel.containers[1][0].get_height() for panel in visible] == [91.0 + i for i in range(count)]
        assert {panel.get_ylabel() for panel in visible} == {"AUROC, %"}
        figure.savefig(tmp_path / "figure.png")


class TestClassConfidence:
    def test_a_point_per_class_at_its_confidence_and_score(self):
        panel = class_confidence({"resnet18": {"vanilla": (LABELS, PROBABILITIES)}}, bins=4).axes[0]
        # class 0: true with 0.6, 0.8, 1.0, two of three predicted right beside one wrong; class 1: 0.3, 0.1
        np.testing.assert_allclose(panel.collections[0].get_offsets(), [[0.8, 6 / 8], [0.2, 0]])
        assert legend(panel) == ["vanilla (60.00 %, 20.00 %)"]
        assert panel.get_title() == "resnet18"

    def test_methods_look_alike_in_all_panels_and_unlike_one_another(self):
        labels, logits = some_logits()
        one, other = (labels, logits), (labels, logits / 2)
        figure = class_confidence({"a": {"one": one, "other": other}, "b": {"other": other}}, from_logits=True)
        first, second, again = (points for panel in figure.axes for points in panel.collections)
        np.testing.assert_array_equal(second.get_offsets(), again.get_offsets())
        np.testing.assert_allclose(first.get_offsets(), np.transpose(class_scores(*one, from_logits=True)[::-1]))
        assert second.get_facecolor().tolist() == again.get_facecolor().tolist() != first.get_facecolor().tolist()
        assert len(second.get_paths()[0]) == len(again.get_paths()[0]) != len(first.get_paths()[0])

    @pytest.mark.filterwarnings("error")
    def test_a_class_without_samples_is_left_out(self, tmp_path):
        figure = class_confidence({"resnet18": {"vanilla": ([0, 1], [[0.9, 0.1, 0], [0.2, 0.8, 0]])}})
        points = np.ma.filled(figure.axes[0].collections[0].get_offsets(), NAN)
        np.testing.assert_allclose(points[~np.isnan(points).any(axis=1)], [[0.9, 1], [0.8, 1]])
        figure.savefig(tmp_path / "figure.png")


class TestAccuracyAgainstCalibration:
    def test_points_stand_at_accuracy_and_error_beside_the_networks_names(self):
        panel = accuracy_against_calibration({"cifar100": SCATTER}).axes[0]
        found = {points.get_label(): points.get_offsets().tolist() for points in panel.collections}
        assert found["vanilla"] == [[77.83, 8.0], [78.57, 10.7]]
        assert found["on-ldl"] == [[81.26, 4.3], [83.09, 3.0]]
        assert found["kd"][1] == [79.12, 10.3]
        drawn = [(n, p) for networks in SCATTER.values() for n, p in networks.items() if not np.isnan(p).any()]
        assert [(text.get_text(), tuple(text.xy)) for text in panel.texts] == drawn
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("accuracy, %", "ECE, %")

    def test_one_legend_names_every_method_once(self):
        figure = accuracy_against_calibration({"cifar10": SCATTER, "cifar100": {**SCATTER, "ls": {"dla34": (79, 4)}}})
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vanilla", "on-ldl", "kd", "ls"]
        assert [panel.get_title() for panel in figure.axes] == ["cifar10", "cifar100"]
        first, second = (panel.collections[1].get_facecolor().tolist() for panel in figure.axes)
        assert first == second

    def test_names_of_neighbours_do_not_cover_one_another(self):
        near = {f"method {i}": {"resnet200": (80 + 0.1 * i, 5.0)} for i in range(4)}
        figure = accuracy_against_calibration({"cifar100": {**near, "far": {"resnet18": (70, 9)}}})
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert all(not box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])

    def test_a_hundred_and_ten_methods_look_different(self):
        figure = accuracy_against_calibration({"cifar100": {f"{i}": {"": (NAN, NAN)} for i in range(110)}})
        looks = {
            (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
            for points in figure.axes[0].collections
        }
        assert len(looks) == 110


class TestClassLosses:
    def test_lines_are_the_means_over_the_best_and_the_worst_classes(self):
        upper, lower, right, _ = class_loss_curves({"vanilla": losses()}, counts=(1, 2)).axes
        epochs = [1, 2, 3]
        for panel, best, worst, count in ((upper, 4, 0, 1), (lower, 3.5, 0.5, 2)):
            lines = {line.get_label(): line for line in panel.lines}
            expected = {f"vanilla, best {count}": (best, "-"), f"vanilla, worst {count}": (worst, "--")}
            assert lines.keys() == expected.keys()
            for name, (level, style) in expected.items():
                np.testing.assert_allclose(lines[name].get_xydata(), [(e, 10 * e + level) for e in epochs])
                assert lines[name].get_linestyle() == style
        np.testing.assert_allclose(right.lines[0].get_xydata(), [[1, 50], [2, 60], [3, 70]])
        assert right.get_ylabel() == "accuracy, %"
        assert legend(upper) == ["vanilla, best 1", "vanilla, worst 1", "vanilla, accuracy"]

    def test_each_method_has_its_own_best_classes_and_one_colour(self):
        table, scores, accuracies = losses()
        methods = {"one": (table, scores, accuracies), "other": (table, scores[::-1], accuracies)}
        panel, right = class_loss_curves(methods, counts=(1,)).axes
        assert [line.get_ydata()[0] for line in panel.lines] == [14, 10, 10, 14]
        assert [line.get_color() for line in (*panel.lines, *right.lines)] == ["C0", "C0", "C1", "C1", "C0", "C1"]

    @pytest.mark.parametrize(("classes", "counts"), [(2, [1]), (10, [5]), (11, [5]), (30, [5, 15]), (100, [5, 20])])
    def test_no_class_is_among_the_best_and_the_worst(self, classes, counts):
        figure = class_loss_curves({"vanilla": losses(classes=classes)})
        panels = figure.axes[: len(figure.axes) // 2]
        assert [panel.lines[0].get_label() for panel in panels] == [f"vanilla, best {count}" for count in counts]


class TestPenultimateProjection:
    def test_a_row_per_samples_a_column_per_method_and_a_colour_per_class(self):
        rows = {
            samples: {
                method: {name: RNG.normal(size=(count, 2)) for name in ("beaver", "otter", "dolphin")}
                for method in ("vanilla", "ls")
            }
            for samples, count in (("training", 5), ("test", 3))
        }
        figure = penultimate_projection(rows)
        assert figure.axes[0].get_gridspec().get_geometry() == (2, 2)
        assert [panel.get_title() for panel in figure.axes] == ["vanilla", "ls", "", ""]
        assert [panel.get_ylabel() for panel in figure.axes] == ["training", "", "test", ""]
        cells = [cell for methods in rows.values() for cell in methods.values()]
        for panel, cell in zip(figure.axes, cells, strict=True):
            for points, (name, expected) in zip(panel.collections, cell.items(), strict=True):
                np.testing.assert_allclose(points.get_offsets(), expected)
                assert points.get_label() == name
            assert panel.get_aspect() == 1
        colors = [[points.get_facecolor().tolist() for points in panel.collections] for panel in figure.axes]
        assert colors[0] == colors[1] == colors[2] == colors[3]
        assert len({str(color) for color in colors[0]}) == 3
        assert legend(figure.axes[1]) == legend(figure.axes[3]) == ["beaver", "otter", "dolphin"]


class TestConfidences:
    def test_each_group_is_in_percent_of_itself_in_bins_that_all_panels_share(self):
        panels = {"ce": {"correct": [1.0, 0.9, 0.9, 0.1], "wrong": [0.1, 0.6]}, "std": {"wrong": [0.3], "new": [0.2]}}
        first, second = confidence_histograms(panels, bins=3, xlabel="score").axes  # edges at 0.1, 0.4, 0.7 and 1.0
        for panel in (first, second):
            np.testing.assert_allclose(panel.patches[0].get_data().edges, [0.1, 0.4, 0.7, 1.0])
            assert (panel.get_xlabel(), panel.get_ylabel()) == ("score", "share of the group, %")
        one, other = drawn_shares(first), drawn_shares(second)
        np.testing.assert_equal(one, {"correct (n = 4)": [25, NAN, 75], "wrong (n = 2)": [50, 50, NAN]})
        np.testing.assert_equal(other, {"wrong (n = 1)": [100, NAN, NAN], "new (n = 1)": [100, NAN, NAN]})
        assert [first.get_title(), second.get_title()] == ["ce", "std"]
        assert legend(first) == list(one)
        assert first.get_xlim() == second.get_xlim()

    def test_a_group_looks_alike_in_all_panels_and_unlike_the_others(self):
        panels = {"a": {"correct": [1], "wrong": [0]}, "b": {"wrong": [0], "unfamiliar": [1]}}
        looks = [
            (tuple(stairs.get_edgecolor()), stairs.get_linestyle())
            for panel in confidence_histograms(panels).axes
            for stairs in panel.patches
        ]
        assert looks[1] == looks[2]
        assert len({color for color, _ in looks}) == len({line for _, line in looks}) == 3

    @pytest.mark.parametrize(("size", "scale"), [(100, "linear"), (101, "log")])
    def test_the_axis_is_logarithmic_beyond_two_orders_of_magnitude(self, size, scale):
        # the least share is one of `size`, the largest is all, in the other panel
        figure = confidence_histograms({"a": {"all": np.minimum(np.arange(size), 1)}, "b": {"all": [0.5]}}, bins=10)
        assert {panel.get_yscale() for panel in figure.axes} == {scale}
        for panel in figure.axes:
            low, high = panel.get_ylim()
            assert low < 100 / size
            assert high > 100

    @pytest.mark.filterwarnings("error")
    def test_an_empty_group_is_named_and_not_drawn(self, tmp_path):
        figure = confidence_histograms({"a": {"correct": [0.2, 0.7], "wrong": []}, "b": {"correct": []}}, bins=5)
        assert legend(figure.axes[0]) == ["correct (n = 2)", "wrong (n = 0)"]
        assert np.isnan(drawn_shares(figure.axes[0])["wrong (n = 0)"]).all()
        assert legend(figure.axes[1]) == ["correct (n = 0)"]
        figure.savefig(tmp_path / "figure.png")
        confidence_histograms({"a": {"correct": []}}).savefig(tmp_path / "empty.png")

    def test_a_threshold_is_a_dashed_line_in_its_own_panel(self):
        scores = {"correct": [0.2, 0.9]}
        figure = confidence_histograms({"a": scores, "b": scores, "c": scores}, threshold={"a": 0.659, "c": 0.95})
        lines = [[(*line.get_xdata(), line.get_linestyle()) for line in panel.lines] for panel in figure.axes]
        assert lines == [[(0.659, 0.659, "--")], [], [(0.95, 0.95, "--")]]
        assert [legend(panel)[1:] for panel in figure.axes] == [["threshold 0.659"], [], ["threshold 0.950"]]
        assert figure.axes[0].get_xlim()[1] > 0.95  # a threshold above all scores is seen

    @settings(max_examples=6, deadline=None)
    @given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9), min_size=1, max_size=3))
    def test_the_shares_of_a_group_sum_to_all_of_it(self, groups):
        figure = confidence_histograms({"all": {f"{i}": scores for i, scores in enumerate(groups)}}, bins=7)
        sums = [np.nansum(shares) for shares in drawn_shares(figure.axes[0]).values()]
        assert sums == pytest.approx([100] * len(groups))

    @pytest.mark.parametrize("panels", [{}, {"a": {}}, {"a": {"correct": [1]}, "b": {}}], ids=str)
    def test_nothing_to_draw_is_refused(self, panels):
        with pytest.raises(
            ValueError, match=r"`panels` must be a dictionary of one entry at least\. Received: panels=\{\}"
        ):
            confidence_histograms(panels)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (NAN, r"`panels` must not hold NaN\. Received: 1 of them, the first at 1"),
            (np.inf, r"`panels` must hold finite scores. Received: \[0.5 inf\]"),
        ],
    )
    def test_a_score_that_is_not_finite_is_refused(self, value, message):
        with pytest.raises(ValueError, match=message):
            confidence_histograms({"a": {"correct": [0.5, value]}})

    def test_a_threshold_of_no_panel_is_refused(self):
        with pytest.raises(ValueError, match=r"`threshold` must name panels among \['a'\]. Received: \{'b': 0.5\}"):
            confidence_histograms({"a": {"correct": [1]}}, threshold={"b": 0.5})


class TestImageRows:
    def test_every_image_stands_in_its_row_and_column(self):
        rows = {"original": images(), "denoised": 1 - images()}
        (panel,) = image_rows(rows).axes
        assert len(panel.images) == 8
        for image in panel.images:
            left, right, bottom, top = image.get_extent()
            row, column = int((top + bottom) / 2), int((left + right) / 2)
            assert column < left < right < column + 1
            assert row < top < bottom < row + 1
            expected = list(rows.values())[row][column, :, :, 0]
            np.testing.assert_array_equal(image.get_array(), expected)
            assert image.get_clim() == (0, 1)
        assert panel.get_xlim() == (0, 4)
        assert panel.get_ylim() == (2, 0)  # the first row above
        assert panel.get_aspect() == 6 / 4  # a cell is as high and as wide as an image
        assert [(text.get_position()[1], text.get_text()) for text in panel.get_yticklabels()] == [
            (0.5, "original"),
            (1.5, "denoised"),
        ]
        assert {text.get_text() for text in panel.get_xticklabels()} == {""}

    def test_values_outside_are_clipped_for_display_alone(self):
        given_images = np.float32([-0.5, 0, 0.5, 1.5]).reshape(1, 2, 2, 1)
        (panel,) = image_rows({"denoised": given_images}).axes
        np.testing.assert_array_equal(panel.images[0].get_array(), [[0, 0], [0.5, 1]])
        assert given_images.min() == -0.5

    def test_colours_are_kept(self):
        (panel,) = image_rows({"original": images(channels=3)}).axes
        np.testing.assert_array_equal(panel.images[2].get_array(), images(channels=3)[2])

    def test_a_gap_makes_two_groups_with_titles_of_their_own(self):
        figure = image_rows({"a": images(), "b": images()}, list("wxyz"), gap=1, titles=("unfamiliar", "familiar"))
        left, right = figure.axes
        assert [panel.get_title() for panel in (left, right)] == ["unfamiliar", "familiar"]
        assert [ticks(panel) for panel in (left, right)] == [{0.5: "w"}, {0.5: "x", 1.5: "y", 2.5: "z"}]
        shown = [image.get_array() for panel in (left, right) for image in panel.images if image.get_extent()[3] < 1]
        np.testing.assert_array_equal(shown, images()[..., 0])
        assert [text.get_text() for text in left.get_yticklabels()] == ["a", "b"]
        assert list(right.get_yticks()) == []
        figure.draw_without_rendering()
        first, second, third = (panel.images[i].get_window_extent() for panel, i in ((left, 0), (right, 0), (right, 1)))
        assert (second.y0, second.y1) == pytest.approx((first.y0, first.y1))
        assert second.x0 - first.x1 > 2 * (third.x0 - second.x1) > 0

    def test_no_two_titles_touch_and_none_is_cut_off(self):
        figure = image_rows(
            {"original image": images(6), "denoised": images(6)},
            ["6 (0.41)", "familiar 3", "0 (1.00)", "8\n(0.77)", "misclassified", "misclassified"],
            gap=3,
            titles=("unfamiliar", "familiar"),
        )
        figure.draw_without_rendering()
        labels = [
            text
            for panel in figure.axes
            for text in (panel.title, *panel.get_xticklabels(), *panel.get_yticklabels())
            if text.get_text()
        ]
        boxes = [text.get_window_extent() for text in labels]
        boxes += [image.get_window_extent() for panel in figure.axes for image in panel.images]
        assert len(boxes) == 2 + 6 + 2 + 12
        assert not [(one, other) for i, one in enumerate(boxes) for other in boxes[:i] if one.overlaps(other)]
        width, height = figure.bbox.size
        assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height for box in boxes)

    @pytest.mark.parametrize(
        ("rows", "received"),
        [
            ({"a": images(4), "b": images(3)}, "{'a': 'float32 (4, 6, 4, 1)', 'b': 'float32 (3, 6, 4, 1)'}"),
            ({"a": images(0)}, "{'a': 'float32 (0, 6, 4, 1)'}"),
            ({"a": images()[..., 0]}, "{'a': 'float32 (4, 6, 4)'}"),
            ({"a": images(channels=2)}, "{'a': 'float32 (4, 6, 4, 2)'}"),
            ({"a": np.zeros((4, 6, 4, 1), "uint8")}, "{'a': 'uint8 (4, 6, 4, 1)'}"),
        ],
        ids=["numbers", "empty", "rank", "channels", "integers"],
    )
    def test_rows_that_are_no_images_of_one_shape_are_refused(self, rows, received):
        with pytest.raises(ValueError, match=r"`rows` must hold float images .* Received: " + re.escape(received)):
            image_rows(rows)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"columns": ["a"]}, "`columns` must be a list of 4 titles. Received: ['a']"),
            ({"gap": 0}, "`gap` must be a whole number in 1..3. Received: gap=0"),
            ({"gap": 4}, "`gap` must be a whole number in 1..3. Received: gap=4"),
            ({"titles": ["a", "b"]}, "`titles` must be a list of 1 titles. Received: ['a', 'b']"),
            ({"gap": 2, "titles": ["a"]}, "`titles` must be a list of 2 titles. Received: ['a']"),
        ],
        ids=["columns", "first", "last", "titles without gap", "titles"],
    )
    def test_what_does_not_fit_the_columns_is_refused(self, options, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            image_rows({"a": images()}, **options)


class TestErrorByClass:
    def test_a_box_ends_at_the_quartiles_and_its_whiskers_at_the_percentiles(self):
        errors = {"0": RNG.permutation(np.arange(1.0, 102.0)), "1": np.arange(101.0) / 1000}
        figure = error_by_class(errors, unfamiliar=["0"])
        (panel,) = figure.axes
        np.testing.assert_allclose(box_at(panel, 0)[0], 51)
        np.testing.assert_allclose(box_at(panel, 0)[1], [6, 26, 76, 96])
        np.testing.assert_allclose(box_at(panel, 1)[0], 0.05)
        np.testing.assert_allclose(box_at(panel, 1)[1], [0.005, 0.025, 0.075, 0.095])
        assert (panel.get_yscale(), panel.get_ylabel()) == ("log", "reconstruction error (MSE)")

    def test_places_follow_the_classes_and_the_unfamiliar_ones_are_coloured(self):
        errors = {name: [i + 1.0, i + 2.0, i + 3.0] for i, name in enumerate("abcd")}
        figure = error_by_class(errors, unfamiliar=["b", "d"])
        (panel,) = figure.axes
        assert [box_at(panel, place)[0] for place in range(4)] == [2, 3, 4, 5]
        assert ticks(panel) == {i: f"{name}\nn = 3" for i, name in enumerate("abcd")}
        assert with_hatch(panel) == [1, 3]
        colors = {patch.get_facecolor(): bool(patch.get_hatch()) for patch in panel.patches}
        assert sorted(colors.values()) == [False, True]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["familiar", "unfamiliar"]

    @pytest.mark.filterwarnings("error")
    def test_a_class_without_samples_keeps_its_place(self, tmp_path):
        figure = error_by_class({"a": [], "b": np.full(1234, 0.5), "c": [0.0, 0.1]}, unfamiliar=["a"])
        assert list(ticks(figure.axes[0]).values()) == ["a\nn = 0", "b\nn = 1,234", "c\nn = 2"]
        figure.savefig(tmp_path / "figure.png")
        error_by_class({"a": []}).savefig(tmp_path / "empty.png")


class TestLargestByClass:
    def test_bars_count_the_largest_and_lines_tell_what_chance_gives(self):
        errors = {"0": [9.0, 8.0, 1.0], "1": [0.5], "2": [7.0, 0.1, 0.2, 0.3, 0.4, 0.6]}
        figure = largest_by_class(errors, count=4, unfamiliar=["0"])
        (panel,) = figure.axes
        bars = sorted((bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in panel.patches)
        np.testing.assert_allclose(bars, [(0, 3), (1, 0), (2, 1)])
        chance = [segment.tolist() for segment in panel.collections[0].get_segments()]
        np.testing.assert_allclose(
            chance, [[[i - 0.4, y], [i + 0.4, y]] for i, y in enumerate((4 * 0.3, 4 * 0.1, 4 * 0.6))]
        )
        assert {text.xy[0]: text.get_text() for text in panel.texts} == pytest.approx({0: "3", 1: "0", 2: "1"})
        assert ticks(panel) == {0: "0\nn = 3", 1: "1\nn = 1", 2: "2\nn = 6"}
        assert with_hatch(panel) == [0]
        assert panel.get_ylabel() == "among the 4 largest errors"
        assert {text.get_text() for text in figure.legends[0].get_texts()} == {"familiar", "unfamiliar", "by chance"}

    @settings(max_examples=6, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=4).filter(any), st.data())
    def test_all_that_are_counted_are_drawn_and_none_left_out_is_larger(self, groups, data):
        count = data.draw(st.integers(1, sum(map(len, groups))))
        panel = largest_by_class({f"{i}": errors for i, errors in enumerate(groups)}, count).axes[0]
        heights = [int(bar.get_height()) for bar in panel.patches]
        assert sum(heights) == count
        ordered = [(sorted(errors, reverse=True), height) for errors, height in zip(groups, heights, strict=True)]
        taken = [error for errors, height in ordered for error in errors[:height]]
        left = [error for errors, height in ordered for error in errors[height:]]
        assert min(taken) >= max(left, default=0)

    def test_of_equal_errors_those_of_the_first_class_count_as_larger(self):
        panel = largest_by_class({"a": [1.0, 2.0], "b": [1.0, 2.0]}, count=3).axes[0]
        assert [bar.get_height() for bar in panel.patches] == [2, 1]

    @pytest.mark.parametrize("count", [0, -1, 4])
    def test_a_count_of_none_or_of_more_than_there_are_is_refused(self, count):
        message = f"`count` must be a whole number in 1..3. Received: count={count}"
        with pytest.raises(ValueError, match=re.escape(message)):
            largest_by_class({"a": [1.0, 2.0], "b": [1.0]}, count)


@pytest.mark.parametrize("draw", [error_by_class, largest_by_class])
@pytest.mark.parametrize(
    ("errors", "unfamiliar", "message"),
    [
        ({}, (), "`errors` must be a dictionary of one entry at least. Received: errors={}"),
        ({"a": ["x"]}, (), "`errors` must be an array of real numbers. Received: an array of dtype <U1"),
        ({"a": [1.0, NAN]}, (), "`errors` must not hold NaN. Received: 1 of them, the first at 1"),
        ({"a": [1.0], "b": [-1.0]}, (), "`errors` must hold finite errors from 0 up. Received: 'b': [-1.]"),
        ({"a": [np.inf]}, (), "`errors` must hold finite errors from 0 up. Received: 'a': [inf]"),
        ({"a": [1.0]}, ("a", "c"), "`unfamiliar` must name classes among ['a'], in a list. Received: ('a', 'c')"),
    ],
    ids=["none", "text", "nan", "negative", "infinite", "unknown"],
)
def test_errors_by_class_that_make_no_sense_are_refused(draw, errors, unfamiliar, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw(errors, unfamiliar=unfamiliar)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (plots.accuracy_against_gamma, "curves"),
        (plots.reliability_diagrams, "named"),
        (lambda named: plots.score_histograms([0.5], named), "unfamiliar"),
        (lambda named: plots.roc_curves([0.5], named), "unfamiliar"),
        (lambda named: plots.risk_coverage_curves([0], named), "probabilities"),
        (plots.smoothing_curves, "panels"),
        (plots.teacher_and_student, "panels"),
        (plots.class_confidence, "panels"),
        (plots.accuracy_against_calibration, "panels"),
        (plots.class_loss_curves, "methods"),
        (plots.penultimate_projection, "rows"),
        (plots.confidence_histograms, "panels"),
        (plots.image_rows, "rows"),
        (plots.error_by_class, "errors"),
    ],
)
@pytest.mark.parametrize("wrong", [{}, None, "a", [1.0]], ids=str)
def test_what_is_no_dictionary_of_data_is_refused(draw, name, wrong):
    with pytest.raises(ValueError, match=f"`{name}` must be a dictionary of one entry at least"):
        draw(wrong)


@pytest.mark.parametrize("bins", [0, True, 2.5, "a"])
def test_bins_of_histograms_that_are_none_are_refused(bins):
    for draw in (
        lambda: plots.score_histograms([0.5], {"a": [0.1]}, bins=bins),
        lambda: plots.confidence_histograms({"a": {"b": [0.1]}}, bins=bins),
    ):
        with pytest.raises(ValueError, match="`bins` must be a whole number"):
            draw()


@pytest.mark.parametrize("scores", [[], ["a"], [[0.1]], 0.1])
def test_scores_of_histograms_that_are_none_are_refused(scores):
    for familiar, unfamiliar in ((scores, [0.1]), ([0.1], scores)):
        with pytest.raises(ValueError, match=r"`(un)?familiar` must (hold scores|be an array)"):
            plots.score_histograms(familiar, {"a": unfamiliar})
