"""Trials of one dataset without a study around them."""

import csv
from dataclasses import replace

import numpy as np

from kls.study import networks
from kls.study import train as train_module
from kls.study.methods import Distillation, OutlierExposure
from kls.study.training import Training


def training_of(trial, dataset, store=None, parents=(), others=()):
    return Training(trial, dataset, store, {}, tuple(parents), tuple(others))


def train(trial, dataset, store, parents=(), others=(), **options):
    return train_module.train(training_of(trial, dataset, store, parents, others), **options)


def evaluate_again(trial, record, dataset, store, wanted):
    return train_module.evaluate_again(training_of(trial, dataset, store), record, wanted)


def compiled_model(trial, dataset, steps, store=None, parents=()):
    return train_module.compiled_model(training_of(trial, dataset, store, parents), steps)


def trained_network(trial, dataset, store):
    return networks.trained_network(trial, dataset, store)[0]


def build_network(trial, dataset):
    return networks.build_network(trial, dataset)[0]


def arrays(store, trial):
    with np.load(store.directory(trial) / "checkpoint" / "state.npz") as file:
        return {key: file[key] for key in file if key.startswith("variable/")}


def history(store, trial):
    with open(store.directory(trial) / "history.csv") as file:
        return list(csv.DictReader(file))


def exposed(parent, weight=0.5, **changes):
    """Returns a trial that fine-tunes its parent with outliers."""
    method = OutlierExposure("stripes", weight, outlier_batch_size=24)
    return replace(parent, **{"method": method, "parents": (parent.id,), "epochs": 2, **changes})


def student(parent, **options):
    """Returns a trial that its parent teaches."""
    return replace(parent, method=Distillation(**options), parents=(parent.id,))
