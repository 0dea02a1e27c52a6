"""Studies that train a pretrained backbone too, from a trained head on, and what comes of both."""

import keras
import numpy as np
import pytest

import kls
from kls.__main__ import main
from kls.study import reuse
from kls.study import run as run_module
from kls.study.command import outline
from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing, OutlierExposure
from kls.study.trial import ALL, HEAD

from . import pretrained
from .pretrained import DATA

X, Y = DATA[1]
FAR = {"far": 255 - X}


@pytest.fixture(scope="module")
def whole(study_of_heads):
    """A study of two methods and seeds whose backbones were trained, with one compiled model, and its results."""
    made, taken, take = study_of_heads(fine_tune="all", seeds=2, ood=FAR), [], reuse.take

    def noted(trial, strategy):
        found = take(trial, strategy)
        taken.append(found is not None)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "take", noted)
        patch.setattr(reuse, "_last", None)
        results = made.run()
    assert taken == [False, True, True, True]
    return made, results


@pytest.fixture(scope="module")
def heads(study_of_heads):
    made = study_of_heads(fine_tune="head", seeds=2, ood=FAR, features=True)
    return made, made.run()


def weights_of(made, label, seed=0, fine_tune=ALL):
    (trial,) = (
        trial
        for trial in made.plan().trials
        if (trial.method.label, trial.seed, trial.fine_tune) == (label, seed, fine_tune)
    )
    return (made.store.directory(trial) / "weights.weights.h5").read_bytes()


class TestPlan:
    def test_a_head_comes_before_each_network(self, study_of_heads):
        trials = study_of_heads(fine_tune=1, learning_rate=1e-4, optimizer="nesterov").plan().trials
        assert [(trial.method.gamma, trial.fine_tune) for trial in trials] == [(1, HEAD), (1, 1), (0.9, HEAD), (0.9, 1)]
        for head, trial in zip(trials[::2], trials[1::2], strict=True):
            assert (trial.head, head.head) == (head.id, None)
            assert (head.epochs, head.optimizer, head.learning_rate, head.shift, head.flip) == (
                20,
                "adam",
                1e-3,
                0,
                False,
            )
            assert (trial.epochs, trial.optimizer, trial.learning_rate, trial.shift) == (2, "nesterov", 1e-4, 0.1)

    def test_the_head_is_that_of_a_study_of_heads(self, study_of_heads):
        heads = study_of_heads(epochs=20, learning_rate=1e-3).plan().trials
        trials = study_of_heads(fine_tune="all").plan().trials
        assert [trial.id for trial in trials if trial.of_features] == [trial.id for trial in heads]

    def test_ids_are_the_same_in_each_study(self, study_of_heads):
        first, second = (study_of_heads(fine_tune="all").plan().trials for _ in range(2))
        assert [trial.id for trial in first] == [trial.id for trial in second]
        assert {trial.id for trial in first}.isdisjoint(
            trial.id for trial in study_of_heads(fine_tune=1).plan().trials[1::2]
        )

    def test_what_a_method_changes_and_mixes_is_no_matter_of_the_head(self, study_of_heads):
        methods = [LabelSmoothing(0.9), LabelSmoothing(0.9, mixing="mixup", epochs=3, learning_rate=1e-5)]
        head, first, second = study_of_heads(fine_tune="all", methods=methods).plan().trials
        assert first.head == second.head == head.id
        assert (head.method.mixing, head.epochs, head.learning_rate) == (None, 20, 1e-3)
        assert (second.method.mixing, second.epochs, second.learning_rate) == ("mixup", 3, 1e-5)

    def test_what_goes_on_from_a_trained_network_has_no_head(self, study_of_heads, data_dir):
        exposure = OutlierExposure("stripes", outlier_batch_size=8)
        trials = study_of_heads(fine_tune="all", methods=[exposure], data_dir=data_dir).plan().trials
        assert [(trial.fine_tune, trial.head is None, len(trial.parents)) for trial in trials] == [
            (HEAD, True, 0), (ALL, False, 0), (ALL, True, 1),
        ]  # fmt: skip

    def test_its_outline_counts_what_was_asked_for(self, study_of_heads):
        told = outline(study_of_heads(fine_tune="all", epochs=3))
        assert told.startswith("Plan: 2 methods (gamma=1, gamma=0.9), 1 seed each: 2 trainings of 3 epochs. ")


