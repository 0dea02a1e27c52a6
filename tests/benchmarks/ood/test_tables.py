"""Tables 1 and 2 and the numbers of both figures, of records made by hand."""

from collections import defaultdict
from itertools import count
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.ood.tables import (
    accuracy_table,
    by_data_set,
    compared_records,
    detection_table,
    smoothing_panels,
    teacher_panels,
)
from benchmarks.published import published
from kls.study.methods import CrossEntropy, OutlierExposure
from kls.study.report.comparisons import bold_note
from kls.study.report.tables import Bold

PAPER = published("lee_cheon2020")
SETS = ("mnist", "fashion_mnist", "svhn_cropped", "lsun", "tiny_imagenet")
TINY, BOTH = ("tiny_imagenet",), ("mnist", "tiny_imagenet")


class Records:
    """Makes records as `RunStore` returns them, each with an id of its own."""

    def __init__(self, dataset="cifar10", classes=10, sets=SETS, **common):
        self.ids = map(str, count())
        self.rows = []
        self.sets = sets
        self.common = {
            **{"dataset": dataset, "model": "wrn40-2", "epochs": 150, "train_images": 50000, "classes": classes},
            **{"evaluation_images": 10000, "image_size": "32", "loss": "label_smoothing", "gamma": 1.0, "seed": 0},
            **{"parents": [], "recipe": {"method": {}}, "starts_anew": True},
            **{"batch_size": 64, "accuracy_train": 0.9, **common},
        }

    def add(self, accuracy, ece, auroc=0.9, **changes):
        """Adds a record; `auroc` is that of the first OOD set, each next one is 0.01 more."""
        aurocs = {f"auroc_{name}": auroc + 0.01 * i for i, name in enumerate(self.sets)}
        row = {**self.common, "trial": next(self.ids), "accuracy_last": accuracy, "ece": ece, **aurocs, **changes}
        row["method"] = f"gamma={row['gamma']:g}" if row["loss"] == "label_smoothing" else row["loss"]
        self.rows.append(row)
        return row

    def expose(self, teacher, accuracy, ece, auroc, outliers=TINY):
        changes = {"loss": "outlier_exposure", "epochs": 10, "seed": teacher["seed"], "starts_anew": False}
        recipe = {"method": {"outliers": list(outliers)}}
        return self.add(accuracy, ece, auroc, parents=[teacher["trial"]], recipe=recipe, **changes)

    def teach(self, teacher, accuracy, ece, auroc, model="wrn40-2"):
        changes = {"loss": "distillation", "model": model, "seed": teacher["seed"]}
        return self.add(accuracy, ece, auroc, parents=[teacher["trial"]], **changes)

    def networks(self, *others, outliers=()):
        """Returns the networks of a plan of what was added, after exposures to `outliers` that did not finish."""
        everyone = (self, *others)
        rows = [row for records in everyone for row in records.rows]
        exposed = [(self.common["dataset"], names) for names in outliers]
        exposed += [(row["dataset"], row["recipe"]["method"].get("outliers")) for row in rows]
        planned = [
            SimpleNamespace(dataset=dataset, method=OutlierExposure(tuple(names)) if names else CrossEntropy())
            for dataset, names in exposed
        ]
        ood = {records.common["dataset"]: records.sets for records in everyone}
        return by_data_set(pd.DataFrame(rows), SimpleNamespace(trials=planned), ood)


def detect(networks):
    other = SimpleNamespace(counts={"test": 1234}, evaluation="test")
    return detection_table(networks, PAPER, defaultdict(lambda: defaultdict(lambda: other)))


@pytest.fixture
def one_seed():
    """Baseline, two smoothed networks, exposure and three students of one seed."""
    records = Records()
    baseline = records.add(0.95, 0.04, 0.80)
    records.add(0.955, 0.02, 0.75, gamma=0.91)
    records.add(0.94, 0.10, 0.60, gamma=0.55)
    records.teach(baseline, 0.951, 0.035, 0.81)
    exposed = records.expose(baseline, 0.93, 0.05, 0.94)
    records.teach(exposed, 0.945, 0.03, 0.93)
    records.teach(exposed, 0.90, 0.07, 0.92, model="densenet40-12")
    return records


