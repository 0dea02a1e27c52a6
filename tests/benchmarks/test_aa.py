import numpy as np
import pytest

from benchmarks import aa
from kls.study.statistics import BETTER, WORSE, Predictions

LABELS = np.arange(300) % 3


def networks(n, right, seed):
    """Networks of which each is right on about a share of the images."""
    rng = np.random.default_rng(seed)
    guesses = np.where(rng.random((n, 300)) < right, LABELS, (LABELS + 1) % 3)
    return Predictions(LABELS, 3 * np.eye(3)[guesses])


def test_each_arrangement_deals_out_all_seeds_once():
    pairs = aa.pairs_of_groups(13, 3)
    assert len(pairs) == 3 * 2
    for start in (0, 2, 4):
        dealt = np.concatenate([np.concatenate(pair) for pair in pairs[start : start + 2]])
        assert len(set(dealt.tolist())) == 12


def test_a_tenth_of_the_labels_becomes_another_class():
    labels = np.arange(20_000) % 7
    wrong = aa.wrong_labels(labels, 7) != labels
    assert wrong.mean() == pytest.approx(0.1, abs=0.01)


def test_a_planted_difference_is_called_and_none_is_not():
    pairs = aa.pairs_of_groups(12, 2)
    same = aa.count_calls(networks(12, 0.9, 0), networks(12, 0.9, 0), pairs)
    worse = aa.count_calls(networks(12, 0.9, 0), networks(12, 0.6, 1), pairs)
    assert (same["accuracy", BETTER], same["accuracy", WORSE]) == (0, 0)
    assert worse["accuracy", WORSE] == len(pairs) == 4


def test_the_table_has_both_comparisons(monkeypatch, capsys, data_dir):
    found = iter([networks(6, 0.9, 0), networks(6, 0.5, 1)])
    monkeypatch.setattr(aa, "_trained", lambda *_: next(found))
    assert aa.main(["--datasets", "stripes", "--seeds", "6", "--data-dir", str(data_dir)]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "stripes" in line]
    assert [row[4].strip() for row in rows] == ["A/A", "wrong labels"]
    assert rows[1][6].strip() == "0 better, 4 worse"


def test_too_few_seeds_are_refused(capsys, data_dir):
    assert aa.main(["--datasets", "stripes", "--seeds", "5", "--data-dir", str(data_dir)]) == 2
    assert "--seeds must be at least 6, for two groups. Received: 5" in capsys.readouterr().err
