from types import SimpleNamespace

import numpy as np
import pytest

import decathlon
import kls
from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing
from kls.study.plan import Plan
from kls.study.results import Results

from . import my_models


def test_a_method_means_the_asked_trial_not_a_teacher(data_dir, tmp_path):
    train, test = (decathlon.open("stripes", data_dir=data_dir).split(split) for split in ("train", "test"))
    methods = [Distillation(models="resnet8v1"), CrossEntropy()]
    options = {"epochs": 1, "batch_size": 16, "out": tmp_path / "out"}
    results = kls.Study(my_models.with_rescaling, (train, test), methods, **options).run()
    assert [(record["model"], record["method"]) for record in results.records].count(("resnet8v1", "gamma=1")) == 1
    model = results.model(CrossEntropy())
    assert model.count_params() == 8 * 8 * 3 + 3
    logits, _ = results.logits(CrossEntropy())
    np.testing.assert_allclose(model.predict(np.asarray(test[0]), verbose=0), logits, atol=1e-4)


def test_methods_are_compared_by_themselves_or_their_labels(store, finish, make_trial):
    trials = [make_trial(gamma=gamma, seed=seed) for gamma in (1.0, 0.9, 0.6) for seed in (0, 1)]
    finish(*trials)
    results = Results(SimpleNamespace(plan=Plan("study", tuple(trials)), store=store))
    found = results.compare("nll")
    assert list(found) == ["gamma=0.9", "gamma=0.6"]
    one = results.compare("nll", CrossEntropy(), LabelSmoothing(0.6))
    assert one.difference == pytest.approx(found["gamma=0.6"].difference)
    assert one.single == one.level < found["gamma=0.6"].single  # intervals of several methods hold at once
    assert results.compare("nll", "gamma=0.6", "gamma=0.9").baseline == pytest.approx(one.value)
    assert len(results.comparison_table()[1]) == 2 * 4
