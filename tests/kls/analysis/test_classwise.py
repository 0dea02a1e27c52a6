import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import classification_report

from kls.analysis.classwise import class_scores
from kls.calibration.samples import softmax

# Class 0: three samples, two found, and one of class 1 taken for it; class 1: one of two found; class 2: never seen.
LABELS = np.array([0, 0, 0, 1, 1])
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.6, 0.4, 0], [0.3, 0.1, 0.6], [0.9, 0.1, 0], [0.2, 0.7, 0.1]])


def test_scores_and_confidences_counted_by_hand():
    f1, confidence = class_scores(LABELS, PROBABILITIES)
    np.testing.assert_allclose(f1, [2 * 2 / (2 * 2 + 1 + 1), 2 * 1 / (2 * 1 + 0 + 1), 0])
    np.testing.assert_allclose(confidence, [(0.8 + 0.6 + 0.3) / 3, (0.1 + 0.7) / 2, np.nan])


@pytest.mark.filterwarnings("error")
def test_a_class_neither_there_nor_predicted_has_no_score():
    f1, confidence = class_scores([0, 1], [[0.9, 0.1, 0], [0.2, 0.8, 0]])
    np.testing.assert_array_equal(f1, [1, 1, np.nan])
    np.testing.assert_allclose(confidence, [0.9, 0.8, np.nan])


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 7))
def test_scores_are_those_of_the_report_of_scikit_learn(seed, classes):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(40, classes))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 40 - classes)])
    f1, confidence = class_scores(labels, logits, from_logits=True)
    report = classification_report(labels, logits.argmax(axis=1), output_dict=True, zero_division=0)
    np.testing.assert_allclose(f1, [report[str(k)]["f1-score"] for k in range(classes)])
    probabilities = softmax(logits)
    np.testing.assert_allclose(confidence, [probabilities[labels == k, k].mean() for k in range(classes)])


def test_one_hot_labels_and_logits_say_the_same():
    expected = class_scores(LABELS, PROBABILITIES)
    logits = np.log(np.maximum(PROBABILITIES, 1e-300))
    np.testing.assert_allclose(class_scores(np.eye(3)[LABELS], logits, from_logits=True), expected)


def test_a_sure_mistake_counts_as_no_confidence():
    _, confidence = class_scores([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    assert confidence.tolist() == [0, 1]


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="from_logits=True"):
        class_scores([0], [[3.0, 1.0]])
