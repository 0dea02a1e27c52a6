"""How datasets and batches show themselves."""

import numpy as np
import pytest

import decathlon


@pytest.fixture
def images(pixels):
    return pixels(100, 8, 8, 3)


@pytest.fixture
def batches(images):
    return decathlon.Batches(images, np.arange(100) % 2, 2, 16, training=True, mixing=decathlon.MixUp(0.2), seed=3)


def test_data_set_is_shown_in_one_short_line(make_source, images, data_dir):
    dataset = decathlon.prepare("mine", make_source({"train": images}, evaluation="train"), data_dir=data_dir)
    assert repr(dataset) == (
        "Dataset(name='mine', size='8', classes=2, counts={'train': 100}, evaluation='train', source='made for a test')"
    )
    assert "<tr><th>name</th><td>mine</td></tr>" in dataset._repr_html_()


def test_batches_are_shown_without_their_arrays(images, batches):
    assert repr(batches) == (
        "Batches(batches=6, batch_size=16, images=(100, 8, 8, 3), classes=2, training=True, augmentation=None, "
        "mixing='mixup:0.2', seed=3, epoch=0)"
    )
    plain = decathlon.Batches(images, np.arange(100) % 2, 2, 16, training=True)
    shown = repr(decathlon.WithOutliers(plain, images, 4))
    assert shown == f"WithOutliers(batches={plain!r}, images=(100, 8, 8, 3), batch_size=4)"
    noise = decathlon.Noise(sides=(2, 3))
    assert repr(decathlon.Denoising(plain, noise)) == f"Denoising(batches={plain!r}, noise={noise!r})"


def test_table_escapes_what_it_shows(data_dir):
    meta = {"source": "<script>", "image_shape": [8, 8, 3], "class_names": ["a"], "counts": {}, "evaluation": "train"}
    html = decathlon.Dataset("mine", data_dir, meta)._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
