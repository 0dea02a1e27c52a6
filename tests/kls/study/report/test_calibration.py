import pandas as pd
import pytest

from kls.study.report.calibration import calibration_table
from kls.study.report.comparisons import bold_note
from kls.study.report.tables import REVERSED, Bold


def record(gamma, seed=0, dataset="cifar10", **measures):
    measures = {"accuracy_last": 0.9, "ece": 0.05, "nll": 0.5, "brier": 0.2} | measures
    method = {"gamma": gamma, "method": f"gamma={gamma:g}", "seed": seed}
    return {"dataset": dataset, "model": "resnet20v1", **method, **measures}


def comparisons(**words):
    """Returns of the frame of a comparison what tables read of it, for gamma = 0.9."""
    rows = [{"dataset": "cifar10", "metric": metric, "word": word} for metric, word in words.items()]
    return pd.DataFrame(rows).assign(model="resnet20v1", method="gamma=0.9")


def test_what_is_better_by_its_interval_is_bold():
    records = [
        record(1.0, accuracy_last=0.93, ece=0.08, nll=0.6, brier=0.1, auroc_svhn=0.85),
        record(0.9, accuracy_last=0.94, ece=0.02, nll=0.5, brier=0.2, auroc_svhn=0.95),
    ]
    words = {"accuracy": "better", "ece": "better", "nll": "cannot tell", "brier": "worse", "auroc_svhn": "better"}
    compared = comparisons(**words)
    table, frame = calibration_table(pd.DataFrame(records), compared=compared)
    assert table.header == ("network", "γ", "n", "accuracy %", "ECE %", "NLL", "Brier", "AUROC % svhn")
    assert table.rows == (
        ("cifar10", "1", "1", "93.00", "8.00", "0.600", "0.100", "85.00"),
        ("resnet20v1", "0.9", "1", Bold("94.00"), Bold("2.00"), "0.500", "0.200", Bold("95.00")),
    )
    assert bold_note(compared) in table.caption
    assert frame["auroc_svhn_mean"].tolist() == [0.85, 0.95]


def test_without_a_comparison_nothing_is_bold():
    table, _ = calibration_table(pd.DataFrame([record(1.0, ece=0.08), record(0.9, ece=0.02)]))
    assert not any(isinstance(cell, Bold) for row in table.rows for cell in row)
    assert "Bold" not in table.caption


def test_an_auroc_below_one_half_is_never_bold_and_a_note_says_why():
    records = [record(1.0, auroc_svhn=0.35, auroc_dtd=0.4), record(0.9, auroc_svhn=0.45, auroc_dtd=0.6)]
    compared = comparisons(auroc_svhn="better", auroc_dtd="better")
    table, _ = calibration_table(pd.DataFrame(records), compared=compared)
    assert table.header[-2:] == ("AUROC % dtd", "AUROC % svhn")
    assert [row[-2:] for row in table.rows] == [("40.00", "35.00"), (Bold("60.00"), "45.00")]
    assert table.notes == (REVERSED,)
    table, _ = calibration_table(pd.DataFrame([record(1.0, auroc_svhn=0.5), record(0.9, auroc_svhn=0.9)]))
    assert table.notes == ()


def test_seeds_give_mean_and_deviation():
    table, frame = calibration_table(pd.DataFrame([record(1.0, 0, ece=0.02), record(1.0, 1, ece=0.04)]))
    assert table.rows[0][:5] == ("cifar10", "1", "2", "90.00 ± 0.00", "3.00 ± 1.41")
    assert table.rows[1] == ("resnet20v1", *[""] * 6)  # a row for the second half of its name
    assert frame["ece_std"].item() == pytest.approx(0.0141421356)


def test_a_set_that_one_data_set_was_not_held_against_is_a_dash():
    records = [record(1.0, auroc_svhn=0.9), record(1.0, dataset="mnist")]
    table, _ = calibration_table(pd.DataFrame(records))
    assert [row[-1] for row in table.rows] == ["90.00", "", "–", ""]
    assert not any(isinstance(cell, Bold) for row in table.rows for cell in row)


def test_rows_of_several_seeds_fit_a_hundred_columns():
    records = [record(gamma, seed, "glyphs", ece=0.2 + seed / 50) for gamma in (1.0, 0.9, 0.7) for seed in range(3)]
    table, _ = calibration_table(pd.DataFrame(records))
    assert "synthetic" in table.rows[0][0]
    assert max(len(line) for line in table.markdown().splitlines() if line.startswith("|")) <= 100
