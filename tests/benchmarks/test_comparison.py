from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks import comparison
from kls.study.statistics import METRICS, Predictions, Scores, Uncertainty, compare


@pytest.mark.parametrize("method", comparison.METHODS)
def test_true_values_are_those_of_many_seeds_and_images(method):
    spread, rng = replace(method, of_seeds=0.3), np.random.default_rng(0)
    sampled = comparison.sampled_metrics(rng, [spread], 200, 5_000)
    sampled.pop("calibrated")
    for name, metric in sampled.items():
        found = metric.on_all().mean()
        assert found == pytest.approx(spread.truth(name), abs=0.012), name
        assert spread.truth(name) != pytest.approx(method.truth(name), abs=1e-4), name


def test_the_calibrated_baseline_is_the_baseline_at_another_scale():
    other = replace(comparison.METHODS[0], scale=comparison.CALIBRATED)
    assert other.truth("ece") < 0.002
    found, expected = (
        comparison.sampled_metrics(np.random.default_rng(0), [first, comparison.METHODS[1]], 2, 500)
        for first in (comparison.METHODS[0], other)
    )
    np.testing.assert_allclose(found["calibrated"].on_all(), expected["ece"].on_all())


def test_intervals_are_those_of_compare():
    sampled = comparison.sampled_metrics(np.random.default_rng(1), comparison.METHODS, 3, 80)
    margins, ood = sampled["auroc"]._id_scores, sampled["auroc"]._ood_scores[0]
    logits = np.stack([margins, np.zeros_like(margins)], axis=-1)
    first, second = (Predictions(np.zeros(80, int), part) for part in (logits[:3], logits[3:]))
    one, other = (Scores(margins[part], {"ood": ood[part]}) for part in (slice(3), slice(3, 6)))
    sampled.pop("calibrated")
    for name, metric in sampled.items():
        pair = (one, {"method": other}) if name == "auroc" else (first, {"method": second})
        found = compare(name, *pair, resamples=7, seed=4)["method"]
        difference, below, above = comparison.interval(metric, 3, METRICS[name].unseen, 7, 4)
        assert difference == pytest.approx(found.difference), name
        assert (difference - below, difference + above) == pytest.approx((found.low, found.high)), name


def test_satterthwaites_interval_is_students_of_one_cause():
    of_seeds, of_images = Uncertainty(4, 50, 2.0, 0.0, 0.0), Uncertainty(4, 50, 0.0, 2.0, 0.0)
    assert comparison.satterthwaite(of_seeds, 0.9) == pytest.approx(stats.t.isf(0.05, 3) * np.sqrt(2))
    assert comparison.satterthwaite(of_images, 0.9) == pytest.approx(stats.t.isf(0.05, 49) * np.sqrt(2))


def test_the_command_prints_shares_and_half_widths(monkeypatch, capsys):
    for name, few in (("SEEDS", (1, 2)), ("SIZES", (40,)), ("SHARES", (0.0, 1.0))):
        monkeypatch.setattr(comparison, name, few)
    assert comparison.main(["--repetitions", "5", "--resamples", "6", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "5 comparisons per cell, 6 resamples, seed 3" in out
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in out.splitlines() if line.startswith("| ")}
    methods = [replace(method, of_seeds=0.0) for method in comparison.METHODS]
    options = comparison._parser().parse_args(["--repetitions", "5", "--resamples", "6", "--seed", "3"])
    differences, halves, _ = comparison.simulated_intervals(methods, 1, 40, options)["nll"]
    held = np.abs(differences - comparison.true_differences(methods)["nll"]) <= halves
    assert rows["NLL"][1].strip() == f"{100 * held.mean():.1f} ({halves.mean():.4f})"
    assert set(comparison.HEADINGS.values()) < set(rows)
    assert rows["2"][0].strip().endswith(")")
