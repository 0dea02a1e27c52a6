"""Finished trials of given logits, of the 41 images of `stripes`, and the `Group` that they are."""

import pytest

from kls.pages import curves
from kls.study.methods import CrossEntropy, LabelSmoothing
from kls.study.report import figures, model_card
from kls.study.report.group import Group

from .helpers import logits_of, outliers_of


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
