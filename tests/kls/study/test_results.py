from types import SimpleNamespace

import numpy as np
import pytest

import decathlon
import kls
from kls.study.manifest import read_manifest
from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing
from kls.study.plan import Plan, PlanError
from kls.study.results import Results

from ..pages.helpers import parsed
from . import my_models


def test_a_method_means_the_asked_trial_not_a_teacher(data_dir, tmp_path):
    train, test = (decathlon.open("stripes", data_dir=data_dir).split(split) for split in ("train", "test"))
    methods = [Distillation(models="resnet8v1"), CrossEntropy()]
    options = {"seeds": 1, "epochs": 1, "batch_size": 16, "out": tmp_path / "out"}
    results = kls.Study(my_models.with_rescaling, (train, test), methods, **options).run()
    assert [(record["model"], record["method"]) for record in results.records].count(("resnet8v1", "gamma=1")) == 1
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest.asked.values()) == [Distillation(models="resnet8v1").label, "gamma=1"]
    assert (manifest.command, manifest.datasets) == ("", {"arrays": None})
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


class TestItsReport:
    @pytest.fixture
    def results(self, store, finish, make_trial, stripes):
        trials = [make_trial(gamma=gamma) for gamma in (1.0, 0.9, 0.6)]
        finish(*trials[:2])
        asked = frozenset(trial.id for trial in trials[1:])
        sources = SimpleNamespace(datasets={"stripes": stripes})
        return Results(SimpleNamespace(plan=Plan("study", tuple(trials), asked), store=store, sources=sources))

    def test_it_is_of_what_was_asked_for_and_says_how_many_lack(self, results, tmp_path):
        results.save_report(tmp_path / "mine.html")
        found = parsed(tmp_path / "mine.html")
        assert "Not finished, or damaged: 1 of 2 trials that were asked for." in found.texts("p")
        assert "There is no verdict: gamma=0.9 is the only method with finished trials." in found.texts("p")
        assert (tmp_path / "mine" / "model_card.md").is_file()

    def test_without_a_finished_trial_there_is_none(self, results, tmp_path):
        results.records = results.records[:1]
        with pytest.raises(PlanError, match="no trial that was asked for is finished"):
            results.save_report(tmp_path / "mine.html")

    @pytest.mark.parametrize("path", ["", "mine", "mine.txt", None, 5])
    def test_a_path_that_is_no_html_file_is_refused(self, results, path):
        with pytest.raises(ValueError, match=r"`path` must .* Received: path="):
            results.save_report(path)
