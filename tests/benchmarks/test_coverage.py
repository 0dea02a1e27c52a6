import numpy as np
import pytest

from benchmarks import coverage
from kls import calibration, ood


@pytest.mark.parametrize("shift", [0.03, 0.15])
def test_true_calibration_is_what_a_large_sample_has(shift):
    true = coverage.true_calibration(shift, seed=0)
    labels, probabilities, _ = coverage.predictions(np.random.default_rng(1), 200_000, shift)
    for name in ("accuracy", "ECE", "UCE", "RMSCE", "debiased", "classwise", "Brier"):
        found = coverage.CALIBRATION[name](labels, probabilities)
        assert found == pytest.approx(true[name], abs=0.004), name
        assert true.get(f"{name}, bootstrap", true[name]) == true[name]


@pytest.mark.parametrize("distance", [1.0, 2.0])
def test_true_detection_is_what_a_large_sample_has(distance):
    true, rng = coverage.true_detection(distance), np.random.default_rng(0)
    sides = rng.normal(distance, 1, 100_000), rng.normal(0, 1, 100_000)
    for name, metric in (("FPR", ood.fpr_at_tpr), ("AUROC", ood.auroc), ("AUPR in", ood.aupr_in)):
        assert metric(*sides) == pytest.approx(true[name], abs=0.006), name
    found = ood.detection_accuracy(*sides, threshold=distance / 2)
    assert found == pytest.approx(true["detection accuracy"], abs=0.003)


def test_the_command_prints_shares_and_widths(monkeypatch, capsys):
    for name, few in (("SHIFTS", (0.15,)), ("DISTANCES", (2.0,)), ("SIZES", (50,))):
        monkeypatch.setattr(coverage, name, few)
    assert coverage.main(["--sets", "4", "--resamples", "5", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "4 sets per cell, 5 resamples of each bootstrap, seed 3" in out
    rng, true = np.random.default_rng([3, 50, 1500]), coverage.true_calibration(0.15, 3)["accuracy"]
    sets = [coverage.predictions(rng, 50, 0.15)[:2] for _ in range(4)]
    found = [calibration.interval(calibration.accuracy, *arrays) for arrays in sets]
    held = [one.low <= true <= one.high for one in found]
    cells = next(line for line in out.splitlines() if line.startswith("| 0.15 ")).split("|")
    assert cells[3].strip() == f"{100 * np.mean(held):.1f} ({np.mean([one.high - one.low for one in found]):.3f})"
    assert len(cells) == 2 + 2 + len(coverage.CALIBRATION)
