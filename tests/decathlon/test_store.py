"""Preparing and opening: what is stored, what is refused, and that nothing half-made stays behind."""

import errno
import hashlib
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

import decathlon
from decathlon import store
from decathlon.sources import Example, Source, SourceError
from decathlon.sources.npz import open_npz
from decathlon.store import DataError, NotPreparedError, conform, decode, open_dataset, open_like, prepare

SLOW_PREPARE = """
import sys, time
import numpy as np
from decathlon import prepare
from decathlon.sources import Example, Source

def read(split):
    for i in range(200):
        yield Example(str(i), np.full((64, 64, 3), i, np.uint8), i % 2)
    print("writing", flush=True)
    time.sleep(600)

prepare("half", Source("slow", ["a", "b"], 3, {"train": 400}, "train", read), data_dir=sys.argv[1])
"""


def listing(directory):
    return sorted(os.listdir(directory)) if directory.exists() else []


@contextmanager
def slow_preparation(data_dir):
    """Runs a process that stays in the middle of preparing `half`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_PREPARE, str(data_dir)],
        stdout=subprocess.PIPE,
        cwd=Path(decathlon.__file__).parents[1],
    )
    try:
        assert process.stdout.readline() == b"writing\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def small(make_source, pixels):
    """A source of five training and three validation images of 8x8."""
    return make_source({"train": pixels(5, 8, 8, 3), "validation": pixels(3, 8, 8, 3, seed=1)})


@pytest.fixture(scope="module")
def jpeg(encode, pixels):
    return encode(pixels(60, 90, 3), "JPEG")


class TestRoundTrip:
    @settings(deadline=None, max_examples=25)
    @given(
        count=st.integers(1, 12),
        height=st.integers(1, 20),
        width=st.integers(1, 20),
        channels=st.sampled_from([1, 3]),
        seed=st.integers(0, 2**32),
    )
    def test_arrays_come_back_bit_by_bit(self, make_source, pixels, count, height, width, channels, seed):
        train = pixels(count, height, width, channels, seed=seed)
        validation = pixels(count + 1, height, width, channels, seed=seed + 1)
        source = make_source({"train": train, "validation": validation}, channels)
        with tempfile.TemporaryDirectory() as data_dir:
            prepare("mine", source, data_dir=data_dir)
            dataset = open_dataset("mine", data_dir=data_dir)
            for split, expected in (("train", train), ("validation", validation)):
                images, labels = dataset.split(split)
                assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
                np.testing.assert_array_equal(images, expected)
                np.testing.assert_array_equal(labels, np.arange(len(expected)) % 2)
            assert dataset.check() == []
            assert dataset.image_shape == (height, width, channels)

    def test_dataset_describes_itself(self, small, data_dir):
        dataset = prepare("mine", small, data_dir=data_dir)
        assert dataset == open_dataset("mine", 8, data_dir)
        assert dataset.name == "mine"
        assert dataset.path == data_dir / "mine-8"
        assert dataset.class_names == ["even", "odd"]
        assert dataset.classes == 2
        assert dataset.counts == {"train": 5, "validation": 3}
        assert dataset.evaluation == "validation"
        assert dataset.size == "8"
        assert dataset.meta["source"] == "made for a test"
        assert dataset.meta["skipped"] == []

    def test_arrays_are_memory_mapped_and_cannot_be_changed(self, small, data_dir):
        images, labels = prepare("mine", small, data_dir=data_dir).split("train")
        assert isinstance(images, np.memmap)
        for array in (images, labels):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0

    def test_order_is_kept_when_early_images_take_longest_to_decode(self, make_source, encode, data_dir):
        shades = [np.full((300 if i % 10 == 0 else 8, 300 if i % 10 == 0 else 8), i, np.uint8) for i in range(200)]
        source = make_source({"train": [encode(shade) for shade in shades]}, channels=1, evaluation="train")
        images, labels = prepare("mine", source, 8, data_dir).split("train")
        np.testing.assert_array_equal(images, np.broadcast_to(np.arange(200)[:, None, None, None], (200, 8, 8, 1)))
        np.testing.assert_array_equal(labels, np.arange(200) % 2)

    def test_only_whole_files_and_the_record_are_stored(self, small, data_dir):
        prepare("mine", small, data_dir=data_dir)
        arrays = [f"{split}.{part}.npy" for split in ("train", "validation") for part in ("images", "labels")]
        assert listing(data_dir / "mine-8") == sorted(["mean.npy", "meta.json", *arrays])

    def test_sides_that_differ_are_in_the_name(self, make_source, pixels, data_dir):
        dataset = prepare("mine", make_source({"train": pixels(4, 20, 30, 1)}, 1), data_dir=data_dir)
        assert dataset.path.name == "mine-20x30"
        assert dataset.size == "20x30"
        assert open_dataset("mine", data_dir=data_dir) == open_dataset("mine", "20x30", data_dir) == dataset

    def test_progress_is_told_to_the_end_of_every_split(self, make_source, pixels, data_dir):
        told = []
        source = make_source({"train": pixels(600, 2, 2, 1), "validation": pixels(3, 2, 2, 1)}, 1)
        prepare("mine", source, data_dir=data_dir, progress=lambda *news: told.append(news))
        assert told == [("train", 256, 600), ("train", 512, 600), ("train", 600, 600), ("validation", 3, 3)]


class TestRecord:
    def test_mean_equals_numpys_also_over_several_blocks(self, make_source, pixels, data_dir):
        images = pixels(4100, 3, 2, 3)
        dataset = prepare("mine", make_source({"train": images, "validation": images[:9]}), data_dir=data_dir)
        assert dataset.mean.dtype == np.float32
        np.testing.assert_allclose(dataset.mean, (images / 255).mean(axis=0), rtol=1e-6)

    def test_hashes_are_those_of_the_files(self, small, data_dir):
        dataset = prepare("mine", small, data_dir=data_dir)
        expected = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in dataset.path.glob("*.npy")}
        assert json.loads((dataset.path / "meta.json").read_text())["sha256"] == expected
        assert len(expected) == 5

    def test_fingerprint_is_of_the_contents_alone(self, make_source, pixels, data_dir):
        images = pixels(5, 8, 8, 3)
        changed = images.copy()
        changed[4, 7, 7, 2] ^= 1
        prints = [
            prepare(name, make_source({"train": array}), data_dir=data_dir).fingerprint
            for name, array in (("mine", images), ("copy", images), ("changed", changed))
        ]
        assert prints[0] == prints[1] != prints[2]

    @pytest.mark.parametrize(
        "name", ["train.images.npy", "train.labels.npy", "validation.images.npy", "validation.labels.npy", "mean.npy"]
    )
    def test_check_names_a_file_with_one_changed_bit(self, small, data_dir, name):
        dataset = prepare("mine", small, data_dir=data_dir)
        contents = bytearray((dataset.path / name).read_bytes())
        contents[-1] ^= 1
        (dataset.path / name).write_bytes(contents)
        assert dataset.check() == [name]

    def test_check_names_missing_and_truncated_files(self, small, data_dir):
        dataset = prepare("mine", small, data_dir=data_dir)
        (dataset.path / "mean.npy").unlink()
        os.truncate(dataset.path / "train.images.npy", 200)
        assert dataset.check() == ["mean.npy", "train.images.npy"]

    @pytest.mark.parametrize("contents", ["", "{", "[]", "{}", '{"name": "mine", "image_shape": "8/../x"}', "\xff"])
    def test_damaged_record_is_named(self, small, data_dir, contents):
        path = prepare("mine", small, data_dir=data_dir).path
        (path / "meta.json").write_text(contents)
        with pytest.raises(DataError, match=r"meta.json is damaged: delete .*mine-8 and prepare it anew"):
            open_dataset("mine", data_dir=data_dir)

    def test_check_names_a_changed_or_missing_record(self, small, data_dir):
        dataset = prepare("mine", small, data_dir=data_dir)
        record = dataset.path / "meta.json"
        record.write_text(record.read_text().replace('"even"', '"evil"'))
        assert dataset.check() == ["meta.json"]
        record.unlink()
        (dataset.path / "mean.npy").unlink()
        (dataset.path / "train.labels.npy").unlink()
        assert dataset.check() == ["mean.npy", "meta.json", "train.labels.npy"]


def rewrite(dataset, **changes):
    """Changes fields of a record, and its hash with them."""
    meta = {key: value for key, value in (dataset.meta | changes).items() if key != "hash"}
    meta["hash"] = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    (dataset.path / "meta.json").write_text(json.dumps(meta))


class TestOpeningChecks:
    def test_swapped_class_names_are_found(self, small, data_dir):
        record = prepare("mine", small, data_dir=data_dir).path / "meta.json"
        meta = json.loads(record.read_text())
        record.write_text(json.dumps(meta | {"class_names": ["odd", "even"]}))
        with pytest.raises(
            DataError, match=r"meta\.json: it has been changed .*\. Delete .*mine-8 and prepare it anew"
        ):
            open_dataset("mine", data_dir=data_dir)

    def test_a_record_without_hash_is_of_an_earlier_version(self, small, data_dir):
        record = prepare("mine", small, data_dir=data_dir).path / "meta.json"
        meta = json.loads(record.read_text())
        del meta["hash"], meta["left_out"]
        record.write_text(json.dumps(meta))
        with pytest.raises(DataError, match=r"prepared by an earlier version, .*Delete .*mine-8 and prepare it anew"):
            open_dataset("mine", data_dir=data_dir)

    @pytest.mark.parametrize(
        ("name", "array", "found"),
        [
            ("train.images.npy", np.zeros((5, 8, 8, 3), np.float32), r"float32 of shape \(5, 8, 8, 3\)"),
            ("train.images.npy", np.zeros((5, 8, 8, 3), np.int8), r"int8 of shape"),
            ("train.images.npy", np.zeros((4, 8, 8, 3), np.uint8), r"uint8 of shape \(4, 8, 8, 3\)"),
            ("train.images.npy", np.zeros((5, 8, 24), np.uint8), r"uint8 of shape \(5, 8, 24\)"),
            ("train.images.npy", np.zeros((5, 8, 8, 3), np.uint8, order="F"), "columns first"),
            ("train.labels.npy", np.zeros(5, np.int32), r"int32 of shape \(5,\)"),
            ("train.labels.npy", np.zeros(5), r"float64 of shape \(5,\)"),
            ("train.labels.npy", np.zeros(5, ">i8"), r">i8 of shape \(5,\)"),
            ("train.labels.npy", np.zeros(5, object), "Array can't be memory-mapped"),
            ("validation.labels.npy", np.zeros(4, np.int64), r"int64 of shape \(4,\)"),
            ("mean.npy", np.zeros((8, 8, 3)), r"float64 of shape \(8, 8, 3\)"),
            ("mean.npy", np.zeros((8, 8, 1), np.float32), r"float32 of shape \(8, 8, 1\)"),
        ],
    )
    def test_an_array_of_another_type_or_shape_is_found(self, small, data_dir, name, array, found):
        path = prepare("mine", small, data_dir=data_dir).path
        np.save(path / name, array)
        with pytest.raises(DataError, match=rf"{name}: it must hold .* Found: .*{found}.* Delete .*mine-8 and prepare"):
            open_dataset("mine", data_dir=data_dir)

    def test_an_array_that_is_missing_or_of_another_length_is_found(self, small, data_dir):
        path = prepare("mine", small, data_dir=data_dir).path
        with open(path / "train.labels.npy", "ab") as file:
            file.write(b"more")
        with pytest.raises(DataError, match=r"train\.labels\.npy: it must have 168 bytes\. Found: 172"):
            open_dataset("mine", data_dir=data_dir)
        os.truncate(path / "train.labels.npy", 167)
        with pytest.raises(DataError, match=r"train\.labels\.npy: it must hold int64 of shape \(5,\)"):
            open_dataset("mine", data_dir=data_dir)
        (path / "train.labels.npy").unlink()
        with pytest.raises(DataError, match=r"train\.labels\.npy: it must hold .* Found: .*No such file"):
            open_dataset("mine", data_dir=data_dir)

    @pytest.mark.parametrize("byte", [0, 6, 8, 10, 12, 20, 30, 40, 50, 60, 70, 80])
    def test_any_damaged_header_is_a_data_error(self, small, data_dir, byte):
        path = prepare("mine", small, data_dir=data_dir).path / "train.images.npy"
        contents = bytearray(path.read_bytes())
        contents[byte] ^= 0b10000001
        path.write_bytes(contents)
        with pytest.raises(DataError, match=r"train\.images\.npy"):
            open_dataset("mine", data_dir=data_dir)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"name": "yours"}, "it must be that of mine-8. Found: that of 'yours-8'"),
            ({"image_shape": [9, 9, 3]}, "it must be that of mine-8. Found: that of 'mine-9'"),
            ({"image_shape": ["8/../../x", 8, 3]}, "it must be that of mine-8. Found"),
            ({"image_shape": [8]}, "is damaged"),
            ({"counts": {"train": 4, "validation": 3}}, r"it must hold uint8 of shape \(4, 8, 8, 3\)"),
            ({"counts": {"train": 5}}, "it must have hashes of"),
            ({"counts": {"train": 5, "../x": 3}}, "it must have hashes of"),
            ({"class_names": [0, 1]}, "is damaged"),
            ({"class_names": ["even", "even"]}, "its class names must differ. Found twice: 'even'"),
        ],
    )
    def test_a_record_that_does_not_fit_is_found_whatever_its_hash(self, small, data_dir, changes, message):
        rewrite(prepare("mine", small, data_dir=data_dir), **changes)
        with pytest.raises(DataError, match=message):
            open_dataset("mine", data_dir=data_dir)

    def test_no_array_is_read(self, small, data_dir):
        path = prepare("mine", small, data_dir=data_dir).path / "train.images.npy"
        contents = bytearray(path.read_bytes())
        contents[-1] ^= 1
        path.write_bytes(contents)
        assert open_dataset("mine", data_dir=data_dir).check() == ["train.images.npy"]


class TestDecode:
    @pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
    def test_lossless_files_come_back_exactly(self, encode, pixels, form):
        image = pixels(13, 17, 3)
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        np.testing.assert_array_equal(decode(encode(image, form, **options), 3, None), image)

    @pytest.mark.parametrize("form", ["JPEG", "WEBP"])
    def test_lossy_files_are_what_pillow_reads(self, encode, pixels, form):
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
    def test_shorter_side_is_resized_and_the_centre_cut_out(
        self, encode, pixels, width, height, size, resized, left, top
    ):
        image = pixels(height, width, 3)
        whole = np.asarray(Image.fromarray(image).resize(resized, Image.Resampling.BILINEAR))
        expected = whole[top : top + size, left : left + size]
        np.testing.assert_array_equal(decode(encode(image), 3, size), expected)
        np.testing.assert_array_equal(decode(image, 3, size), expected)

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 64), st.sampled_from([1, 3]))
    def test_any_shape_is_brought_to_the_size(self, height, width, size, channels):
        image = np.full((height, width, channels), 77, np.uint8)
        np.testing.assert_array_equal(decode(image, channels, size), np.full((size, size, channels), 77))

    def test_palette_is_looked_up(self, encode):
        image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
        image.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
        expected = [[[255, 0, 0], [0, 255, 0]], [[10, 20, 30], [0, 255, 0]]]
        assert decode(encode(image), 3, None).tolist() == expected

    def test_alpha_is_dropped(self, encode, pixels):
        image = pixels(9, 9, 4)
        np.testing.assert_array_equal(decode(encode(image), 3, None), image[..., :3])

    def test_grey_with_alpha_keeps_its_grey(self, encode, pixels):
        grey = pixels(9, 9)
        image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(pixels(9, 9, seed=1))])
        np.testing.assert_array_equal(decode(encode(image), 1, None)[..., 0], grey)

    def test_sixteen_bits_keep_their_upper_eight(self, encode):
        image = np.array([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]], np.uint16)
        expected = np.array([[0, 0, 1], [0x12, 0x80, 0xFF]], np.uint8)
        np.testing.assert_array_equal(decode(encode(image), 1, None)[..., 0], expected)
        np.testing.assert_array_equal(decode(encode(image), 3, None), np.repeat(expected[..., None], 3, axis=2))

    @pytest.mark.parametrize("dtype", [np.float32, np.int32])
    def test_pixels_without_a_known_range_are_refused(self, encode, dtype):
        with pytest.raises(ValueError, match=r"pixels of mode [FI] have no known range"):
            decode(encode(np.ones((4, 4), dtype), "TIFF"), 3, None)

    def test_of_several_frames_the_first_is_taken(self, pixels):
        first, second = (Image.fromarray(pixels(9, 9, 3, seed=seed)) for seed in (0, 1))
        buffer = io.BytesIO()
        first.save(buffer, "TIFF", save_all=True, append_images=[second])
        np.testing.assert_array_equal(decode(buffer.getvalue(), 3, None), np.asarray(first))

    @pytest.mark.parametrize("form", ["GIF", "EPS", "PPM", "TGA", "ICO"])
    def test_no_other_decoder_sees_a_file_whatever_it_is_called(self, tmp_path, encode, pixels, form, monkeypatch):
        monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was called"))
        encoded = encode(Image.fromarray(pixels(16, 16, 3)), form)
        (tmp_path / "image.png").write_bytes(encoded)
        for image in (encoded, tmp_path / "image.png"):
            with pytest.raises(UnidentifiedImageError):
                decode(image, 3, None)

    def test_photographs_of_two_pictures_are_jpegs(self, pixels):
        left, right = (Image.fromarray(pixels(16, 16, 3, seed=seed)) for seed in (0, 1))
        buffer = io.BytesIO()
        left.save(buffer, "MPO", save_all=True, append_images=[right])
        assert decode(buffer.getvalue(), 3, None).shape == (16, 16, 3)

    def test_one_bit_becomes_black_and_white(self, encode):
        bits = np.array([[True, False], [False, False]])
        assert decode(encode(bits), 1, None)[..., 0].tolist() == [[255, 0], [0, 0]]

    def test_colours_become_grey_by_their_luminance(self):
        image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
        assert decode(image, 1, None)[0, :, 0].tolist() == [76, 150, 29, 9]

    def test_grey_array_is_repeated_for_three_channels(self, pixels):
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
    def test_photographs_are_turned_upright(self, encode, pixels, orientation, turn):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = pixels(12, 20, 3)
        upright = turn(decode(encode(image, "JPEG"), 3, None))
        np.testing.assert_array_equal(decode(encode(image, "JPEG", exif=exif), 3, None), upright)

    def test_file_is_read_from_its_path(self, encode, pixels, tmp_path):
        image = pixels(5, 6, 3)
        (tmp_path / "image.png").write_bytes(encode(image))
        np.testing.assert_array_equal(decode(tmp_path / "image.png", 3, None), image)


class TestCorruptImages:
    @pytest.fixture
    def damaged(self, make_source, encode, pixels):
        """Six training images of which 1 is truncated, 3 is no image and 4 is empty."""
        whole = pixels(6, 16, 16, 3)
        images = [encode(image) for image in whole]
        images[1] = encode(whole[1], "JPEG")[:-20]
        images[3] = b"this is no image"
        images[4] = b""
        return whole, make_source({"train": images, "validation": [encode(whole[0])]})

    def test_they_are_counted_and_named_and_stop_it(self, damaged, data_dir):
        with pytest.raises(DataError) as caught:
            prepare("mine", damaged[1], data_dir=data_dir)
        message = str(caught.value)
        assert message.startswith("mine: 3 corrupt images:\n  train: train[1] (OSError: image file is truncated")
        assert "\n  train: train[3] (UnidentifiedImageError: cannot identify image file)\n" in message
        assert "\n  train: train[4] (UnidentifiedImageError: cannot identify image file)\n" in message
        assert message.endswith("To leave them out: --skip-bad 3")
        assert listing(data_dir) == []

    def test_one_more_than_may_be_left_out_stops_it(self, damaged, data_dir):
        with pytest.raises(DataError, match="3 corrupt images"):
            prepare("mine", damaged[1], data_dir=data_dir, skip_bad=2)
        assert listing(data_dir) == []

    def test_left_out_they_shorten_the_split_and_the_rest_is_right(self, damaged, data_dir):
        whole, source = damaged
        dataset = prepare("mine", source, data_dir=data_dir, skip_bad=3)
        images, labels = dataset.split("train")
        np.testing.assert_array_equal(images, whole[[0, 2, 5]])
        assert labels.tolist() == [0, 0, 1]
        assert dataset.counts == {"train": 3, "validation": 1}
        assert [line.split(" (")[0] for line in dataset.meta["skipped"]] == [f"train: train[{i}]" for i in (1, 3, 4)]
        np.testing.assert_allclose(dataset.mean, (whole[[0, 2, 5]] / 255).mean(axis=0), rtol=1e-6)

    def test_first_image_may_be_the_corrupt_one(self, make_source, encode, pixels, data_dir):
        image = pixels(9, 9, 3)
        source = make_source({"train": [b"bad", encode(image)]})
        images, _ = prepare("mine", source, data_dir=data_dir, skip_bad=1).split("train")
        np.testing.assert_array_equal(images, image[None])

    def test_no_more_than_twenty_are_named(self, make_source, encode, pixels, data_dir):
        source = make_source({"train": [b"bad"] * 25 + [encode(pixels(9, 9, 3))]})
        with pytest.raises(DataError, match=r"mine: 25 corrupt images") as caught:
            prepare("mine", source, data_dir=data_dir)
        assert str(caught.value).count("train[") == 20
        assert "\n  ...\n" in str(caught.value)

    def test_split_without_a_readable_image_is_refused_even_if_all_may_be_left_out(self, make_source, data_dir):
        with pytest.raises(DataError, match=r"train: none of the 2 images could be read. train: train\[0\] \("):
            prepare("mine", make_source({"train": [b"bad", b"bad"]}), data_dir=data_dir, skip_bad=2)
        assert listing(data_dir) == []

    def test_images_that_the_source_fails_to_yield_are_missing(self, make_source, pixels, data_dir):
        source = make_source({"train": pixels(5, 8, 8, 3)}, expected={"train": 7})
        with pytest.raises(DataError, match=r"mine: 0 corrupt and 2 missing images(.|\n)*--skip-bad 2"):
            prepare("mine", source, data_dir=data_dir)
        assert prepare("mine", source, data_dir=data_dir, skip_bad=2).counts == {"train": 5}

    def test_file_that_vanished_is_one_of_them(self, make_source, encode, pixels, tmp_path, data_dir):
        here, gone = tmp_path / "here.png", tmp_path / "gone.png"
        here.write_bytes(encode(pixels(9, 9, 3)))
        with pytest.raises(DataError, match=r"mine: 1 corrupt images:\n  train: train\[1\] \(FileNotFoundError"):
            prepare("mine", make_source({"train": [here, gone]}), data_dir=data_dir)

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    @settings(deadline=None, derandomize=True, max_examples=100)
    @given(st.lists(st.tuples(st.integers(20, 80), st.integers(0, 255)), min_size=1, max_size=4))
    @example([(41, 0)])  # makes Pillow raise struct.error
    @example([(41, 26)])  # makes it raise TypeError
    def test_damaged_headers_are_reported_and_never_a_crash(self, make_source, encode, pixels, changes):
        exif = Image.Exif()
        exif[0x0112] = 6
        exif[0x010E] = "a description of thirty bytes"
        good = encode(pixels(12, 20, 3), "JPEG", exif=exif)
        bad = bytearray(good)
        for position, value in changes:
            bad[position] = value
        source = make_source({"train": [good, bytes(bad)]})
        with tempfile.TemporaryDirectory() as data_dir:
            dataset = prepare("mine", source, 8, data_dir, skip_bad=1)
            images, _ = dataset.split("train")
            assert len(images) + len(dataset.meta["skipped"]) == 2
            np.testing.assert_array_equal(images[0], decode(good, 3, 8))


class TestRefusals:
    def test_images_of_unequal_size_need_a_size(self, make_source, pixels, data_dir):
        source = make_source({"train": [pixels(8, 8, 3), pixels(8, 9, 3)]})
        message = r"Images differ in size: train\[1\] is 8x9, the first 8. Give --size to bring them to one."
        with pytest.raises(DataError, match=message):
            prepare("mine", source, data_dir=data_dir)
        assert listing(data_dir) == []
        assert prepare("mine", source, 8, data_dir).image_shape == (8, 8, 3)

    def test_images_of_unequal_size_are_found_across_splits(self, make_source, pixels, data_dir):
        source = make_source({"train": pixels(2, 8, 8, 3), "validation": pixels(2, 9, 9, 3)})
        with pytest.raises(DataError, match=r"validation\[0\] is 9, the first 8"):
            prepare("mine", source, data_dir=data_dir)

    @pytest.mark.parametrize("size", [None, 8])
    def test_prepared_set_is_not_overwritten(self, small, data_dir, size):
        before = prepare("mine", small, data_dir=data_dir)
        with pytest.raises(DataError, match=r"mine-8 is there already. To prepare it anew, delete it first."):
            prepare("mine", small, size, data_dir)
        assert listing(data_dir) == ["mine-8"]
        assert before.check() == []

    @pytest.mark.parametrize("size", [-1, 0, 7, 1025])
    def test_size_out_of_range_is_refused(self, small, data_dir, size):
        with pytest.raises(ValueError, match=rf"`size` must be a whole number in 8..1024. Received: size={size}"):
            prepare("mine", small, size, data_dir)
        assert listing(data_dir) == []

    @pytest.mark.parametrize("size", [-1, 7, 1025, 10**6])
    def test_size_of_an_embedded_set_is_refused_before_anything_is_made(self, data_dir, size):
        with pytest.raises(ValueError, match=rf"`size` must be a whole number in 8..1024. Received: size={size}"):
            open_dataset("noise", size, data_dir)
        assert listing(data_dir) == []

    @pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-dash", "a b", "a\n", "ä"])
    def test_name_that_is_no_plain_file_name_is_refused(self, small, data_dir, name):
        with pytest.raises(ValueError, match=r"`name` must consist of letters, digits, '-', '_' and '\.'\. Received: "):
            prepare(name, small, data_dir=data_dir)
        assert listing(data_dir) == []

    def test_negative_skip_bad_is_refused(self, small, data_dir):
        with pytest.raises(
            ValueError, match=r"`skip_bad` must be a whole number of at least 0\. Received: skip_bad=-1"
        ):
            prepare("mine", small, data_dir=data_dir, skip_bad=-1)

    @pytest.mark.parametrize("split", ["test", None, ["train"]])
    def test_unknown_split_is_refused(self, small, data_dir, split):
        dataset = prepare("mine", small, data_dir=data_dir)
        with pytest.raises(DataError) as caught:
            dataset.split(split)
        assert str(caught.value) == f"mine has the splits train, validation. Received: {split!r}."

    @pytest.mark.parametrize("label", [2, -2, 1.0, "1", None])
    def test_label_of_no_class_is_refused(self, data_dir, pixels, label):
        def read(_):
            yield Example("first", pixels(8, 8, 3), label)

        with pytest.raises(
            DataError, match=r"train: the label of first must be in 0\.\.1, or -1 for none\. Received: "
        ):
            prepare("mine", Source("wrong", ["a", "b"], 3, {"train": 1}, "train", read), data_dir=data_dir)
        assert listing(data_dir) == []

    def test_class_names_that_are_no_strings_are_refused(self):
        with pytest.raises(SourceError, match=r"`class_names` must be strings\. Received: 0, 1"):
            Source("numbers", [0, 1], 3, {"train": 1}, "train", iter)

    @pytest.mark.parametrize("names", [["a", "a"], ["\u00e9", "e\u0301"]])
    def test_two_classes_of_one_name_are_refused(self, names):
        with pytest.raises(SourceError, match=r"`class_names` must differ\. Received more than once: "):
            Source("twins", names, 3, {"train": 1}, "train", iter)

    @pytest.mark.parametrize("split", ["../train", "a/b", ""])
    def test_split_that_is_no_plain_file_name_is_refused(self, make_source, pixels, data_dir, split):
        with pytest.raises(ValueError, match="`split` must consist of letters"):
            prepare("mine", make_source({split: pixels(4, 8, 8, 3)}), data_dir=data_dir)
        assert listing(data_dir) == []

    @pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
    def test_arrays_of_another_type_than_bytes_are_corrupt(self, make_source, data_dir, dtype):
        with pytest.raises(
            DataError, match=r"none of the 3 images .*ValueError: `image` must be uint8 of shape \(H, W\)"
        ):
            prepare("mine", make_source({"train": np.zeros((3, 8, 8), dtype)}), data_dir=data_dir)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": 5}, "`name` must consist of letters"),
            ({"source": "folder"}, "`source` must be a `Source`"),
            ({"size": "8"}, "`size` must be a whole number in 8..1024. Received: size='8'"),
            ({"size": 8.0}, "`size` must be a whole number in 8..1024. Received: size=8.0"),
            ({"size": True}, "`size` must be a whole number in 8..1024. Received: size=True"),
            ({"skip_bad": 0.5}, "`skip_bad` must be a whole number of at least 0. Received: skip_bad=0.5"),
            ({"data_dir": 5}, "`data_dir` must be a path. Received: data_dir=5"),
            ({"data_dir": ""}, "`data_dir` must be a path. Received: data_dir=''"),
        ],
    )
    def test_arguments_of_another_type_are_refused(self, small, data_dir, arguments, message):
        with pytest.raises(ValueError, match=message):
            prepare(**{"name": "mine", "source": small, "data_dir": data_dir, **arguments})
        assert listing(data_dir) == []


class TestRemoving:
    """What `open` makes anew is removed first: nothing else may be."""

    @pytest.fixture
    def precious(self, tmp_path):
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "thesis.tex").write_text("a life's work")
        return tmp_path / "precious" / "thesis.tex"

    @pytest.mark.parametrize(
        "size", ["8/../../precious", "8/../../precious-8", "../precious", "8x/../..", "", ".", "8x"]
    )
    @pytest.mark.parametrize("name", ["digits", "photos", "mine"])
    def test_a_size_that_is_a_path_is_refused(self, precious, data_dir, name, size):
        open_dataset("digits", data_dir=data_dir)
        with pytest.raises(ValueError, match=r"`size` must be a whole number in 8\.\.1024\. Received: size='"):
            open_dataset(name, size, data_dir)
        assert precious.exists()
        assert listing(data_dir) == ["digits-8"]

    @pytest.mark.parametrize(
        "name", ["../precious", "..\\precious", "C:precious", "/etc", "*", "..", "", None, 5, b"a"]
    )
    def test_a_name_that_is_a_path_is_refused(self, precious, data_dir, name):
        for call in (open_dataset, store.prepared):
            with pytest.raises(ValueError, match="`name` must consist of letters"):
                call(name, data_dir=data_dir)
        with pytest.raises(ValueError, match="`name` must consist of letters"):
            open_like(name, (8, 8, 3), data_dir)
        assert precious.exists()

    def test_a_directory_with_files_of_its_owner_is_kept(self, data_dir):
        theirs = data_dir / "photos-32" / "holiday.jpg"
        theirs.parent.mkdir(parents=True)
        theirs.write_bytes(b"sunset")
        with pytest.raises(DataError, match=r"photos-32 was not removed: it holds files of no data set, 'holiday.jpg'"):
            open_dataset("photos", data_dir=data_dir)
        assert theirs.read_bytes() == b"sunset"

    @pytest.mark.parametrize("kind", ["folder", "link to a folder", "link in a folder"])
    def test_neither_links_nor_folders_inside_are_removed(self, precious, data_dir, kind):
        data_dir.mkdir()
        if kind == "link to a folder":
            (data_dir / "digits-8").symlink_to(precious.parent)
        else:
            (data_dir / "digits-8").mkdir()
            inside = data_dir / "digits-8" / "mean.npy"
            inside.mkdir() if kind == "folder" else inside.symlink_to(precious)
        with pytest.raises(DataError, match="was not removed"):
            open_dataset("digits", data_dir=data_dir)
        assert precious.read_text() == "a life's work"
        assert listing(data_dir) == ["digits-8"]

    def test_a_tampered_record_reaches_nothing_else(self, precious, data_dir):
        digits = open_dataset("digits", data_dir=data_dir)
        for changes in ({"name": "../precious"}, {"image_shape": ["8/../../precious", 8, 1]}):
            rewrite(digits, **changes)
            assert open_dataset("digits", data_dir=data_dir).path == data_dir / "digits-8"
        assert precious.exists()

    @pytest.mark.parametrize("directory", ["../precious-8", "digits-8/../../precious-8", "precious", "digits-8/.."])
    def test_no_other_directory_can_be_made_anew(self, precious, data_dir, directory):
        with pytest.raises(ValueError, match="`directory` must be NAME-SIZE"):
            store.open_or_make(data_dir, directory, lambda _: False, lambda: None)
        assert precious.exists()

    def test_a_file_of_the_name_is_kept(self, data_dir):
        data_dir.mkdir()
        (data_dir / "digits-8").write_text("a file")
        with pytest.raises(DataError, match="was not removed: it is no directory of a data set"):
            open_dataset("digits", data_dir=data_dir)
        assert (data_dir / "digits-8").read_text() == "a file"

    def test_a_leftover_with_foreign_files_is_kept(self, small, data_dir):
        leftover = data_dir / f".partial-mine@{platform.node()}@00000000@{os.getpid()}"
        leftover.mkdir(parents=True)
        (leftover / "notes.txt").touch()
        (data_dir / ".partial-a@b@c@d").mkdir()
        prepare("mine", small, data_dir=data_dir)
        assert listing(data_dir) == sorted([leftover.name, ".partial-a@b@c@d", "mine-8"])


class TestOpen:
    @pytest.mark.parametrize(
        ("name", "size", "command"),
        [
            ("aircraft", None, "python -m decathlon prepare aircraft"),
            ("aircraft", 32, "at 32 pixels. Run: python -m decathlon prepare aircraft --size 32"),
            ("tiny_imagenet", None, "prepare tiny_imagenet --folder DIR   (from http://cs231n.stanford.edu/"),
            ("mine", 20, r"prepare mine --folder DIR --size 20   (or --npz FILE)"),
        ],
    )
    def test_set_that_is_not_prepared_names_the_command(self, data_dir, name, size, command):
        with pytest.raises(NotPreparedError) as caught:
            open_dataset(name, size, data_dir)
        assert command in str(caught.value)

    def test_one_of_several_sizes_has_to_be_named(self, small, data_dir):
        for size in (16, 100, None):
            prepare("mine", small, size, data_dir)
        with pytest.raises(DataError, match=r"mine is prepared in several sizes, 8, 16, 100: say which\."):
            open_dataset("mine", data_dir=data_dir)
        assert open_dataset("mine", 100, data_dir).image_shape == (100, 100, 3)

    def test_of_several_sizes_the_catalogues_is_the_default(self, small, data_dir):
        for size in (64, 32):
            prepare("aircraft", small, size, data_dir)
        assert open_dataset("aircraft", data_dir=data_dir).size == "64"
        assert open_dataset("aircraft", 32, data_dir).size == "32"

    @pytest.mark.parametrize("size", [0, 7, 1025, 8.0, True, "8x8x8", "eight", b"8", [8]])
    def test_size_that_none_can_have_is_refused(self, data_dir, size):
        for name in ("mine", "digits"):
            with pytest.raises(ValueError, match=r"`size` must be a whole number in 8\.\.1024\. Received: size="):
                open_dataset(name, size, data_dir)
        assert listing(data_dir) == []

    def test_size_may_be_a_text_or_equal_sides(self, small, data_dir):
        expected = prepare("mine", small, data_dir=data_dir)
        assert open_dataset("mine", "8", data_dir) == open_dataset("mine", "8x8", data_dir) == expected
        assert open_dataset("mine", np.int64(8), data_dir) == expected

    def test_images_of_any_own_size_are_opened_by_it(self, make_source, pixels, data_dir):
        tiny = prepare("mine", make_source({"train": pixels(4, 4, 6, 1)}, 1), data_dir=data_dir)
        wide = prepare("mine", make_source({"train": pixels(4, 2, 2000, 1)}, 1), data_dir=data_dir)
        assert open_dataset("mine", "4x6", data_dir) == open_like("mine", (4, 6, 3), data_dir) == tiny
        assert open_dataset("mine", "2x2000", data_dir) == wide

    def test_names_with_dashes_and_digits_are_told_apart(self, small, data_dir):
        for name in ("set", "set-8", "set-8-x"):
            prepare(name, small, data_dir=data_dir)
        prepare("set", small, 16, data_dir)
        assert store.prepared_names(data_dir) == ["set", "set-8", "set-8-x"]
        assert store.prepared_sizes("set", data_dir) == ["8", "16"]
        assert store.prepared_sizes("set-8", data_dir) == ["8"]
        assert [dataset.size for dataset in store.prepared("set", data_dir)] == ["8", "16"]

    def test_foreign_directories_are_not_taken_for_data_sets(self, data_dir):
        for name in ("foo-bar", ".partial-x@host@0@1", "plain", "tfds"):
            (data_dir / name).mkdir(parents=True)
            (data_dir / name / "meta.json").write_text("{}")
        assert store.prepared_names(data_dir) == []

    def test_data_room_is_where_the_environment_says(self, monkeypatch, tmp_path):
        monkeypatch.setenv("KLS_DATA", str(tmp_path))
        assert store.default_data_dir() == tmp_path
        monkeypatch.delenv("KLS_DATA")
        assert store.default_data_dir() == Path.home() / ".cache" / "kls"

    def test_importing_the_data_room_loads_neither_keras_nor_tensorflow(self):
        script = "import sys, decathlon; print({'keras', 'tensorflow', 'sklearn'} & set(sys.modules))"
        run = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            cwd=Path(decathlon.__file__).parents[1],
            check=True,
        )
        assert run.stdout == "set()\n"

    def test_unknown_attribute_of_the_package_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="module 'decathlon' has no attribute 'Batch'"):
            decathlon.Batch  # noqa: B018


class TestEmbedded:
    def test_it_is_made_on_first_use_and_kept(self, data_dir):
        dataset = open_dataset("digits", data_dir=data_dir)
        written = (dataset.path / "meta.json").stat().st_mtime_ns
        assert listing(data_dir) == ["digits-8"]
        assert open_dataset("digits", 8, data_dir) == dataset
        assert (dataset.path / "meta.json").stat().st_mtime_ns == written

    @pytest.mark.parametrize("edit", [lambda text: text.replace("version 1", "version 0"), lambda _: "{"])
    def test_it_is_made_anew_if_it_is_of_another_version_or_damaged(self, data_dir, edit):
        expected = open_dataset("digits", data_dir=data_dir)
        meta = expected.path / "meta.json"
        meta.write_text(edit(meta.read_text()))
        assert open_dataset("digits", data_dir=data_dir) == expected
        rewrite(expected, source="scikit-learn digits, version 0")
        assert open_dataset("digits", data_dir=data_dir) == expected

    def test_it_is_made_anew_without_a_hash_or_with_damaged_arrays(self, data_dir):
        expected = open_dataset("digits", data_dir=data_dir)
        (expected.path / "meta.json").write_text(json.dumps({k: v for k, v in expected.meta.items() if k != "hash"}))
        assert open_dataset("digits", data_dir=data_dir) == expected
        np.save(expected.path / "train.labels.npy", np.zeros(3))
        assert open_dataset("digits", data_dir=data_dir).check() == []

    def test_it_may_be_made_by_another_process_meanwhile(self, data_dir, monkeypatch):
        make = store.open_embedded

        def overtaken(name, size):
            with monkeypatch.context() as other:
                other.setattr(store, "RUN", "00000001")
                other.setattr(store, "open_embedded", make)
                open_dataset(name, size, data_dir)
            return make(name, size)

        monkeypatch.setattr(store, "open_embedded", overtaken)
        assert open_dataset("digits", data_dir=data_dir).check() == []
        assert listing(data_dir) == ["digits-8"]


class TestNothingHalfMade:
    def test_error_of_the_source_leaves_nothing(self, make_source, pixels, data_dir):
        def read(_):
            yield Example("0", pixels(8, 8, 3), 0)
            raise RuntimeError("the source broke")

        source = Source("breaks", ["a"], 3, {"train": 2}, "train", read)
        with pytest.raises(RuntimeError, match="the source broke"):
            prepare("mine", source, data_dir=data_dir)
        assert listing(data_dir) == []

    @pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
    def test_interruption_leaves_nothing(self, small, data_dir, interruption):
        def stop(*_):
            raise interruption

        with pytest.raises(interruption):
            prepare("mine", small, data_dir=data_dir, progress=stop)
        assert listing(data_dir) == []

    @pytest.mark.parametrize("where", ["images", "arrays", "record"])
    def test_full_disk_leaves_nothing(self, small, data_dir, monkeypatch, where):
        def no_space(*_args, **_options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        class FullFile(io.BytesIO):
            write = no_space

        if where == "images":
            monkeypatch.setattr(store, "open", lambda *_: FullFile(), raising=False)
        elif where == "arrays":
            monkeypatch.setattr(np, "save", no_space)
        else:
            monkeypatch.setattr(Path, "write_text", no_space)
        with pytest.raises(OSError, match="No space left on device"):
            prepare("mine", small, data_dir=data_dir)
        assert listing(data_dir) == []

    def test_killed_process_leaves_no_data_set_and_the_next_one_sweeps_up(self, small, data_dir):
        with slow_preparation(data_dir) as process:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        (leftover,) = listing(data_dir)
        assert leftover.startswith(".partial-half@")
        assert (data_dir / leftover / "train.images.npy").stat().st_size > 100 * 64 * 64 * 3
        assert store.prepared_names(data_dir) == []
        with pytest.raises(NotPreparedError, match="half is not prepared"):
            open_dataset("half", data_dir=data_dir)
        prepare("mine", small, data_dir=data_dir)
        assert listing(data_dir) == ["mine-8"]

    def test_running_process_is_left_alone(self, small, data_dir):
        with slow_preparation(data_dir):
            prepare("mine", small, data_dir=data_dir)
            leftover, prepared = listing(data_dir)
            assert leftover.startswith(".partial-half@")
            assert prepared == "mine-8"

    def test_leftover_of_an_earlier_process_of_the_same_number_is_swept(self, small, data_dir):
        """In a container the process that was killed and the next one often have the same number."""
        (data_dir / f".partial-mine@{platform.node()}@00000000@{os.getpid()}").mkdir(parents=True)
        prepare("mine", small, data_dir=data_dir)
        assert listing(data_dir) == ["mine-8"]

    def test_directory_of_another_machine_is_left_alone(self, small, data_dir):
        """On a shared disk its process may well be running."""
        elsewhere = ".partial-half@another-machine@00000000@2147483647"
        (data_dir / elsewhere).mkdir(parents=True)
        prepare("mine", small, data_dir=data_dir)
        assert listing(data_dir) == [elsewhere, "mine-8"]


class TestConform:
    def test_images_of_the_shape_are_returned_as_they_are(self):
        images = np.zeros((2, 8, 8, 1), np.uint8)
        assert conform(images, (8, 8, 1)) is images

    def test_grey_becomes_colour_of_three_equal_channels(self):
        images = np.arange(128, dtype=np.uint8).reshape(2, 8, 8, 1)
        found = conform(images, (8, 8, 3))
        np.testing.assert_array_equal(found, np.repeat(images, 3, axis=3))

    def test_colour_becomes_grey_by_luma(self):
        red, green, blue = 200, 100, 50
        images = np.broadcast_to(np.array([red, green, blue], np.uint8), (1, 8, 8, 3))
        assert set(conform(images, (8, 8, 1)).ravel()) == {round(0.299 * red + 0.587 * green + 0.114 * blue)}

    def test_the_longer_side_is_cropped_at_its_centre(self):
        images = np.zeros((1, 8, 24, 1), np.uint8)
        images[:, :, 8:16] = 255
        assert (conform(images, (8, 8, 1)) == 255).all()

    @pytest.mark.parametrize(
        ("images", "image_shape", "message"),
        [
            (np.zeros((1, 8, 8, 1), np.float32), (8, 8, 3), "`images` must be uint8 .* dtype float32"),
            (np.zeros((1, 8, 8, 1), bool), (8, 8, 1), "`images` must be uint8 .* dtype bool"),
            (np.zeros((8, 8, 1), np.uint8), (8, 8, 1), r"`images` must be .* shape \(8, 8, 1\)"),
            ([[1]], (8, 8, 1), "`images` must be a NumPy array"),
            (np.zeros((1, 8, 8, 1), np.uint8), (8, 8), r"`image_shape` must be \(height, width, channels\)"),
            (np.zeros((1, 8, 8, 1), np.uint8), 8, r"`image_shape` must be \(height, width, channels\)"),
            (np.zeros((1, 8, 8, 1), np.uint8), (8, 8, 4), "`image_shape` .* with 1 or 3 channels"),
            (np.zeros((1, 8, 8, 1), np.uint8), (8.0, 8, 1), "`image_shape` must be a whole number of at least 1"),
        ],
    )
    def test_what_are_no_images_or_no_shape_is_refused(self, images, image_shape, message):
        with pytest.raises(ValueError, match=message):
            conform(images, image_shape)

    def test_other_shapes_than_squares_are_refused(self):
        with pytest.raises(DataError, match=r"squares alone. Received: 8x12"):
            conform(np.zeros((1, 16, 16, 1), np.uint8), (8, 12, 1))


class TestOpenLike:
    def test_the_same_side_is_preferred_and_an_embedded_set_made_at_it(self, tmp_path):
        assert open_like("digits", (10, 10, 3), tmp_path).image_shape == (10, 10, 1)

    def test_else_the_largest_that_is_prepared(self, tmp_path):
        rng = np.random.default_rng(0)
        for side in (8, 12):
            arrays = {
                f"x_{part}": rng.integers(0, 256, (4, side, side, 1), dtype=np.uint8) for part in ("train", "test")
            }
            path = tmp_path / f"{side}.npz"
            np.savez(path, **arrays, y_train=np.arange(4) % 2, y_test=np.arange(4) % 2)
            prepare("mine", open_npz(path), data_dir=tmp_path)
        assert open_like("mine", (8, 8, 3), tmp_path).size == "8"
        assert open_like("mine", (32, 32, 3), tmp_path).size == "12"

    def test_a_set_that_is_not_prepared(self, tmp_path):
        with pytest.raises(NotPreparedError, match="python -m decathlon prepare svhn"):
            open_like("svhn", (32, 32, 3), tmp_path)
