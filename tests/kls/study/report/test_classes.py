import io

import numpy as np
import pandas as pd

from kls.study.methods import CrossEntropy
from kls.study.report.classes import class_parts
from kls.study.report.group import Group

from .helpers import LABELS, logits_of


def test_recalls_are_those_of_the_baseline_beside_the_method(group):
    worst, confused = class_parts(group)
    frame = pd.read_csv(io.StringIO(worst.file.text))
    assert frame["class"].astype(str).tolist() == list(group.class_names)
    right = np.mean([logits_of(seed).argmax(axis=1) == LABELS for seed in (0, 1)], axis=0)
    np.testing.assert_allclose(frame["recall gamma=1"], [right[label == LABELS].mean() for label in range(3)])
    assert frame["n"].tolist() == [14, 14, 13]
    assert confused.header[-2:] == ("images gamma=1", "images gamma=0.9")


def test_classes_are_numbers_where_the_dataset_is_gone(finish_methods, store):
    records = finish_methods({CrossEntropy(): lambda seed: 9 * np.eye(3)[LABELS]}, seeds=1)
    _, nothing, unnamed = class_parts(Group(records, store, reason="It is gone."))
    assert nothing.text == "No image is wrong."
    assert unnamed.text == "Classes are numbers here: It is gone."
