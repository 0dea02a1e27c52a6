"""Tables 1 to 3, of records made by hand."""

import pandas as pd
import pytest

from benchmarks.decathlon.tables import accuracy_table, comparison_table
from benchmarks.published import published
from kls.study.report.calibration import calibration_table
from kls.study.report.tables import Bold


def record(gamma, accuracy, dataset="cifar10", model="resnet83v2", seed=0, **changes):
    return {
        "dataset": dataset, "model": model, "gamma": gamma, "seed": seed, "accuracy_best": accuracy, "epochs": 200,
        "train_images": 50000, "evaluation_images": 10000, "image_size": "32", "classes": 10, "batch_size": 64,
        "starts_anew": True, "accuracy_train": accuracy, "accuracy_last": accuracy, **changes,
    }  # fmt: skip


class TestTables:
    PAPER = published("mezzini2018")

    def test_published_stands_below_measured_and_the_best_is_bold(self):
        records = pd.DataFrame([record(1.0, 0.93), record(0.9, 0.94), record(0.85, 0.92)])
        table, frame = accuracy_table(records, self.PAPER)
        assert table.header[3:] == ("γ=0.85", "γ=0.9", "γ=1")
        assert table.rows == (
            ("cifar10", "resnet83v2", "1", "92.00", Bold("94.00"), "93.00"),
            ("", "published", "–", "–", "92.54", Bold("93.31")),
        )
        assert frame["published"].tolist()[1:] == pytest.approx([0.9254, 0.9331])

    def test_accuracy_has_one_winner_in_all_tables(self):
        """The best epoch says gamma 0.9, the last one gamma 1."""
        last = {"ece": 0.1, "nll": 0.5, "brier": 0.2}
        records = pd.DataFrame(
            [record(1.0, 0.93, accuracy_last=0.92, **last), record(0.9, 0.94, accuracy_last=0.91, **last)]
        )
        best, _ = accuracy_table(records, self.PAPER)
        assert best.rows[0][3:] == (Bold("94.00"), "93.00")
        assert "Accuracy of the best epoch" in best.caption
        assert "picked on the evaluation split, which flatters it" in best.caption
        of_last_epoch, _ = calibration_table(records)
        assert [row[4] for row in of_last_epoch.rows] == ["92.00", "91.00"]
        assert "last epoch" in of_last_epoch.caption

    def test_seeds_give_mean_and_deviation(self):
        records = pd.DataFrame([record(1.0, 0.9, seed=0), record(1.0, 0.8, seed=1), record(0.9, 0.5)])
        table, _ = accuracy_table(records, self.PAPER)
        assert table.rows[0] == ("cifar10", "resnet83v2", "1–2", "50.00", Bold("85.00 ± 7.07"))

    def test_a_failed_cell_says_so_and_is_no_number(self, make_trial):
        failed = make_trial(dataset="cifar10", model="resnet83v2", gamma=0.5)
        table, frame = accuracy_table(pd.DataFrame([record(1.0, 0.9)]), self.PAPER, [failed])
        assert table.rows[0][3:] == ("failed", "90.00")
        assert frame["gamma"].tolist() == [1.0]

    def test_a_subset_and_a_synthetic_set_are_named_as_such(self):
        records = pd.DataFrame([record(1.0, 0.9, train_images=8000), record(1.0, 0.5, "glyphs", "resnet8v1")])
        table, _ = accuracy_table(records, self.PAPER)
        assert "8,000 training" in table.notes[0]
        assert "a subset: the catalogue's has 50,000 training images" in table.notes[0]
        assert table.rows[-1][0] == "glyphs (synthetic)"

    def test_the_comparison_is_that_of_table_3(self):
        records = pd.DataFrame([record(1.0, 0.3475, "aircraft"), record(0.7, 0.4109, "aircraft")])
        table, frame = comparison_table(records, self.PAPER)
        assert table.rows == (
            ("aircraft", "resnet83v2", "1", "0.7", "41.09", "34.75", "15.43", "41.09", "34.75", "15.41"),
        )
        assert frame["diff_percent"].item() == pytest.approx(15.4295, abs=1e-3)

        assert frame["published_diff_percent"].item() == 15.41
        assert table.notes == (
            "aircraft, resnet83v2: 15.41 is printed; the printed accuracies give 15.43, within their rounding.",
        )

    def test_a_data_set_of_which_all_failed_has_its_row(self, make_trial):
        failed = [make_trial(dataset="mnist", model="resnet20v1", gamma=gamma) for gamma in (1.0, 0.9)]
        table, _ = accuracy_table(pd.DataFrame([record(1.0, 0.9)]), self.PAPER, failed)
        assert table.rows[2] == ("mnist", "resnet20v1", "0", "failed", "failed")

    def test_a_tie_is_no_gain(self):
        records = pd.DataFrame([record(1.0, 0.9), record(0.9, 0.9)])
        table, _ = comparison_table(records, self.PAPER)
        assert table.rows[0][3:7] == ("1", "90.00", "90.00", "0.00")