class TestAccuracy:
    def test_measured_stands_above_published(self, one_seed):
        table, _ = accuracy_table(one_seed.networks(), PAPER)
        assert table.header == ("dataset", "", "model", "n", "Baseline", "+OE", "+OD")
        assert table.rows == (
            ("cifar10", "accuracy %", "wrn40-2", "1/1/1", "95.00", "93.00", "94.50"),
            ("", "published", "wrn40-2", "–", "95.12", "94.74", "95.10"),
            ("cifar10", "ECE %", "wrn40-2", "1/1/1", "4.00", "5.00", "3.00"),
            ("", "published", "wrn40-2", "–", "3.85", "4.07", "3.49"),
        )

    def test_what_is_better_by_its_interval_is_bold(self, one_seed):
        frame = compared_records(one_seed.networks())
        assert frame["method"].tolist() == ["gamma=1", "gamma=0.91", "gamma=0.55", "+OE", "+OD"]
        words = [("+OE", "accuracy", "worse"), ("+OD", "accuracy", "cannot tell"), ("+OD", "ece", "better")]
        compared = pd.DataFrame(words, columns=["method", "metric", "word"]).assign(dataset="cifar10", model="wrn40-2")
        table, _ = accuracy_table(one_seed.networks(), PAPER, compared)
        assert table.rows[0][4:] == ("95.00", "93.00", "94.50")
        assert table.rows[2][4:] == ("4.00", "5.00", Bold("3.00"))
        assert table.caption.endswith(bold_note(compared))

    def test_numbers_are_unrounded_and_say_what_the_paper_has(self, one_seed):
        _, frame = accuracy_table(one_seed.networks(), PAPER)
        row = frame[(frame["method"] == "+OE") & (frame["metric"] == "ece")].iloc[0]
        assert (row["dataset"], row["model"], row["n"], row["mean"]) == ("cifar10", "wrn40-2", 1, 0.05)
        assert np.isnan(row["std"])
        assert row["published_percent"] == 4.07  # the mean is a fraction
        assert len(frame) == 6

    def test_seeds_give_mean_and_deviation(self):
        records = Records()
        for seed, accuracy in ((0, 0.94), (1, 0.96)):
            baseline = records.add(accuracy, 0.04, seed=seed)
            exposed = records.expose(baseline, accuracy - 0.02, 0.05, 0.9)
        records.teach(exposed, 0.93, 0.01, 0.9)
        table, frame = accuracy_table(records.networks(), PAPER)
        assert table.rows[0] == (
            *("cifar10", "accuracy %", "wrn40-2", "2/2/1"),
            *("95.00 ± 1.41", "93.00 ± 1.41", "93.00"),
        )
        row = frame[(frame["method"] == "Baseline") & (frame["metric"] == "accuracy")].iloc[0]
        assert (row["n"], row["mean"], row["std"]) == (2, pytest.approx(0.95), pytest.approx(0.0002**0.5))

    def test_networks_that_are_missing_are_shown_as_such(self):
        records = Records()
        baseline = records.add(0.95, 0.04)
        exposed = records.expose(baseline, 0.93, 0.05, 0.9)
        table, frame = accuracy_table(records.networks(), PAPER)
        assert table.rows[0][3:] == ("1/1/0", "95.00", "93.00", "–")
        assert frame["method"].unique().tolist() == ["Baseline", "+OE"]
        records.rows.remove(exposed)
        table, _ = accuracy_table(records.networks(), PAPER)
        assert table.rows[0][3:] == ("1/0/0", "95.00", "–", "–")
        assert table.rows[1][4:] == ("95.12", "94.74", "95.10")

    def test_the_first_exposure_is_that_of_the_table(self, one_seed):
        expected, _ = accuracy_table(one_seed.networks(), PAPER)
        other = one_seed.expose(one_seed.rows[0], 0.99, 0.001, 0.99, outliers=BOTH)
        one_seed.teach(other, 0.99, 0.001, 0.99)
        found, _ = accuracy_table(one_seed.networks(), PAPER)
        assert found.rows == expected.rows
        assert "exposed to tiny_imagenet; " in found.notes[0]

    def test_other_data_and_networks_have_no_published_numbers(self):
        for changes in ({"dataset": "mine"}, {"model": "wrn10-1"}):
            records = Records(**changes)
            records.add(0.95, 0.04)
            table, frame = accuracy_table(records.networks(), PAPER)
            assert len(table.rows) == 2
            assert frame["published_percent"].isna().all()

    def test_each_id_set_has_its_rows_and_its_note(self, one_seed):
        other = Records("cifar100_full", 100, train_images=9000)
        other.add(0.7, 0.1)
        table, _ = accuracy_table(one_seed.networks(other), PAPER)
        assert [row[0] for row in table.rows if row[0]] == ["cifar10"] * 2 + ["cifar100_full"] * 2
        assert "150 epochs, 10 of fine-tuning, 50,000 training" in table.notes[0]
        assert "9,000 training" in table.notes[1]
        assert "a subset" in table.notes[1]
        assert "fine-tuning" not in table.notes[1]
        assert table.rows[5][4:] == ("76.63", "75.58", "76.80")


