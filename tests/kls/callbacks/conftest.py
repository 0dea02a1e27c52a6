import pytest

from .helpers import compiled


@pytest.fixture(scope="module")
def compiled_once():
    network = compiled()
    return network, network.get_weights()


@pytest.fixture
def small(compiled_once):
    """One network for all, with the same weights for each test; what `fit` runs is compiled once."""
    network, weights = compiled_once
    network.set_weights(weights)
    yield network
    vars(network).pop("evaluate", None)