class TestTraining:
    def test_it_begins_with_exactly_the_trained_head(self, whole):
        made, _ = whole
        for trial in made.plan().trials:
            if trial.fine_tune == ALL:
                logits, _ = made.store.logits(made.plan().head(trial), "validation")
                network = made.trainer.training(trial).network()
                np.testing.assert_allclose(network.predict(X, verbose=0), logits, rtol=1e-4, atol=1e-4)

    def test_the_backbone_is_trained_and_its_statistics_are_not(self, whole):
        _, results = whole
        layers = {layer.name: layer.get_weights() for layer in results.model("gamma=0.9").layers}
        before = {layer.name: layer.get_weights() for layer in pretrained.flat((8, 8, 1), 3).layers}
        assert all(np.abs(one - other).max() > 0 for one, other in zip(layers["conv"], before["conv"], strict=True))
        for found, value in zip(layers["norm"], before["norm"], strict=True):
            np.testing.assert_array_equal(found, value)

    def test_stopped_and_run_again_alone_it_has_the_same_bits(self, whole, study_of_heads, tmp_path, monkeypatch):
        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 1:
                    raise KeyboardInterrupt

        def stop(trial):
            return [Stop()] if trial.fine_tune == ALL else []

        options = {"fine_tune": "all", "seeds": [1], "methods": [LabelSmoothing(0.9)], "ood": FAR, "out": tmp_path}
        with pytest.raises(KeyboardInterrupt):
            study_of_heads(callbacks=stop, **options).run()
        monkeypatch.setattr(reuse, "_last", None)
        resumed = study_of_heads(**options)
        results = resumed.run()
        for fine_tune in (HEAD, ALL):
            assert weights_of(resumed, "gamma=0.9", 1, fine_tune) == weights_of(whole[0], "gamma=0.9", 1, fine_tune)
        for split in ("validation", "far"):
            one, other = (found.logits("gamma=0.9", 1, split)[0] for found in (results, whole[1]))
            np.testing.assert_array_equal(one, other)

    def test_two_workers_train_what_one_does(self, whole, study_of_heads):
        """Up to rounding: their threads are fewer."""
        results = study_of_heads(fine_tune="all", seeds=2, methods=[LabelSmoothing(0.9)], ood=FAR).run(workers=2)
        assert results.failures == {}
        for record in results.records:
            one, other = (found.logits(record["method"], record["seed"])[0] for found in (results, whole[1]))
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


class TestResults:
    @pytest.mark.parametrize("fine_tune", ["all", "head"])
    def test_a_model_gives_the_stored_logits_and_can_be_saved(self, fine_tune, whole, heads, tmp_path):
        _, results = whole if fine_tune == "all" else heads
        model = results.model(CrossEntropy(), 1)
        model.save(tmp_path / "model.keras")
        for network in (model, keras.models.load_model(tmp_path / "model.keras")):
            for split, images in (("validation", X), ("far", FAR["far"])):
                logits, _ = results.logits(CrossEntropy(), 1, split)
                np.testing.assert_allclose(network.predict(images, verbose=0), logits, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("fine_tune", ["all", "head"])
    def test_a_model_can_be_guarded(self, fine_tune, whole, heads):
        model = (whole if fine_tune == "all" else heads)[1].model(CrossEntropy())
        outputs = kls.guard(model, (X, Y), score="msp").predict(X, verbose=0)
        np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, atol=1e-5)

    def test_first_heads_are_left_out(self, whole):
        made, results = whole
        assert len(made.plan().trials) == 8
        assert [(record["method"], record["seed"]) for record in results.records] == [
            ("gamma=1", 0), ("gamma=0.9", 0), ("gamma=1", 1), ("gamma=0.9", 1),
        ]  # fmt: skip
        assert {record["epochs"] for record in results.records} == {2}
        assert repr(results).startswith("4 of 4 trials finished")
        assert list(results.table()[1]["n"]) == [2, 2]

    def test_stored_features_are_those_that_the_head_was_given(self, heads):
        made, _ = heads
        trial = made.plan().trials[0]
        features, _ = made.trainer.training(trial).dataset.split("validation")
        stored = made.store.outputs(trial, "validation")["features"]
        np.testing.assert_allclose(stored, features, rtol=1e-3, atol=1e-3)

    def test_verdict_and_report_say_what_was_trained(self, whole, heads, tmp_path, with_reports):
        for (made, results), what in ((heads, "heads on frozen features"), (whole, "fine-tuned")):
            assert f"arrays, flat, {what}" in str(results.verdict())
            assert main(["report", str(made.store.out), "--out", str(tmp_path / "page.html")]) == 0
            page = (tmp_path / "page.html").read_text()
            assert f"arrays, flat, {what}" in page
            assert (what == "fine-tuned") == ("heads on frozen features" not in page)

    def test_new_ood_data_are_judged_without_training(self, study_of_heads, tmp_path, monkeypatch):
        first = study_of_heads(out=tmp_path, features=True).run()

        def no_training(*_, **__):
            raise AssertionError

        monkeypatch.setattr(run_module, "train_heads", no_training)
        results = study_of_heads(out=tmp_path, ood=FAR).run()
        np.testing.assert_allclose(
            results.model("gamma=0.9").predict(FAR["far"], verbose=0),
            results.logits("gamma=0.9", split="far")[0],
            atol=1e-5,
        )
        np.testing.assert_array_equal(first.logits("gamma=0.9")[0], results.logits("gamma=0.9")[0])


def test_what_needs_its_own_batches_is_trained_on_features_too(study_of_heads, data_dir):
    methods = [
        Distillation(temperature=2.0),
        "disturb_label:rate=0.2",
        OutlierExposure("stripes", outlier_batch_size=8),
    ]
    results = study_of_heads(methods=methods, epochs=1, data_dir=data_dir).run()
    assert results.failures == {}
    for record in results.records:
        if record["method"] != "gamma=1":
            logits = results.model(record["method"]).predict(X, verbose=0)
            np.testing.assert_allclose(logits, results.logits(record["method"])[0], rtol=1e-4, atol=1e-5)