class TestDetection:
    def test_is_table_2_beside_the_published_numbers(self, one_seed):
        table, _ = detect(one_seed.networks())
        assert table.header == (
            *("dataset", "OOD", "images", "n", "Baseline"),
            *("wrn40-2 OE", "→ wrn40-2", "→ densenet40-12"),
        )
        assert len(table.rows) == 10
        assert table.rows[:2] == (
            ("cifar10", "mnist", "1,234", "1/1/1/1", "80.00", "94.00", "93.00", "92.00"),
            ("", "published", "–", "–", "–", "84.28", "90.95", "93.30"),
        )
        assert table.rows[8:] == (
            ("cifar10", "tiny_imagenet", "1,234", "1/1/1/1", "84.00", "98.00", "97.00", "96.00"),
            ("", "published", "–", "–", "–", "99.99", "99.78", "99.83"),
        )

    def test_numbers(self, one_seed):
        _, frame = detect(one_seed.networks())
        rows = frame[frame["ood"] == "lsun"].set_index(["method", "model"])
        assert rows["mean"].to_dict() == pytest.approx(
            {
                ("baseline", "wrn40-2"): 0.83,
                ("oe", "wrn40-2"): 0.97,
                ("od", "wrn40-2"): 0.96,
                ("od", "densenet40-12"): 0.95,
            }
        )
        assert rows["published_percent"].tolist()[1:] == [99.99, 99.94, 99.94]
        assert np.isnan(rows["published_percent"].iloc[0])

    def test_seeds_give_mean_and_deviation_and_what_is_missing_a_dash(self):
        records = Records(sets=("mnist",))
        for seed, auroc in ((0, 0.5), (1, 0.7)):
            exposed = records.expose(records.add(0.9, 0.1, auroc, seed=seed), 0.9, 0.1, auroc + 0.2)
        records.teach(exposed, 0.9, 0.1, 0.8, model="densenet40-12")
        table, frame = detect(records.networks())
        assert table.header[6:] == ("→ densenet40-12",)
        assert table.rows[0][3:] == ("2/2/1", "60.00 ± 14.14", "80.00 ± 14.14", "80.00")
        assert frame["n"].tolist() == [2, 2, 1]

    def test_students_of_baselines_and_of_other_exposures_are_left_out(self, one_seed):
        expected, _ = detect(one_seed.networks())
        other = one_seed.expose(one_seed.rows[0], 0.9, 0.1, 0.5, outliers=("mnist",))
        one_seed.teach(other, 0.9, 0.1, 0.5)
        assert detect(one_seed.networks())[0].rows == expected.rows

    def test_columns_are_shared_by_id_sets_with_students_of_their_own(self, one_seed):
        mine = Records("mine", 3, sets=("mnist",), model="wrn10-1")
        exposed = mine.expose(mine.add(0.9, 0.1), 0.9, 0.1, 0.6)
        mine.teach(exposed, 0.9, 0.1, 0.55, model="wrn10-1")
        table, _ = detect(one_seed.networks(mine))
        assert table.header[5:] == ("wrn40-2 or wrn10-1 OE", "→ wrn40-2", "→ densenet40-12", "→ wrn10-1")
        assert table.rows[-1] == ("mine", "mnist", "1,234", "1/1/0/0/1", "90.00", "60.00", "–", "–", "55.00")

    def test_the_first_exposure_is_the_plans_also_where_it_did_not_finish(self, one_seed):
        records = Records(sets=("mnist",))
        exposed = records.expose(records.add(0.9, 0.1, 0.5), 0.9, 0.1, 0.7, outliers=("mnist",))
        records.teach(exposed, 0.9, 0.1, 0.6)
        table, _ = detect(records.networks(outliers=[TINY]))
        assert table.rows[0][4:] == ("50.00", "–", "–")
        assert "exposed to tiny_imagenet" in table.notes[0]

    def test_other_outliers_than_the_papers_have_nothing_published(self):
        records = Records()
        exposed = records.expose(records.add(0.9, 0.1), 0.9, 0.1, 0.7, outliers=("mnist",))
        records.teach(exposed, 0.9, 0.1, 0.6)
        table, _ = detect(records.networks())
        assert [row[0] for row in table.rows] == ["cifar10"] * 5
        table, _ = accuracy_table(records.networks(), PAPER)
        assert table.rows[1] == ("", "published", "wrn40-2", "–", "95.12", "–", "–")

    def test_unexposed_sets_have_no_row(self):
        records = Records()
        records.add(0.9, 0.1)
        table, frame = detect(records.networks())
        assert table.rows == ()
        assert frame.empty


