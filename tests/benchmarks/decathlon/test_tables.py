"""Tables 1 to 3, of records made by hand."""

import pandas as pd
import pytest

from benchmarks.decathlon.tables import accuracy_table, best_table, published_differences
from benchmarks.published import published
from kls.study.report.comparisons import bold_note
from kls.study.report.tables import Bold


def record(gamma, accuracy, dataset="cifar10", model="resnet83v2", seed=0, **changes):
    return {
        "dataset": dataset, "model": model, "gamma": gamma, "seed": seed, "accuracy_best": accuracy, "epochs": 200,
        "train_images": 50000, "evaluation_images": 10000, "image_size": "32", "classes": 10, "batch_size": 64,
        "starts_anew": True, "accuracy_train": accuracy, "accuracy_last": accuracy, "method": f"gamma={gamma:g}",
        **changes,
    }  # fmt: skip


def comparisons(**words):
    """Returns of the frame of a comparison what tables read of it, of accuracies."""
    rows = [{"method": f"gamma={gamma}", "word": word} for gamma, word in words.items()]
    return pd.DataFrame(rows).assign(dataset="cifar10", model="resnet83v2", metric="accuracy")


class TestTables:
    PAPER = published("mezzini2018")

    def test_best_and_last_epoch_and_published_stand_together(self):
        records = pd.DataFrame([record(1.0, 0.93, accuracy_last=0.92), record(0.9, 0.94, accuracy_last=0.91)])
        table, frame = accuracy_table(records, self.PAPER)
        assert table.header == ("network", "epoch", "γ=0.9", "γ=1")
        assert table.rows == (
            ("cifar10", "best", "94.00", "93.00"),
            ("resnet83v2", "last", "91.00", "92.00"),
            ("", "published", "92.54", Bold("93.31")),
        )
        assert "picked on the evaluation split, which flatters it" in table.caption
        assert "Of published ones the largest is bold, as printed" in table.caption
        assert "Bold: better" not in table.caption
        assert frame["mean"].tolist() == [0.94, 0.93]
        assert frame["last_mean"].tolist() == [0.91, 0.92]
        assert frame["published"].tolist() == pytest.approx([0.9254, 0.9331])

    def test_only_the_last_epoch_that_is_better_is_bold(self):
        records = pd.DataFrame([record(1.0, 0.93), record(0.9, 0.94), record(0.8, 0.95)])
        compared = comparisons(**{"0.9": "better", "0.8": "cannot tell"})
        table, _ = accuracy_table(records, self.PAPER, compared)
        assert [row[2:] for row in table.rows[:2]] == [("95.00", "94.00", "93.00"), ("95.00", Bold("94.00"), "93.00")]
        assert bold_note(compared) in table.caption

    def test_data_that_are_not_the_papers_have_no_published_row(self):
        table, frame = accuracy_table(pd.DataFrame([record(1.0, 0.9, "mine"), record(0.9, 0.9, "mine")]), self.PAPER)
        assert [row[1] for row in table.rows] == ["best", "last"]
        assert "paper does not say" not in table.caption
        assert frame["published"].isna().all()
        table, _ = best_table(pd.DataFrame([record(1.0, 0.9, "mine"), record(0.9, 0.9, "mine")]), self.PAPER)
        assert [row[0] for row in table.rows] == ["mine"]

    def test_seeds_give_mean_and_deviation_and_a_range_of_n(self):
        records = pd.DataFrame([record(1.0, 0.9, seed=0), record(1.0, 0.8, seed=1), record(0.9, 0.5)])
        table, frame = accuracy_table(records, self.PAPER)
        assert table.rows[0] == ("cifar10", "best", "50.00", "85.00 ± 7.07")
        assert table.notes[0].startswith("cifar10, resnet83v2: n = 1–2, 200 epochs, ")
        assert frame["n"].tolist() == [1, 2]

    def test_four_gammas_fit_a_hundred_columns(self):
        gammas = (1.0, 0.9, 0.7, 0.5)
        records = pd.DataFrame(
            [record(gamma, 0.9 + seed / 50, "glyphs", "resnet20v1", seed) for gamma in gammas for seed in range(3)]
        )
        compared = comparisons(**{"0.9": "better"}).assign(dataset="glyphs", model="resnet20v1")
        table, _ = accuracy_table(records, self.PAPER, compared)
        assert "**92.00 ± 2.00**" in table.markdown()
        assert max(len(line) for line in table.markdown().splitlines() if line.startswith("|")) <= 100

    def test_a_failed_cell_says_so_and_is_no_number(self, make_trial):
        failed = make_trial(dataset="cifar10", model="resnet83v2", gamma=0.5)
        table, frame = accuracy_table(pd.DataFrame([record(1.0, 0.9)]), self.PAPER, failed=[failed])
        assert [row[2:] for row in table.rows[:2]] == [("failed", "90.00"), ("failed", "90.00")]
        assert frame["gamma"].tolist() == [1.0]

    def test_a_subset_and_a_synthetic_set_are_named_as_such(self):
        records = pd.DataFrame([record(1.0, 0.9, train_images=8000), record(1.0, 0.5, "glyphs", "resnet8v1")])
        table, _ = accuracy_table(records, self.PAPER)
        assert "8,000 training" in table.notes[0]
        assert "a subset: the catalogue's has 50,000 training images" in table.notes[0]
        assert table.rows[-2][0] == "glyphs (synthetic)"

    def test_the_best_gamma_is_that_of_table_3(self):
        records = pd.DataFrame([record(1.0, 0.3475, "aircraft"), record(0.7, 0.4109, "aircraft")])
        table, frame = best_table(records, self.PAPER)
        assert table.rows == (
            ("aircraft", "resnet83v2", "1", "0.7", "41.09", "34.75", "15.43"),
            ("", "published", "–", "–", "41.09", "34.75", "15.41"),
        )
        assert frame["diff_percent"].item() == pytest.approx(15.4295, abs=1e-3)
        assert frame["published_diff_percent"].item() == 15.41
        assert table.notes == (
            "aircraft, resnet83v2: 15.41 is printed; the printed accuracies give 15.43, within their rounding.",
        )

    def test_a_data_set_of_which_all_failed_has_its_row(self, make_trial):
        failed = [make_trial(dataset="mnist", model="resnet20v1", gamma=gamma) for gamma in (1.0, 0.9)]
        table, _ = accuracy_table(pd.DataFrame([record(1.0, 0.9)]), self.PAPER, failed=failed)
        assert table.rows[3:5] == (
            ("mnist", "best", "failed", "failed"),
            ("resnet20v1", "last", "failed", "failed"),
        )

    def test_a_tie_is_no_gain(self):
        records = pd.DataFrame([record(1.0, 0.9), record(0.9, 0.9)])
        table, _ = best_table(records, self.PAPER)
        assert table.rows[0][3:7] == ("1", "90.00", "90.00", "0.00")

    def test_published_differences_are_from_gamma_1_at_the_same_row(self):
        records = pd.DataFrame([record(1.0, 0.9), record(1.0, 0.9, "mine"), record(1.0, 0.9, "mnist")])
        found = published_differences(records, self.PAPER)
        assert list(found) == [("cifar10", "resnet83v2")]  # the paper's MNIST is of another network
        assert found["cifar10", "resnet83v2"][0.9] == pytest.approx(0.9254 - 0.9331)
        assert found["cifar10", "resnet83v2"][1.0] == 0
