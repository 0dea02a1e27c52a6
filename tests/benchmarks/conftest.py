import numpy as np
import pytest

import decathlon
from benchmarks.runner.store import RunStore
from benchmarks.runner.trial import Trial
from decathlon.sources.npz import open_npz


def write_stripes(path, train=96, test=41):
    """Writes a data set of three classes that a small network learns at once: where a stripe lies."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, size=(count, 8, 8, 1), dtype=np.uint8)
        images[np.arange(count), 1 + 2 * labels] += 190
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data room with one data set, `stripes`: 96 training and 41 test images, 41 = 2 * 16 + 9 and 5 * 8 + 1."""
    directory = tmp_path_factory.mktemp("data")
    decathlon.prepare("stripes", open_npz(write_stripes(directory / "stripes.npz")), data_dir=directory)
    return directory


@pytest.fixture
def stripes(data_dir):
    return decathlon.open("stripes", data_dir=data_dir)


@pytest.fixture
def make_trial(stripes):
    def make(**changes):
        recipe = {
            "dataset": "stripes",
            "image_size": "8",
            "data": stripes.fingerprint,
            "model": "resnet8v1",
            "gamma": 0.9,
            "schedule": ((1, 0.1),),
            "epochs": 2,
            "batch_size": 16,
            "flip": False,
        }
        return Trial(**{**recipe, **changes})

    return make


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "out")
