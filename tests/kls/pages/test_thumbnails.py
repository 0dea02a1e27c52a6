import base64
import io

import numpy as np
import pytest
from PIL import Image

from kls.pages.thumbnails import as_images, confidently_wrong, least_in_distribution, pictures_of, png_uri

RNG = np.random.default_rng(0)


def decoded(uri):
    assert uri.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 6, 3)])
def test_small_images_are_kept_pixel_by_pixel(shape):
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decoded(png_uri(image)).reshape(shape), image)


def test_large_images_are_shrunk_and_keep_their_shape():
    assert decoded(png_uri(np.zeros((384, 192, 3), np.uint8))).shape == (96, 48, 3)


def test_the_same_image_has_the_same_bytes():
    image = RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert png_uri(image) == png_uri(image.copy())


def test_the_wrong_ones_stand_by_confidence_and_ties_by_place():
    labels, guesses = np.array([0, 1, 2, 0, 1]), np.array([0, 2, 1, 1, 0])
    confidence = np.array([0.99, 0.5, 0.8, 0.5, 0.9])
    assert confidently_wrong(labels, guesses, confidence).tolist() == [4, 2, 1, 3]
    assert confidently_wrong(labels, guesses, confidence, 2).tolist() == [4, 2]
    assert confidently_wrong(labels, labels, confidence).tolist() == []


def test_the_lowest_scores_come_first_whether_right_or_wrong():
    assert least_in_distribution(np.array([3.0, -np.inf, 1.0, 1.0]), 3).tolist() == [1, 2, 3]


def test_a_picture_is_that_of_its_sample_with_what_is_known_of_it():
    images = RNG.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    labels, guesses, names = np.array([0, 1, 1]), np.array([1, 1, 0]), ["a", "=b"]
    given = images, labels, guesses, np.array([0.25, 0.5, 0.75]), "confidence", names
    found = pictures_of("wrong", "caption", np.array([2, 0]), *given)
    first, second = found.pictures
    np.testing.assert_array_equal(decoded(first.uri), images[2, :, :, 0])
    np.testing.assert_array_equal(decoded(second.uri), images[0, :, :, 0])
    assert first.lines == ("label: =b", "prediction: a", "confidence: 0.750")
    assert first.is_small
    assert found.file.text == "index,label,prediction,confidence\n2,'=b,a,0.75\n0,a,'=b,0.25\n"


def test_images_may_be_grey_without_channels_or_floats():
    assert as_images(np.zeros((2, 8, 8), np.uint8), 2).shape == (2, 8, 8, 1)
    floats = np.array([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1)
    assert as_images(floats, 3).ravel().tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    "images",
    [
        *("abc", None, [1], np.zeros((2, 8)), np.zeros((3, 8, 8), np.uint8), np.zeros((2, 8, 8, 2), np.uint8)),
        *(np.zeros((2, 8, 8), np.int64), np.full((2, 8, 8), 1.5), np.full((2, 8, 8), np.nan), np.zeros((2, 0, 8))),
    ],
)
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ValueError, match=r"`images` must be .* Received: "):
        as_images(images, 2)
