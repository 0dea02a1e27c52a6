import pandas as pd
import pytest

from kls.study.report.calibration import calibration_table
from kls.study.report.tables import REVERSED, Bold


def record(gamma, seed=0, dataset="cifar10", **measures):
    measures = {"accuracy_last": 0.9, "ece": 0.05, "nll": 0.5, "brier": 0.2} | measures
    return {"dataset": dataset, "model": "resnet20v1", "gamma": gamma, "seed": seed, **measures}


def test_the_highest_auroc_and_the_lowest_error_are_bold():
    records = [
        record(1.0, accuracy_last=0.93, ece=0.08, nll=0.4, brier=0.1, auroc_svhn=0.95),
        record(0.9, accuracy_last=0.94, ece=0.02, nll=0.5, brier=0.2, auroc_svhn=0.85),
    ]
    table, frame = calibration_table(pd.DataFrame(records))
    assert table.header == ("data set", "model", "γ", "n", "accuracy %", "ECE %", "NLL", "Brier", "AUROC % svhn")
    assert table.rows == (
        ("cifar10", "resnet20v1", "1", "1", "93.00", "8.00", Bold("0.4000"), Bold("0.1000"), Bold("95.00")),
        ("cifar10", "resnet20v1", "0.9", "1", "94.00", Bold("2.00"), "0.5000", "0.2000", "85.00"),
    )
    assert frame["auroc_svhn_mean"].tolist() == [0.95, 0.85]


def test_an_auroc_below_one_half_is_never_bold_and_a_note_says_why():
    records = [
        record(1.0, auroc_svhn=0.45, auroc_dtd=0.4),
        record(0.9, auroc_svhn=0.35, auroc_dtd=0.6),
    ]
    table, _ = calibration_table(pd.DataFrame(records))
    assert table.header[-2:] == ("AUROC % dtd", "AUROC % svhn")
    assert [row[-2:] for row in table.rows] == [("40.00", "45.00"), (Bold("60.00"), "35.00")]
    assert table.notes == (REVERSED,)
    table, _ = calibration_table(pd.DataFrame([record(1.0, auroc_svhn=0.5), record(0.9, auroc_svhn=0.9)]))
    assert table.notes == ()


def test_seeds_give_mean_and_deviation():
    table, frame = calibration_table(pd.DataFrame([record(1.0, 0, ece=0.02), record(1.0, 1, ece=0.04)]))
    assert table.rows[0][3:6] == ("2", "90.00 ± 0.00", "3.00 ± 1.41")
    assert frame["ece_std"].item() == pytest.approx(0.0141421356)


def test_a_set_that_one_data_set_was_not_held_against_is_a_dash():
    records = [record(1.0, auroc_svhn=0.9), record(1.0, dataset="mnist")]
    table, _ = calibration_table(pd.DataFrame(records))
    assert [row[-1] for row in table.rows] == ["90.00", "–"]
    assert not any(isinstance(cell, Bold) for row in table.rows for cell in row)
