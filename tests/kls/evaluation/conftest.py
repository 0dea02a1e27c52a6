import numpy as np
import pytest

import kls

from .helpers import FAR, HELD_OUT, NEAR, NOISE, TRAIN, Batches, X, dense


@pytest.fixture(scope="session")
def model():
    return dense()


@pytest.fixture(scope="session")
def predict(model):
    """The model's own predictions, each dataset once."""
    found = {}

    def run(data):
        if id(data) not in found:
            found[id(data)] = model.predict(data, batch_size=len(data), verbose=0)
        return found[id(data)]

    return run


@pytest.fixture(scope="session")
def labelled(predict):
    """Labels that the model gets right on about two of three samples."""

    def pair(data):
        wrong = np.random.default_rng(len(data)).random(len(data)) < 1 / 3
        return data, (predict(data).argmax(axis=1) + wrong) % 3

    return {name: pair(data) for name, data in (("train", TRAIN), ("test", X), ("held_out", HELD_OUT))}


@pytest.fixture(scope="session")
def data(labelled):
    return labelled["test"]


@pytest.fixture(scope="session")
def everything(model, labelled):
    """All scores on two groups of datasets, scaled and resampled, each dataset as batches that count."""
    counted = {
        "data": Batches(*labelled["test"]),
        "training_data": Batches(*labelled["train"]),
        "scaling_data": Batches(*labelled["held_out"]),
        "near": Batches(NEAR, np.full(len(NEAR), 99)),
        "far": Batches(FAR),
        "noise": Batches(NOISE),
    }
    evaluation = kls.evaluate(
        model,
        counted["data"],
        ood={"near": {"blobs": counted["near"]}, "far": {"wide": counted["far"], "noise": counted["noise"]}},
        scores="all",
        scaling="temperature",
        training_data=counted["training_data"],
        scaling_data=counted["scaling_data"],
        resamples=40,
    )
    return evaluation, counted
