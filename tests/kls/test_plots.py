import numpy as np
import pytest
from matplotlib.figure import Figure

from kls import calibration, ood
from kls.plots import (
    accuracy_against_gamma,
    reliability_diagram,
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


def figures():
    """One figure of each kind, of ordinary data."""
    labels, logits = some_logits()
    unfamiliar = {"far": FAR, "near": NEAR}
    return {
        "reliability": reliability_diagram(labels, logits, from_logits=True),
        "histograms": score_histograms(FAMILIAR, unfamiliar, xlabel="energy"),
        "roc": roc_curves(FAMILIAR, unfamiliar),
        "risk-coverage": risk_coverage_curves(labels, {"as trained": logits, "halved": logits / 2}, from_logits=True),
    }


@pytest.mark.parametrize("kind", ["reliability", "histograms", "roc", "risk-coverage"])
def test_each_figure_is_saved_with_named_axes_and_nothing_global(kind, tmp_path):
    import matplotlib.pyplot as plt

    figure = figures()[kind]
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert all(panel.get_ylabel() for panel in figure.axes)
    assert figure.axes[-1].get_xlabel()
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
        assert texts(above) == "ECE 20.00 %\n4 bins, n = 5"
        labels, logits = some_logits(1200)
        text = texts(reliability_diagram(labels, logits, from_logits=True).axes[0])
        error = calibration.expected_calibration_error(labels, logits, from_logits=True)
        assert text == f"ECE {100 * error:.2f} %\n15 bins, n = 1,200"

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
