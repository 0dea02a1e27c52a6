"""A trained trial from which others start."""

import shutil

import pytest

import decathlon
from kls.models import registry
from kls.study.methods import CrossEntropy
from kls.study.store import RunStore
from kls.study.trial import Trial

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
