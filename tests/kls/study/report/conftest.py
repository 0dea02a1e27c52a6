"""Finished trials of given logits, of the 41 images of `stripes`, and the `Group` that they are."""

import numpy as np
import pytest

from kls.pages import curves
from kls.study.methods import CrossEntropy, LabelSmoothing
from kls.study.report import figures, model_card
from kls.study.report.group import Group

COUNT = 41
LABELS = np.arange(COUNT) % 3


def logits_of(seed, signal=2.0, scale=1.0):
    """Returns logits of which the true class is ahead in most images."""
    return scale * (signal * np.eye(3)[LABELS] + np.random.default_rng([7, seed]).normal(0, 1.2, (COUNT, 3)))


def outliers_of(seed, count=30, scale=1.0):
    return scale * np.random.default_rng([8, seed]).normal(0, 1, (count, 3))


@pytest.fixture
def finish_methods(store, finish_as, make_trial):
    """Returns a function that finishes seeds of methods, `{method: function of the seed to its logits}`."""

    def finish(methods=None, seeds=2, ood=("far", "near"), **changes):
        methods = methods or {CrossEntropy(): logits_of, LabelSmoothing(0.9): lambda seed: logits_of(seed, 1.8, 0.5)}
        for method, outputs in methods.items():
            for seed in range(seeds):
                of_ood = {name: outliers_of(seed + 10 * place) for place, name in enumerate(ood)}
                finish_as(make_trial(method=method, seed=seed, **changes), outputs(seed), of_ood)
        return store.records()

    return finish


@pytest.fixture
def group(finish_methods, store, stripes):
    """Two methods of two seeds, and the images."""
    return Group(finish_methods(), store, "", stripes)


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves figures out, and resamples little: what takes the time of a page."""
    for module in (curves, figures):
        monkeypatch.setattr(module, "svg_of", lambda name, draw: f'<svg id="{name}"></svg>')
    monkeypatch.setattr(model_card, "RESAMPLES", 20)
