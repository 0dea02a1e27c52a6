import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kls.ood.metrics import fpr_at_tpr
from kls.study.report.comparisons import compare_methods
from kls.study.report.detection import detection_parts
from kls.study.report.group import Group

from .helpers import logits_of, outliers_of

pytestmark = pytest.mark.usefixtures("undrawn")


def scores(logits, normalised):
    logits = np.float32(logits).astype(float)
    if normalised:
        logits = logits - logits.mean(axis=1, keepdims=True)
        logits = logits / np.linalg.norm(logits, axis=1, keepdims=True)
    powers = np.exp(logits)
    return powers.max(axis=1) / powers.sum(axis=1)


def frame_of(part):
    return pd.read_csv(io.StringIO(part.file.text))


@pytest.mark.parametrize("correction", ["as trained", "normalised logits"])
def test_auroc_and_fpr_are_those_of_the_largest_probability(group, correction):
    frame = frame_of(detection_parts(group)[0]).set_index(["ood", "correction", "method", "seed"])
    normalised = correction == "normalised logits"
    for place, ood in enumerate(("far", "near")):
        kept, passed = scores(logits_of(1), normalised), scores(outliers_of(1 + 10 * place), normalised)
        row = frame.loc[ood, correction, "gamma=1", 1]
        labels = np.arange(len(kept) + len(passed)) < len(kept)
        assert row["auroc"] == pytest.approx(roc_auc_score(labels, np.concatenate([kept, passed])), abs=1e-6)
        assert row["fpr95"] == pytest.approx(fpr_at_tpr(kept, passed), abs=1e-6)


def test_differences_are_those_of_the_comparison_with_n(group):
    part = detection_parts(group)[1]
    frame = frame_of(part)
    assert frame["metric"].tolist() == ["auroc_far", "fpr95_far"] * 2 + ["auroc_near", "fpr95_near"] * 2
    expected = compare_methods(group.records, group.store, "fpr95_near")["gamma=0.9"]
    found = frame[(frame["metric"] == "fpr95_near") & (frame["correction"] == "as trained")].iloc[0]
    assert found[["difference", "low", "high"]].tolist() == pytest.approx(
        [expected.difference, expected.low, expected.high]
    )
    assert {row[3] for row in part.rows} == {"2"}


def test_curves_are_of_both_methods_as_trained_and_normalised(group):
    *_, curves = detection_parts(group)
    titles = [seen.removeprefix("ROC, ") for seen, _ in curves.figures]
    assert titles == [f"{name}, {how}" for name in group.detailed for how in ("as trained", "normalised logits")]
    assert "41 test images against images of OOD datasets: 30 of far, 30 of near" in curves.caption


def test_without_a_baseline_there_are_no_differences(group):
    alone = Group([record for record in group.records if record["gamma"] < 1], group.store)
    assert len(detection_parts(alone)) == 2
