import numpy as np
import pytest

from kls.study.statistics import METRICS, Predictions, Scores

LOGITS = np.zeros((2, 3, 4))
NAN = np.where(np.arange(24).reshape(2, 3, 4) == 17, np.nan, LOGITS)


def test_better_is_up_for_accuracy_and_auroc_alone():
    assert {name for name, metric in METRICS.items() if metric.larger_is_better} == {"accuracy", "auroc"}


@pytest.mark.parametrize(
    ("name", "margin"), [("accuracy", "0.25"), ("ece", "0.50"), ("nll", "0.0100"), ("auroc", "1.00")]
)
def test_margins_are_shown_in_the_units_of_the_metric(name, margin):
    assert METRICS[name].shown(METRICS[name].margin) == margin
    assert METRICS[name].shown(METRICS[name].margin, "+") == f"+{margin}"


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([0, 1, 2], LOGITS[0], r"`logits` must be of shape \(seeds, images, classes\). Received: shape \(3, 4\)"),
        ([0, 1, 2], LOGITS[:0], r"Received: shape \(0, 3, 4\)"),
        ([0, 1, 2], NAN, "one of each image at least finite. Received: nan of seed 1, image 1"),
        ([0, 1, 2], LOGITS + np.inf, "`logits` must be numbers below infinity.*Received: inf of seed 0, image 0"),
        ([0], LOGITS[:, :1], r"`logits` must be those of at least 2 images. Received: shape \(2, 1, 4\)"),
        ([0, 1], LOGITS, r"`y_true` must hold class indices of shape \(3,\)"),
        ([0, 1, 4], LOGITS, r"`y_true` must hold whole numbers in 0..3. Received: y_true\[2\]=4"),
    ],
)
def test_wrong_predictions_are_said(labels, logits, message):
    with pytest.raises(ValueError, match=message):
        Predictions(labels, logits)


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "message"),
    [
        (
            np.zeros(3),
            {"a": np.zeros((1, 3))},
            r"`id_scores` must be of shape \(seeds, images\). Received: shape \(3,\)",
        ),
        (np.zeros((1, 3)), {}, r"`ood_scores` must be a dictionary of scores by dataset. Received: \{\}"),
        (np.zeros((1, 3)), {"a": np.zeros((2, 3))}, r"`ood_scores\['a'\]` must be those of 1 seeds. Received: 2"),
        (np.zeros((1, 3)), {"a": [[0.0, np.nan]]}, r"`ood_scores\['a'\]` must not hold NaN"),
        (np.zeros((1, 1)), {"a": np.zeros((1, 3))}, r"`id_scores` must hold scores of shape \(N,\) with N >= 2"),
    ],
)
def test_wrong_scores_are_said(id_scores, ood_scores, message):
    with pytest.raises(ValueError, match=message):
        Scores(id_scores, ood_scores)
