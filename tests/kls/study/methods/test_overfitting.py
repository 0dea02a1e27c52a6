from dataclasses import replace

import numpy as np

from kls.study.estimate import steps_per_epoch
from kls.study.methods import OverfittingRatio

from ..helpers import compiled_model, training_of


def test_a_trial_whose_loss_follows_overfitting_holds_out_a_tenth(parent, stripes):
    trial = replace(parent, method=OverfittingRatio("label", 1))
    training = training_of(trial, stripes)
    images, labels = training.images, training.labels
    whole, _ = stripes.split("train")
    assert len(images) == len(labels) == 96 - 9
    assert np.bincount(labels).tolist() == [29, 29, 29]
    assert len(trial.method.batches(training)) == steps_per_epoch(trial, stripes) == 87 // 16
    (weights,) = trial.method.callbacks(training, compiled_model(trial, stripes, 5))
    parts = [{image.tobytes() for image in weights.data[name].images} for name in ("train", "validation")]
    assert len(parts[0] & parts[1]) == 0
    assert parts[0] | parts[1] == {image.tobytes() for image in whole}
    assert parts[0] == {image.tobytes() for image in images}
