from dataclasses import replace

import numpy as np
import pytest

from kls.study.methods import SoftLabels

from ..helpers import training_of


@pytest.fixture
def labels():
    return np.random.default_rng(0).dirichlet(np.ones(3), 96).astype(np.float32)


def test_a_path_and_its_array_are_one_method(labels, tmp_path):
    np.save(tmp_path / "labels.npy", labels)
    assert SoftLabels(tmp_path / "labels.npy") == SoftLabels(labels) == SoftLabels(labels.astype(np.float64))
    assert SoftLabels(labels[::-1]).fingerprint != SoftLabels(labels).fingerprint


def test_labels_of_another_shape_are_refused(labels, make_trial, stripes):
    SoftLabels(labels).check(make_trial(), stripes)
    with pytest.raises(ValueError, match=r"`labels` must be of shape \(96, 3\). Received: shape \(95, 3\)"):
        SoftLabels(labels[1:]).check(make_trial(), stripes)


def test_each_image_of_a_batch_comes_with_its_distribution(labels, make_trial, stripes):
    trial = replace(make_trial(shift=0.0), method=SoftLabels(labels))
    images, distributions = trial.method.batches(training_of(trial, stripes)).batch(0, 0)
    rows = [next(i for i, image in enumerate(stripes.split("train")[0]) if (image == one).all()) for one in images]
    np.testing.assert_array_equal(distributions, labels[rows])
