"""The figures of given numbers."""

import numpy as np
import pytest

from benchmarks.ood.figures import smoothing_curves, teacher_and_student

NAN = float("nan")


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


def legend(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def ticks(panel):
    return dict(zip(panel.get_xticks(), (text.get_text() for text in panel.get_xticklabels()), strict=True))


class TestSmoothing:
    def test_curves_stand_at_even_distances_with_bars_of_deviations(self):
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

    def test_an_ood_set_has_one_colour_in_all_columns(self):
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