class TestSmoothingPanels:
    def test_curves_over_alpha_in_percent(self, one_seed):
        (title,) = panels = smoothing_panels(one_seed.networks())
        assert title == "cifar10, wrn40-2 (n=1)"
        curves = panels[title]
        assert curves["alpha"] == pytest.approx([0, 0.1, 0.5])
        assert [f"{alpha:g}" for alpha in curves["alpha"]] == ["0", "0.1", "0.5"]
        np.testing.assert_allclose(curves["accuracy"], [[95, 95.5, 94], [0, 0, 0]])
        np.testing.assert_allclose(curves["ece"], [[4, 2, 10], [0, 0, 0]])
        assert list(curves["auroc"]) == list(SETS)
        np.testing.assert_allclose(curves["auroc"]["fashion_mnist"], [[81, 76, 61], [0, 0, 0]])

    def test_seeds(self):
        records = Records(sets=("mnist",))
        for seed, accuracy in ((0, 0.9), (1, 0.94)):
            records.add(accuracy, 0.1, seed=seed)
            records.add(accuracy - 0.1, 0.1, seed=seed, gamma=0.91)
        records.add(0.5, 0.1, gamma=0.55)
        (title,) = panels = smoothing_panels(records.networks())
        assert title.endswith("(n=1)")  # the least
        np.testing.assert_allclose(panels[title]["accuracy"], [[92, 82, 50], [8**0.5, 8**0.5, 0]])

    @pytest.mark.parametrize("alpha", [0.001, 0.01, 0.3, 0.9])
    def test_strengths_read_as_they_were_asked_for(self, alpha):
        records = Records("cifar100_full", 100)
        records.add(0.9, 0.1)
        records.add(0.9, 0.1, gamma=1 - alpha * 99 / 100)
        (curves,) = smoothing_panels(records.networks()).values()
        assert curves["alpha"] == [0, alpha]

    def test_one_panel_per_id_set(self, one_seed):
        mine = Records("mine", 3, sets=("mnist",), model="wrn10-1")
        mine.add(0.9, 0.1)
        panels = smoothing_panels(one_seed.networks(mine))
        assert list(panels) == ["cifar10, wrn40-2 (n=1)", "mine, wrn10-1 (n=1)"]
        assert list(panels["mine, wrn10-1 (n=1)"]["auroc"]) == ["mnist"]


class TestTeacherPanels:
    def test_baselines_come_first_and_then_each_exposure(self, one_seed):
        other = one_seed.expose(one_seed.rows[0], 0.9, 0.1, 0.5, outliers=BOTH)
        one_seed.teach(other, 0.9, 0.1, 0.55)
        panels = teacher_panels(one_seed.networks())
        assert list(panels) == [
            "cifar10: baseline (n=1)",
            "cifar10: OE with tiny_imagenet (n=1)",
            "cifar10: OE with mnist and tiny_imagenet (n=1)",
        ]
        first = [pairs["mnist"] for pairs in panels.values()]
        np.testing.assert_allclose(first, [(80, 81), (94, 93), (50, 55)])
        assert list(panels["cifar10: baseline (n=1)"]) == list(SETS)
        np.testing.assert_allclose(panels["cifar10: OE with tiny_imagenet (n=1)"]["tiny_imagenet"], (98, 97))

    def test_seeds_are_averaged(self):
        records = Records(sets=("mnist",))
        for seed, auroc in ((0, 0.5), (1, 0.7)):
            baseline = records.add(0.9, 0.1, auroc, seed=seed)
            records.teach(baseline, 0.9, 0.1, auroc + 0.1)
        panels = teacher_panels(records.networks())
        assert list(panels) == ["cifar10: baseline (n=2)"]
        np.testing.assert_allclose(panels["cifar10: baseline (n=2)"]["mnist"], (60, 70))

    def test_a_teacher_without_a_student_has_no_panel(self):
        records = Records()
        baseline = records.add(0.9, 0.1)
        exposed = records.expose(baseline, 0.9, 0.1, 0.9)
        assert teacher_panels(records.networks()) == {}
        records.teach(exposed, 0.9, 0.1, 0.9, model="densenet40-12")  # another network: Table 2 alone
        assert teacher_panels(records.networks()) == {}
        records.teach(exposed, 0.9, 0.1, 0.9)
        assert list(teacher_panels(records.networks())) == ["cifar10: OE with tiny_imagenet (n=1)"]
