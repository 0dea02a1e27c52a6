"""Preparing: what is stored, what is refused, and that nothing half-made stays behind."""

import errno
import io
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
from PIL import Image

import decathlon
from decathlon import preparation, store
from decathlon.preparation import decode, prepare
from decathlon.sources import Example, Source, SourceError
from decathlon.store import DataError, NotPreparedError, open_dataset

from .helpers import listing

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

    def test_a_split_without_a_readable_image_is_refused(self, make_source, data_dir):
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
            monkeypatch.setattr(preparation, "open", lambda *_: FullFile(), raising=False)
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
