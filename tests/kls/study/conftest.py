"""A trained trial from which others start, and finished trials of given logits."""

import shutil

import numpy as np
import pytest

import decathlon
import kls
from kls.models import registry
from kls.study.methods import CrossEntropy
from kls.study.outputs import measure
from kls.study.store import OOD, RunStore
from kls.study.trial import Trial

from . import pretrained
from .helpers import train


@pytest.fixture(scope="session")
def trained_parent(tmp_path_factory, data_dir, tiny_builder):
    """A parent, trained once for all tests, and the directory of its results."""
    dataset = decathlon.open("stripes", data_dir=data_dir)
    recipe = {"batch_size": 16, "flip": False, "optimizer": "nesterov", "learning_rate": 0.1}
    parent = Trial("stripes", "8", dataset.fingerprint, "tiny", CrossEntropy(), 6, "cosine", **recipe)
    store = RunStore(tmp_path_factory.mktemp("parent"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._BUILDERS, "tiny", tiny_builder)
        store.finish(parent, "study", train(parent, dataset, store))
    return parent, store.out


@pytest.fixture
def parent(trained_parent, store, tiny):
    """The parent, with results of its own for each test."""
    parent, out = trained_parent
    shutil.copytree(out, store.out)
    return parent


@pytest.fixture
def finish_as(store, write_results):
    """Returns a function that finishes a trial whose network has given logits, and returns the trial."""

    def finish(trial, logits, ood=None, **splits):
        """Finishes it with logits of the images of classes 0, 1, 2, 0, ..., of OOD datasets and of further splits."""
        ood = ood or {}
        result = write_results(store, trial, ood=list(ood))
        for name, values in {"test": logits, **splits}.items():
            store.write_outputs(trial, name, values, np.arange(len(values)) % 3)
        for name, values in ood.items():
            store.write_outputs(trial, name, values, np.full(len(values), OOD))
        accuracy = float(np.mean(logits.argmax(axis=1) == np.arange(len(logits)) % 3))
        (store.directory(trial) / "history.csv").write_text(f"epoch,val_accuracy\n1,{accuracy!r}\n")
        found = {**result, "evaluation": "test", "evaluation_images": len(logits), "accuracy_best": accuracy}
        store.finish(trial, "study", {**found, **measure(store, trial, found)})
        return trial

    return finish


@pytest.fixture
def finish_with(finish_as, make_trial):
    """Returns a function that finishes a trial whose network is right on so many of 60 images."""

    def finish(gamma, seed, right, ood="far"):
        rng = np.random.default_rng([seed, right])
        labels = np.arange(60) % 3
        guesses = np.where(np.arange(60) < right, labels, (labels + 1) % 3)
        logits = 3 * np.eye(3)[guesses] + rng.normal(0, 0.1, (60, 3))
        return finish_as(make_trial(gamma=gamma, seed=seed), logits, {ood: rng.normal(0, 1, (50, 3))})

    return finish


@pytest.fixture(scope="session")
def study_of_heads(tmp_path_factory):
    """Returns a function that makes a study of heads of two epochs, three steps each, in a directory of its own."""

    def make(model=pretrained.flat, data=pretrained.DATA, methods=pretrained.METHODS, **options):
        given = {"fine_tune": "head", "seeds": 1, "epochs": 2, "batch_size": 16, "learning_rate": 0.05, **options}
        return kls.Study(model, data, list(methods), **{"out": tmp_path_factory.mktemp("heads"), **given})

    return make
