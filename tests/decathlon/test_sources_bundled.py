"""The sets that need no download: what they are made of, and that they are the same everywhere."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from decathlon.catalog import CATALOG
from decathlon.sources import SourceError
from decathlon.sources.bundled import COPIES, GLYPHS, TRAIN_FONTS, VALIDATION_FONTS, open_bundled
from decathlon.store import open_dataset

NAMES = [name for name, entry in CATALOG.items() if entry.source == "bundled"]


@pytest.fixture(scope="module")
def prepared_dirs(tmp_path_factory):
    """Two data directories in which each set was made for itself."""
    return tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_the_same_in_every_data_directory(prepared_dirs, name):
    one, two = (open_dataset(name, data_dir=prepared_dir) for prepared_dir in prepared_dirs)
    assert one.meta == two.meta
    assert one.fingerprint == two.fingerprint
    assert one.check() == two.check() == []


@pytest.mark.parametrize("name", NAMES)
def test_set_has_the_classes_counts_and_side_of_the_catalogue(prepared_dirs, name):
    dataset, entry = open_dataset(name, data_dir=prepared_dirs[0]), CATALOG[name]
    assert (dataset.classes, dataset.counts, dataset.size) == (entry.classes, entry.counts, str(entry.size))
    for split in dataset.counts:
        counts = np.bincount(dataset.split(split)[1])
        assert len(counts) == entry.classes
        assert counts.max() - counts.min() <= (10 if name == "digits" else 0)


@pytest.mark.parametrize("name", NAMES)
def test_no_image_is_in_both_splits(prepared_dirs, name):
    dataset = open_dataset(name, data_dir=prepared_dirs[0])
    train, validation = ({image.tobytes() for image in dataset.split(split)[0]} for split in dataset.counts)
    assert not train & validation


def test_digits_are_scikit_learns_one_in_five_for_validation(prepared_dirs):
    dataset = open_dataset("digits", data_dir=prepared_dirs[0])
    values, labels = load_digits(return_X_y=True)
    scaled = np.floor(values * 255 / 16 + 0.5).astype(np.uint8).reshape(-1, 8, 8, 1)
    expected = sorted(zip((image.tobytes() for image in scaled), labels, strict=True))
    found = []
    for split in dataset.counts:
        images, split_labels = dataset.split(split)
        found += zip((image.tobytes() for image in images), split_labels, strict=True)
        share = {"train": 0.8, "validation": 0.2}[split]
        assert np.abs(np.bincount(split_labels) - share * np.bincount(labels)).max() < 1
    assert sorted(found) == expected


def test_validation_glyphs_are_of_other_fonts_and_none_is_empty(prepared_dirs):
    assert not set(TRAIN_FONTS) & set(VALIDATION_FONTS)
    dataset = open_dataset("glyphs", data_dir=prepared_dirs[0])
    assert dataset.class_names == list(GLYPHS)
    for split, fonts in (("train", TRAIN_FONTS), ("validation", VALIDATION_FONTS)):
        images, labels = dataset.split(split)
        assert labels.tolist() == [label for _ in fonts for label in range(62) for _ in range(COPIES)]
        assert (images.max(axis=(1, 2, 3)) > 100).all()
        assert np.median(images) == 0


def test_photos_train_on_the_left_and_validate_on_the_right(prepared_dirs):
    dataset = open_dataset("photos", data_dir=prepared_dirs[0])
    photos = load_sample_images().images
    assert dataset.class_names == ["china", "flower"]
    for split in dataset.counts:
        images, labels = dataset.split(split)
        for i in (0, 7, len(images) // 2, len(images) - 1):
            columns = find_columns(photos[labels[i]], images[i])
            boundary = photos[labels[i]].shape[1] * 2 // 3
            assert columns
            assert all(x + 32 <= boundary if split == "train" else x >= boundary for x in columns)


def find_columns(photo, patch):
    """Returns the left edges of all places of a photo that look like a patch."""
    side = len(patch)
    places = np.argwhere((photo == patch[0, 0]).all(axis=2))
    return [x for y, x in places if np.array_equal(photo[y : y + side, x : x + side], patch)]


def test_noise_is_uniform_and_gaussian(prepared_dirs):
    images, labels = open_dataset("noise", data_dir=prepared_dirs[0]).split("train")
    uniform, gaussian = images[labels == 0], images[labels == 1]
    assert abs(uniform.std() - 256 / np.sqrt(12)) < 0.2
    np.testing.assert_allclose(np.bincount(uniform.ravel()) / uniform.size, 1 / 256, rtol=0.05)
    assert abs(np.quantile(gaussian, 0.8413) - np.quantile(gaussian, 0.1587) - 2 * 64) <= 1
    assert abs(np.median(gaussian) - 127) <= 1


def test_size_is_the_side_at_which_sets_are_made():
    for name in ("photos", "noise"):
        assert next(open_bundled(name, 11).read("train")).image.shape == (11, 11, 3)


def test_patches_larger_than_a_photograph_are_refused():
    assert open_bundled("photos", 213).counts == {"train": 2000, "validation": 1000}
    with pytest.raises(SourceError, match=r"photos: patches are at most 214 pixels wide. Received: size=215."):
        open_bundled("photos", 215)
