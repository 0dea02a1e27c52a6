"""Decoding: what any image file or array becomes, against Pillow and by hand."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from decathlon.preparation import decode


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_files_come_back_exactly(encode, pixels, form):
    image = pixels(13, 17, 3)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(decode(encode(image, form, **options), 3, None), image)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_files_are_what_pillow_reads(encode, pixels, form):
    encoded = encode(pixels(13, 17, 3), form)
    np.testing.assert_array_equal(decode(encoded, 3, None), np.asarray(Image.open(io.BytesIO(encoded))))


@pytest.mark.parametrize(
    ("width", "height", "size", "resized", "left", "top"),
    [
        (90, 60, 30, (45, 30), 7, 0),
        (60, 90, 30, (30, 45), 0, 7),
        (72, 72, 64, (64, 64), 0, 0),
        (100, 72, 64, (89, 64), 12, 0),
        (72, 641, 64, (64, 570), 0, 253),
        (8, 16, 16, (16, 32), 0, 8),
        (64, 70, 64, (64, 70), 0, 3),
        (500, 3, 8, (1333, 8), 662, 0),
    ],
)
def test_shorter_side_is_resized_and_the_centre_cut_out(encode, pixels, width, height, size, resized, left, top):
    image = pixels(height, width, 3)
    whole = np.asarray(Image.fromarray(image).resize(resized, Image.Resampling.BILINEAR))
    expected = whole[top : top + size, left : left + size]
    np.testing.assert_array_equal(decode(encode(image), 3, size), expected)
    np.testing.assert_array_equal(decode(image, 3, size), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 64), st.sampled_from([1, 3]))
def test_any_shape_is_brought_to_the_size(height, width, size, channels):
    image = np.full((height, width, channels), 77, np.uint8)
    np.testing.assert_array_equal(decode(image, channels, size), np.full((size, size, channels), 77))


def test_palette_is_looked_up(encode):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    expected = [[[255, 0, 0], [0, 255, 0]], [[10, 20, 30], [0, 255, 0]]]
    assert decode(encode(image), 3, None).tolist() == expected


def test_alpha_is_dropped(encode, pixels):
    image = pixels(9, 9, 4)
    np.testing.assert_array_equal(decode(encode(image), 3, None), image[..., :3])


def test_grey_with_alpha_keeps_its_grey(encode, pixels):
    grey = pixels(9, 9)
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(pixels(9, 9, seed=1))])
    np.testing.assert_array_equal(decode(encode(image), 1, None)[..., 0], grey)


def test_sixteen_bits_keep_their_upper_eight(encode):
    image = np.array([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]], np.uint16)
    expected = np.array([[0, 0, 1], [0x12, 0x80, 0xFF]], np.uint8)
    np.testing.assert_array_equal(decode(encode(image), 1, None)[..., 0], expected)
    np.testing.assert_array_equal(decode(encode(image), 3, None), np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(encode, dtype):
    with pytest.raises(ValueError, match=r"pixels of mode [FI] have no known range"):
        decode(encode(np.ones((4, 4), dtype), "TIFF"), 3, None)


def test_of_several_frames_the_first_is_taken(pixels):
    first, second = (Image.fromarray(pixels(9, 9, 3, seed=seed)) for seed in (0, 1))
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(buffer.getvalue(), 3, None), np.asarray(first))


@pytest.mark.parametrize("form", ["GIF", "EPS", "PPM", "TGA", "ICO"])
def test_no_other_decoder_sees_a_file_whatever_it_is_called(tmp_path, encode, pixels, form, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was called"))
    encoded = encode(Image.fromarray(pixels(16, 16, 3)), form)
    (tmp_path / "image.png").write_bytes(encoded)
    for image in (encoded, tmp_path / "image.png"):
        with pytest.raises(UnidentifiedImageError):
            decode(image, 3, None)


def test_photographs_of_two_pictures_are_jpegs(pixels):
    left, right = (Image.fromarray(pixels(16, 16, 3, seed=seed)) for seed in (0, 1))
    buffer = io.BytesIO()
    left.save(buffer, "MPO", save_all=True, append_images=[right])
    assert decode(buffer.getvalue(), 3, None).shape == (16, 16, 3)


def test_one_bit_becomes_black_and_white(encode):
    bits = np.array([[True, False], [False, False]])
    assert decode(encode(bits), 1, None)[..., 0].tolist() == [[255, 0], [0, 0]]


def test_colours_become_grey_by_their_luminance():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    assert decode(image, 1, None)[0, :, 0].tolist() == [76, 150, 29, 9]


def test_grey_array_is_repeated_for_three_channels(pixels):
    grey = pixels(5, 6)
    for image in (grey, grey[..., None]):
        np.testing.assert_array_equal(decode(image, 3, None), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).swapaxes(0, 1)),
        (8, np.rot90),
    ],
)
def test_photographs_are_turned_upright(encode, pixels, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = pixels(12, 20, 3)
    upright = turn(decode(encode(image, "JPEG"), 3, None))
    np.testing.assert_array_equal(decode(encode(image, "JPEG", exif=exif), 3, None), upright)


def test_file_is_read_from_its_path(encode, pixels, tmp_path):
    image = pixels(5, 6, 3)
    (tmp_path / "image.png").write_bytes(encode(image))
    np.testing.assert_array_equal(decode(tmp_path / "image.png", 3, None), image)
