"""What the tests of `decathlon` share: no network, encoded images, small sources."""

import io
import socket

import numpy as np
import pytest
from PIL import Image

from decathlon.augmentation import Augmentation
from decathlon.batches import Batches
from decathlon.sources import Example, Source


@pytest.fixture(autouse=True)
def connections(monkeypatch):
    """Cuts the network off and returns the list of what was tried."""
    attempts = []

    def refuse(address, *_args, **_options):
        attempts.append(address)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: refuse(address))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    return attempts


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture(scope="session")
def pixels():
    """Returns a function that makes seeded random uint8 arrays."""

    def make(*shape, seed=0):
        return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)

    return make


@pytest.fixture(scope="session")
def encode():
    """Returns a function that encodes an array, or a Pillow image, to bytes."""

    def encode_image(image, form="PNG", **options):
        buffer = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
        return buffer.getvalue()

    return encode_image


@pytest.fixture(scope="session")
def make_source():
    """Returns a function that makes a source of `{split: images}`; labels count 0, 1, 0, 1, ..."""

    def make(splits, channels=3, evaluation="validation", expected=None):
        def read(split):
            for i, image in enumerate(splits[split]):
                yield Example(f"{split}[{i}]", image, i % 2)

        counts = expected or {split: len(images) for split, images in splits.items()}
        return Source("made for a test", ["even", "odd"], channels, counts, evaluation, read)

    return make


@pytest.fixture
def small(make_source, pixels):
    """A source of five training and three validation images of 8x8."""
    return make_source({"train": pixels(5, 8, 8, 3), "validation": pixels(3, 8, 8, 3, seed=1)})


@pytest.fixture(scope="module")
def images():
    """Random images without a zero, so that a zero can only be fill."""
    return np.random.default_rng(0).integers(1, 256, size=(60, 20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.arange(60) % 7


@pytest.fixture(scope="module")
def training(images, labels):
    """Returns a function that makes training batches of eight, augmented by default."""

    def make(**options):
        options = {"batch_size": 8, "training": True, "augmentation": Augmentation(), "seed": 3, **options}
        return Batches(images, labels, 7, **options)

    return make


@pytest.fixture(scope="module")
def keras_cv():
    return pytest.importorskip("keras_cv")
