"""The figures of given numbers."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from benchmarks.ldl.figures import (
    accuracy_against_calibration,
    class_confidence,
    class_loss_curves,
    penultimate_projection,
)
from kls.analysis.classwise import class_scores
from kls.calibration.samples import softmax

NAN = float("nan")
LABELS = np.array([0, 1, 0, 1, 0])
CONFIDENCES = np.array([0.6, 0.7, 0.8, 0.9, 1.0])
PROBABILITIES = np.stack([CONFIDENCES, 1 - CONFIDENCES], axis=1)
PROBABILITIES[3] = [0.9, 0.1]
SCATTER = {
    "vanilla": {"resnet18": (77.83, 8.0), "resnet50": (78.57, 10.7)},
    "on-ldl": {"resnet18": (81.26, 4.3), "resnet50": (83.09, 3.0)},
    "kd": {"resnet18": (NAN, NAN), "resnet50": (79.12, 10.3)},
}


def legend(panel):
    return [text.get_text() for text in panel.get_legend().get_texts()]


def some_logits(count=400, classes=5, scale=3.0):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(count, classes)) * scale
    return np.where(rng.random(count) < 0.7, logits.argmax(axis=1), rng.integers(0, classes, count)), logits


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def losses(epochs=3, classes=5):
    """Losses of `class + 10 * epoch`, the higher classes the better ones, and accuracies of 50, 60, ... %."""
    table = np.arange(classes) + 10.0 * np.arange(1, epochs + 1)[:, None]
    return table, np.linspace(0.5, 0.9, classes), 50 + 10 * np.arange(epochs)


class TestClassConfidence:
    def test_a_point_per_class_at_its_confidence_and_score(self):
        panel = class_confidence({"resnet18": {"vanilla": (LABELS, PROBABILITIES)}}, bins=4).axes[0]
        # class 0: true with 0.6, 0.8, 1.0, two of three predicted right beside one wrong; class 1: 0.3, 0.1
        np.testing.assert_allclose(panel.collections[0].get_offsets(), [[0.8, 6 / 8], [0.2, 0]])
        assert legend(panel) == ["vanilla (60.00 %, 20.00 %)"]
        assert panel.get_title() == "resnet18"

    def test_methods_look_alike_in_all_panels_and_unlike_one_another(self):
        labels, logits = some_logits()
        one, other = (labels, softmax(logits)), (labels, softmax(logits / 2))
        figure = class_confidence({"a": {"one": one, "other": other}, "b": {"other": other}})
        first, second, again = (points for panel in figure.axes for points in panel.collections)
        np.testing.assert_array_equal(second.get_offsets(), again.get_offsets())
        np.testing.assert_allclose(first.get_offsets(), np.transpose(class_scores(*one)[::-1]))
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
        figure = class_loss_curves({"vanilla": losses()}, counts=(1, 2))
        accuracy, *others = panels(figure)
        np.testing.assert_allclose(accuracy.lines[0].get_xydata(), [[1, 50], [2, 60], [3, 70]])
        assert accuracy.get_ylabel() == "accuracy, %"
        levels = {"best 1 class": 4, "worst 1 class": 0, "best 2 classes": 3.5, "worst 2 classes": 0.5}
        assert [panel.get_title() for panel in others] == list(levels)
        for panel, level in zip(others, levels.values(), strict=True):
            np.testing.assert_allclose(panel.lines[0].get_xydata(), [(e, 10 * e + level) for e in (1, 2, 3)])
            assert panel.get_ylabel() == "log loss"
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vanilla"]

    def test_each_method_has_its_own_best_classes_and_one_colour(self):
        table, scores, accuracies = losses()
        methods = {"one": (table, scores, accuracies), "other": (table, scores[::-1], accuracies)}
        accuracy, best, worst = panels(class_loss_curves(methods, counts=(1,)))
        assert [line.get_ydata()[0] for line in (*best.lines, *worst.lines)] == [14, 10, 10, 14]
        for panel in (accuracy, best, worst):
            assert [to_hex(line.get_color()) for line in panel.lines] == [to_hex("C0"), to_hex("C1")]

    @pytest.mark.parametrize(("classes", "counts"), [(2, [1]), (10, [5]), (11, [5]), (30, [5, 15]), (100, [5, 20])])
    def test_no_class_is_among_the_best_and_the_worst(self, classes, counts):
        _, *others = panels(class_loss_curves({"vanilla": losses(classes=classes)}))
        assert [int(panel.get_title().split()[1]) for panel in others[::2]] == counts


class TestPenultimateProjection:
    def test_a_row_per_samples_a_column_per_method_and_a_colour_per_class(self):
        rows = {
            samples: {
                method: {
                    name: np.random.default_rng(count).normal(size=(count, 2))
                    for name in ("beaver", "otter", "dolphin")
                }
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
