"""The figures of given scores, images and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mnist_zero.figures import confidence_histograms, error_by_class, image_rows, largest_by_class

NAN = float("nan")


def legend(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def ticks(panel):
    return dict(zip(panel.get_xticks(), (text.get_text() for text in panel.get_xticklabels()), strict=True))


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


class TestConfidences:
    def test_each_group_is_in_percent_of_itself_in_shared_bins(self):
        panels = {"ce": {"correct": [1.0, 0.9, 0.9, 0.1], "wrong": [0.1, 0.6]}, "std": {"wrong": [0.3], "new": [0.2]}}
        first, second = confidence_histograms(panels, {}, bins=3).axes  # edges at 0.1, 0.4, 0.7 and 1.0
        for panel in (first, second):
            np.testing.assert_allclose(panel.patches[0].get_data().edges, [0.1, 0.4, 0.7, 1.0])
            assert (panel.get_xlabel(), panel.get_ylabel()) == ("maximum softmax probability", "share of the group, %")
        one, other = drawn_shares(first), drawn_shares(second)
        np.testing.assert_equal(one, {"correct (n = 4)": [25, NAN, 75], "wrong (n = 2)": [50, 50, NAN]})
        np.testing.assert_equal(other, {"wrong (n = 1)": [100, NAN, NAN], "new (n = 1)": [100, NAN, NAN]})
        assert [first.get_title(), second.get_title()] == ["ce", "std"]
        assert legend(first) == list(one)
        assert first.get_xlim() == second.get_xlim()

    def test_a_group_looks_alike_in_all_panels_and_unlike_the_others(self):
        panels = {"a": {"correct": [1], "wrong": [0]}, "b": {"wrong": [0], "OOD": [1]}}
        looks = [
            (tuple(stairs.get_edgecolor()), stairs.get_linestyle())
            for panel in confidence_histograms(panels, {}).axes
            for stairs in panel.patches
        ]
        assert looks[1] == looks[2]
        assert len({color for color, _ in looks}) == len({line for _, line in looks}) == 3

    @pytest.mark.parametrize(("size", "scale"), [(100, "linear"), (101, "log")])
    def test_the_axis_is_logarithmic_beyond_two_orders_of_magnitude(self, size, scale):
        # the least share is one of `size`, the largest is all, in the other panel
        figure = confidence_histograms({"a": {"all": np.minimum(np.arange(size), 1)}, "b": {"all": [0.5]}}, {}, bins=10)
        assert {panel.get_yscale() for panel in figure.axes} == {scale}
        for panel in figure.axes:
            low, high = panel.get_ylim()
            assert low < 100 / size
            assert high > 100

    @pytest.mark.filterwarnings("error")
    def test_an_empty_group_is_named_and_not_drawn(self, tmp_path):
        figure = confidence_histograms({"a": {"correct": [0.2, 0.7], "wrong": []}, "b": {"correct": []}}, {}, bins=5)
        assert legend(figure.axes[0]) == ["correct (n = 2)", "wrong (n = 0)"]
        assert np.isnan(drawn_shares(figure.axes[0])["wrong (n = 0)"]).all()
        assert legend(figure.axes[1]) == ["correct (n = 0)"]
        figure.savefig(tmp_path / "figure.png")
        confidence_histograms({"a": {"correct": []}}, {}).savefig(tmp_path / "empty.png")

    def test_a_threshold_is_a_dashed_line_in_its_own_panel(self):
        scores = {"correct": [0.2, 0.9]}
        figure = confidence_histograms({"a": scores, "b": scores, "c": scores}, {"a": 0.659, "c": 0.95})
        lines = [[(*line.get_xdata(), line.get_linestyle()) for line in panel.lines] for panel in figure.axes]
        assert lines == [[(0.659, 0.659, "--")], [], [(0.95, 0.95, "--")]]
        assert [legend(panel)[1:] for panel in figure.axes] == [["threshold 0.659"], [], ["threshold 0.950"]]
        assert figure.axes[0].get_xlim()[1] > 0.95  # a threshold above all scores is seen

    @settings(max_examples=6, deadline=None)
    @given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=9), min_size=1, max_size=3))
    def test_the_shares_of_a_group_sum_to_all_of_it(self, groups):
        figure = confidence_histograms({"all": {f"{i}": scores for i, scores in enumerate(groups)}}, {}, bins=7)
        sums = [np.nansum(shares) for shares in drawn_shares(figure.axes[0]).values()]
        assert sums == pytest.approx([100] * len(groups))


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
        figure = image_rows({"a": images(), "b": images()}, list("wxyz"), gap=1, titles=("OOD", "ID"))
        left, right = figure.axes
        assert [panel.get_title() for panel in (left, right)] == ["OOD", "ID"]
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
            ["6 (0.41)", "ID 3", "0 (1.00)", "8\n(0.77)", "misclassified", "misclassified"],
            gap=3,
            titles=("OOD", "ID"),
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


class TestErrorByClass:
    def test_boxes_end_at_quartiles_and_whiskers_at_percentiles(self):
        errors = {"0": np.random.default_rng(0).permutation(np.arange(1.0, 102.0)), "1": np.arange(101.0) / 1000}
        figure = error_by_class(errors, held_out=["0"])
        (panel,) = figure.axes
        np.testing.assert_allclose(box_at(panel, 0)[0], 51)
        np.testing.assert_allclose(box_at(panel, 0)[1], [6, 26, 76, 96])
        np.testing.assert_allclose(box_at(panel, 1)[0], 0.05)
        np.testing.assert_allclose(box_at(panel, 1)[1], [0.005, 0.025, 0.075, 0.095])
        assert (panel.get_yscale(), panel.get_ylabel()) == ("log", "reconstruction error (MSE)")

    def test_places_follow_the_classes_and_the_ood_ones_are_coloured(self):
        errors = {name: [i + 1.0, i + 2.0, i + 3.0] for i, name in enumerate("abcd")}
        figure = error_by_class(errors, held_out=["b", "d"])
        (panel,) = figure.axes
        assert [box_at(panel, place)[0] for place in range(4)] == [2, 3, 4, 5]
        assert ticks(panel) == {i: f"{name}\nn = 3" for i, name in enumerate("abcd")}
        assert with_hatch(panel) == [1, 3]
        colors = {patch.get_facecolor(): bool(patch.get_hatch()) for patch in panel.patches}
        assert sorted(colors.values()) == [False, True]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ID", "OOD"]

    @pytest.mark.filterwarnings("error")
    def test_a_class_without_samples_keeps_its_place(self, tmp_path):
        figure = error_by_class({"a": [], "b": np.full(1234, 0.5), "c": [0.0, 0.1]}, held_out=["a"])
        assert list(ticks(figure.axes[0]).values()) == ["a\nn = 0", "b\nn = 1,234", "c\nn = 2"]
        figure.savefig(tmp_path / "figure.png")
        error_by_class({"a": []}, []).savefig(tmp_path / "empty.png")


class TestLargestByClass:
    def test_bars_count_the_largest_and_lines_tell_what_chance_gives(self):
        errors = {"0": [9.0, 8.0, 1.0], "1": [0.5], "2": [7.0, 0.1, 0.2, 0.3, 0.4, 0.6]}
        figure = largest_by_class(errors, count=4, held_out=["0"])
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
        assert {text.get_text() for text in figure.legends[0].get_texts()} == {"ID", "OOD", "by chance"}

    @settings(max_examples=6, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=4).filter(any), st.data())
    def test_all_that_are_counted_are_drawn_and_none_left_out_is_larger(self, groups, data):
        count = data.draw(st.integers(1, sum(map(len, groups))))
        panel = largest_by_class({f"{i}": errors for i, errors in enumerate(groups)}, count, []).axes[0]
        heights = [int(bar.get_height()) for bar in panel.patches]
        assert sum(heights) == count
        ordered = [(sorted(errors, reverse=True), height) for errors, height in zip(groups, heights, strict=True)]
        taken = [error for errors, height in ordered for error in errors[:height]]
        left = [error for errors, height in ordered for error in errors[height:]]
        assert min(taken) >= max(left, default=0)

    def test_of_equal_errors_those_of_the_first_class_count_as_larger(self):
        panel = largest_by_class({"a": [1.0, 2.0], "b": [1.0, 2.0]}, 3, []).axes[0]
        assert [bar.get_height() for bar in panel.patches] == [2, 1]
