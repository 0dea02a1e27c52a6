from dataclasses import replace

import keras
import numpy as np
import pytest

import decathlon
import kls
from kls.calibration.samples import softmax
from kls.models import registry
from kls.study.methods import CrossEntropy, Denoising
from kls.study.outputs import Wanted
from kls.study.progress import Watch
from kls.study.store import RunStore
from kls.study.trial import Trial

from ..helpers import compiled_model, evaluate_again, history, train, trained_network, training_of


@pytest.fixture(scope="module")
def denoising(tmp_path_factory, data_dir, tiny_denoising_classifier):
    """A trial, its results and its record."""
    dataset = decathlon.open("stripes", data_dir=data_dir)
    recipe = {"batch_size": 16, "shift": 0.0, "flip": False, "normalisation": "scale", "learning_rate": 3e-3}
    method, name = Denoising(0.1, (2, 3), focal=1.0, std_weight=5.0), "denoising_classifier"
    trial = Trial("stripes", "8", dataset.fingerprint, name, method, 2, "cosine", **recipe)
    store = RunStore(tmp_path_factory.mktemp("denoising"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, name, tiny_denoising_classifier)
        store.finish(trial, "study", train(trial, dataset, store))
        return trial, store, store.record(trial)


@pytest.fixture
def model(denoising, stripes, tiny_denoising_classifier, monkeypatch):
    """The trained network."""
    monkeypatch.setitem(registry._BUILDERS, "denoising_classifier", tiny_denoising_classifier)
    return trained_network(denoising[0], stripes, denoising[1])


@pytest.fixture
def predicted(model, stripes):
    """What the outputs make of the evaluation images."""
    images = stripes.split("test")[0].astype("float32")
    return {name: keras.ops.convert_to_numpy(output) for name, output in model(images, training=False).items()}


def test_it_learns_both(denoising):
    trial, store, _ = denoising
    first, last = history(store, trial)
    for name in ("class_loss", "image_loss"):
        assert float(last[name]) < float(first[name])


def test_logits_are_those_of_the_class_output_without_noise(denoising, stripes, predicted):
    trial, store, record = denoising
    logits, labels = store.logits(trial, "test")
    np.testing.assert_allclose(logits, predicted["class"], atol=1e-5)
    np.testing.assert_array_equal(labels, stripes.split("test")[1])
    assert record["accuracy_last"] == np.mean(logits.argmax(axis=1) == labels)
    accuracies = [float(row["val_accuracy"]) for row in history(store, trial)]
    assert accuracies[-1] == pytest.approx(record["accuracy_last"])
    assert max(accuracies) == pytest.approx(record["accuracy_best"])


def test_the_evaluation_loss_is_equations_2_to_4_without_noise(denoising, stripes, predicted):
    trial, store, _ = denoising
    images, labels = stripes.split("test")
    p = softmax(predicted["class"].astype(np.float64))
    true = labels[:, None] == np.arange(3)
    focal = -np.log(p[true]) - np.where(true, 0, p * np.log(1 - p)).sum(axis=1)
    loss = focal + 5 * np.where(p.argmax(axis=1) == labels, 0, p.std(axis=1))
    error = np.square(predicted["image"] - images / 255).mean()
    assert 0 < np.mean(p.argmax(axis=1) == labels) < 1
    assert float(history(store, trial)[-1]["val_loss"]) == pytest.approx(loss.mean() + error, rel=1e-4)


def test_the_class_output_is_evaluated_on_other_data_later(denoising, model, stripes, prepare_random, tmp_path):
    trial, store, record = denoising
    waves = prepare_random("waves", tmp_path, test=9)
    again = evaluate_again(trial, record, stripes, store, Wanted(ood={"waves": waves}, features=True))
    found = store.outputs(trial, "waves")
    logits = model(waves.split("test")[0].astype("float32"), training=False)["class"]
    np.testing.assert_allclose(found["logits"], logits, atol=1e-5)
    kernel, bias = model.get_layer("classifier").get_weights()
    np.testing.assert_allclose(found["features"] @ kernel + bias, logits, atol=2e-2)
    assert again["ood"] == {"waves": waves.fingerprint}
    assert again["accuracy_last"] == record["accuracy_last"]
    assert 0 <= again["auroc_waves"] <= 1


def test_images_lie_under_a_square_and_the_targets_are_clean(denoising, stripes):
    methods = replace(denoising[0].method, deviation=0.0), CrossEntropy()
    training, plain = (method.batches(training_of(replace(denoising[0], method=method), stripes)) for method in methods)
    for index in range(2):
        noised, targets = training[index]
        images, labels = plain[index]
        np.testing.assert_allclose(targets["image"], images / np.float32(255), atol=1e-7)
        np.testing.assert_array_equal(targets["class"], labels)
        for changed in (noised != images)[..., 0]:
            height, width = changed.any(axis=1).sum(), changed.any(axis=0).sum()
            assert height == width
            assert height in (2, 3)
            assert changed.sum() == height * width


def test_the_classifier_alone_starts_as_it_does_in_the_joint_model(denoising, stripes):
    trial, _, _ = denoising
    alone, whole = (compiled_model(of, stripes, 6) for of in (replace(trial, method=CrossEntropy()), trial))
    assert alone.output_shape == (None, 3)
    assert {name: output.shape[1:] for name, output in whole.output.items()} == {"class": (3,), "image": (8, 8, 1)}
    assert alone.count_params() < whole.count_params()
    beside = kls.models.classifier_of(whole).get_weights()
    for found, expected in zip(alone.get_weights(), beside, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_reports_get_the_accuracy_under_its_plain_name(denoising, make_trial):
    epochs, batches = [], []

    class Report:
        epoch_ends = staticmethod(lambda trial, epoch, logs: epochs.append(logs))
        batch_ends = staticmethod(lambda trial, step, logs: batches.append(logs))

    of_class = {"class_accuracy": 0.5, "class_loss": 0.75, "image_loss": 0.25, "loss": 1.0}
    for trial, logs in ((denoising[0], of_class), (make_trial(), {"accuracy": 0.5, "loss": 1.0})):
        watch = Watch(Report, trial, steps=6, names=("loss", trial.method.accuracy))
        watch.on_train_batch_end(0, logs)
        watch.on_epoch_end(0, {**logs, **{f"val_{name}": value / 2 for name, value in logs.items()}})
    assert batches == [{"loss": 1.0, "accuracy": 0.5}] * 2
    assert epochs == [{"loss": 1.0, "accuracy": 0.5, "val_loss": 0.5, "val_accuracy": 0.25}] * 2
