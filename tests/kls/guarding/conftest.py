import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import kls

from .helpers import classifier


@pytest.fixture(scope="session")
def digits():
    """Images as they are stored and their labels: those to train on, others to calibrate by, others still."""
    images, labels = load_digits(return_X_y=True)
    images = (images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return [(images[part], labels[part]) for part in (slice(0, 900), slice(900, 1300), slice(1300, None))]


@pytest.fixture(scope="session")
def noise():
    return np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), np.uint8)


@pytest.fixture(scope="session")
def model(digits):
    keras.utils.set_random_seed(0)
    model = classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*digits[0], epochs=10, verbose=0)
    return model


@pytest.fixture(scope="session")
def guarded(model, digits, noise):
    """Returns a function that gives the guard of a score and a scaling, each made once."""
    made = {}

    def give(score="energy", scaling="temperature"):
        if (score, scaling) not in made:
            made[score, scaling] = kls.guard(
                model, digits[1], scaling, score, training_data=digits[0], ood={"noise": noise}
            )
        return made[score, scaling]

    return give
