import numpy as np

import decathlon
from benchmarks.throughput.images import open_images


def test_digits_are_enlarged_once_to_colour(tmp_path):
    dataset = open_images(None, 16, tmp_path / "data", tmp_path / "out")
    images, labels = dataset.split("train")
    digits, digit_labels = decathlon.open("digits", data_dir=tmp_path / "data").split("train")
    assert images.shape == (1437, 16, 16, 3)
    assert np.array_equal(labels, digit_labels)
    assert np.array_equal(images[..., 0], images[..., 2])
    assert abs(images.mean() - digits.mean()) < 2
    written = (dataset.path / "meta.json").stat().st_mtime_ns
    again = open_images(None, 16, tmp_path / "data", tmp_path / "out")
    assert (again.path / "meta.json").stat().st_mtime_ns == written
    assert decathlon.open(again.name, again.size, again.path.parent).fingerprint == dataset.fingerprint


def test_a_prepared_data_set_is_taken_as_it_is(data_dir, tmp_path):
    assert open_images("stripes", None, data_dir, tmp_path).image_shape == (8, 8, 1)
