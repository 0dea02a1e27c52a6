import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import auc, roc_auc_score

from kls.calibration import expected_calibration_error
from kls.pages.curves import reliability_diagrams, risk_coverage_curves, roc_curves

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 200)
LOGITS = 2 * np.eye(3)[LABELS] + RNG.normal(0, 1.5, (200, 3))


def frame_of(figures):
    return pd.read_csv(io.StringIO(figures.file.text))


def test_bins_of_a_diagram_are_those_of_the_ece():
    networks = {"<b>": (LABELS, LOGITS), "sharp": (LABELS, 3 * LOGITS)}
    found = reliability_diagrams("reliability", networks, 15, "guo", "caption")
    assert [seen for seen, _ in found.figures] == ["Reliability diagram, <b>", "Reliability diagram, sharp"]
    frame = frame_of(found)
    for title, (labels, logits) in networks.items():
        of = frame[frame["network"] == title]
        assert (len(of), of["n"].sum()) == (15, 200)
        error = (of["n"] / 200 * (of["accuracy"] - of["confidence"]).abs()).sum()
        assert error == pytest.approx(expected_calibration_error(labels, logits, from_logits=True))


def test_the_curve_behind_the_roc_has_its_auroc():
    id_scores, ood = RNG.normal(1, 1, 100), {"far": RNG.normal(0, 1, 80), "$near$": RNG.normal(0.8, 1, 60)}
    found = roc_curves("roc", {"msp": (id_scores, ood)}, "caption")
    frame = frame_of(found)
    for name, scores in ood.items():
        of = frame[frame["ood"] == name]
        expected = roc_auc_score(np.arange(100 + len(scores)) < 100, np.concatenate([id_scores, scores]))
        assert auc(of["fpr"], of["tpr"]) == pytest.approx(expected)
        assert f"{name}: AUROC {100 * expected:.2f} %" in found.figures[0][1]


def test_risk_at_full_coverage_is_the_error():
    found = risk_coverage_curves("risk_coverage", LABELS, {"model": LOGITS}, "caption")
    last = frame_of(found).iloc[-1]
    assert last["coverage"] == 1
    assert last["risk"] == pytest.approx(np.mean(LOGITS.argmax(axis=1) != LABELS))
