"""Opening: what is found, what is refused, what is made anew, and that nothing else is removed."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import decathlon
from decathlon import store
from decathlon.preparation import prepare
from decathlon.sources.npz import open_npz
from decathlon.store import DataError, NotPreparedError, conform, open_dataset, open_like

from .helpers import rewrite


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

    def test_the_data_directory_is_where_the_environment_says(self, monkeypatch, tmp_path):
        monkeypatch.setenv("KLS_DATA", str(tmp_path))
        assert store.default_data_dir() == tmp_path
        monkeypatch.delenv("KLS_DATA")
        assert store.default_data_dir() == Path.home() / ".cache" / "kls"

    @pytest.mark.parametrize("split", ["test", None, ["train"]])
    def test_unknown_split_is_refused(self, small, data_dir, split):
        dataset = prepare("mine", small, data_dir=data_dir)
        with pytest.raises(DataError) as caught:
            dataset.split(split)
        assert str(caught.value) == f"mine has the splits train, validation. Received: {split!r}."

    def test_importing_decathlon_loads_neither_keras_nor_tensorflow(self):
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

    def test_other_shapes_than_squares_are_refused(self):
        with pytest.raises(DataError, match=r"squares alone. Received: 8x12"):
            conform(np.zeros((1, 16, 16, 1), np.uint8), (8, 12, 1))


class TestOpenLike:
    def test_the_same_side_is_preferred_and_a_bundled_set_made_at_it(self, tmp_path):
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
