"""`.npz` files: what is read and every way in which one can be wrong."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decathlon.preparation import prepare
from decathlon.sources import SourceError
from decathlon.sources.npz import KEYS, open_npz
from decathlon.store import open_dataset


def arrays(**changes):
    rng = np.random.default_rng(0)
    whole = {
        "x_train": rng.integers(0, 256, (12, 9, 8, 3), dtype=np.uint8),
        "y_train": np.arange(12) % 3,
        "x_test": rng.integers(0, 256, (6, 9, 8, 3), dtype=np.uint8),
        "y_test": np.arange(6) % 3,
    }
    whole.update(changes)
    return {key: value for key, value in whole.items() if value is not None}


@pytest.fixture
def save(tmp_path):
    """Returns a function that saves arrays, those of a good file by default, and returns the path."""

    def save_arrays(**changes):
        path = tmp_path / "mine.npz"
        np.savez(path, **arrays(**changes))
        return path

    return save_arrays


def refusal(path):
    with pytest.raises(SourceError) as caught:
        open_npz(path)
    return str(caught.value)


def test_good_file_is_read_as_it_stands(save):
    source = open_npz(save())
    assert source.description == "npz mine.npz"
    assert source.class_names == ["0", "1", "2"]
    assert source.channels == 3
    assert source.counts == {"train": 12, "test": 6}
    assert source.evaluation == "test"
    for split in ("train", "test"):
        examples = list(source.read(split))
        assert [example.key for example in examples] == [f"x_{split}[{i}]" for i in range(len(examples))]
        np.testing.assert_array_equal([example.image for example in examples], arrays()[f"x_{split}"])
        assert [example.label for example in examples] == arrays()[f"y_{split}"].tolist()


def test_prepared_arrays_equal_those_of_the_file(save, data_dir):
    dataset = prepare("mine", open_npz(save()), data_dir=data_dir)
    assert dataset.path.name == "mine-9x8"
    for split in ("train", "test"):
        images, labels = dataset.split(split)
        np.testing.assert_array_equal(images, arrays()[f"x_{split}"])
        np.testing.assert_array_equal(labels, arrays()[f"y_{split}"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.int64])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_labels_may_be_any_integers_in_a_row_or_a_column(save, dtype, shape):
    labels = {key: arrays()[key].astype(dtype).reshape(shape) for key in ("y_train", "y_test")}
    assert [example.label for example in open_npz(save(**labels)).read("train")] == [0, 1, 2] * 4


@pytest.mark.parametrize("shape", [(-1, 9, 8), (-1, 9, 8, 1)])
def test_grey_images_make_one_channel(save, data_dir, shape):
    grey = {key: np.ascontiguousarray(arrays()[key][..., 0]).reshape(shape) for key in ("x_train", "x_test")}
    source = open_npz(save(**grey))
    assert source.channels == 1
    images, _ = prepare("grey", source, data_dir=data_dir).split("train")
    np.testing.assert_array_equal(images, arrays()["x_train"][..., :1])


def test_class_names_are_taken_from_the_file(save):
    source = open_npz(save(class_names=np.array(["cat", "dog", "Zaunkönig", "never seen"])))
    assert source.class_names == ["cat", "dog", "Zaunkönig", "never seen"]


def test_two_classes_of_one_name_are_refused(save):
    assert "`class_names` must differ. Received more than once: 'cat'" in refusal(
        save(class_names=["cat", "dog", "cat"])
    )


def test_classes_without_a_training_image_are_said_and_warned_of(save, data_dir):
    """Labels that count from 1 make a class 0 that no image shows."""
    source = open_npz(save(**{key: arrays()[key] + 1 for key in ("y_train", "y_test")}))
    assert source.remarks == ["train has no image of 1 of 4 classes: '0'."]
    with pytest.warns(UserWarning, match=r"train has no image of 1 of 4 classes: '0'\."):
        prepare("mine", source, data_dir=data_dir)


def test_validation_images_are_a_split_of_their_own(save):
    images, labels = arrays()["x_train"][:5], np.arange(5) % 3
    source = open_npz(save(x_validation=images, y_validation=labels))
    assert source.counts == {"train": 12, "validation": 5, "test": 6}
    assert source.evaluation == "test"
    np.testing.assert_array_equal([example.image for example in source.read("validation")], images)


def test_other_arrays_are_ignored(save):
    assert open_npz(save(extra=np.zeros(3))).counts == {"train": 12, "test": 6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, "missing x_test; it holds x_train, y_train, y_test."),
        ({"y_train": None, "y_test": None}, "missing y_train, y_test; it holds x_train, x_test."),
        (dict.fromkeys(KEYS), "missing x_train, y_train, x_test, y_test; it holds nothing."),
        ({"x_train": np.zeros((12, 9, 8, 3))}, "x_train must be uint8 (0 to 255). Received: float64."),
        ({"x_test": np.zeros((6, 9, 8, 3), np.int16)}, "x_test must be uint8 (0 to 255). Received: int16."),
        (
            {"x_train": np.zeros((12, 9, 8, 4), np.uint8)},
            "x_train must be of shape (N, H, W), (N, H, W, 1) or (N, H, W, 3). Received: (12, 9, 8, 4).",
        ),
        ({"x_train": np.zeros((12, 72), np.uint8)}, "(N, H, W, 3). Received: (12, 72)."),
        ({"x_train": np.zeros((0, 9, 8, 3), np.uint8)}, "(N, H, W, 3). Received: (0, 9, 8, 3)."),
        ({"x_test": np.uint8(3)}, "(N, H, W, 3). Received: ()."),
        ({"x_test": np.zeros((6, 9, 8), np.uint8)}, "x_train and x_test differ in channels."),
        ({"y_validation": np.arange(3)}, "x_validation and y_validation must be there both, or neither."),
        ({"y_train": np.arange(12.0)}, "y_train must be integers of shape (N,) or (N, 1). Received: float64(12,)."),
        ({"y_test": np.zeros((6, 3), int)}, "y_test must be integers of shape (N,) or (N, 1). Received: int64(6, 3)."),
        ({"y_test": np.int64(3)}, "y_test must be integers of shape (N,) or (N, 1). Received: int64()."),
        ({"y_train": np.array(["a"] * 12)}, "y_train must be integers of shape (N,) or (N, 1). Received: <U1(12,)."),
        ({"y_train": np.arange(11) % 3}, "x_train has 12 images, y_train 11 labels."),
        ({"y_test": np.arange(7) % 3}, "x_test has 6 images, y_test 7 labels."),
        (
            {"y_test": np.array([0, 1, 2, 3, 0, 1])},
            "y_test holds 0..3, but there are 3 classes: labels must be in 0..2.",
        ),
        ({"y_train": np.r_[-1, np.arange(11) % 3]}, "y_train holds -1..2, but there are 3 classes"),
        ({"class_names": np.array(["a", "b"])}, "y_train holds 0..2, but there are 2 classes"),
        ({"class_names": np.array("abc")}, "class_names must be of shape (K,). Received: ()."),
        (
            {"y_train": np.array([None] * 12)},
            "not a readable .npz file (Object arrays cannot be loaded when allow_pickle",
        ),
        ({"class_names": np.array([{}, "b", "c"])}, "not a readable .npz file (Object arrays cannot be loaded"),
    ],
)
def test_wrong_contents_are_refused_by_name(save, changes, message):
    assert message in refusal(save(**changes))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "not a readable .npz file (No data left in file)"),
        (b"no zip at all", "not a readable .npz file"),
        (b"PK\x03\x04 and then nothing of the kind", "not a readable .npz file (File is not a zip file)"),
    ],
)
def test_file_that_is_no_archive_is_refused(tmp_path, contents, message):
    path = tmp_path / "mine.npz"
    path.write_bytes(contents)
    assert refusal(path).startswith(f"{path}: {message}")


def test_single_array_is_refused(tmp_path):
    np.save(tmp_path / "x_train.npy", np.zeros(3))
    assert "not a readable .npz file (it holds a single array)" in refusal(tmp_path / "x_train.npy")


def test_absent_file_and_folder_are_refused(tmp_path):
    assert "No such file or directory" in refusal(tmp_path / "absent.npz")
    assert "Is a directory" in refusal(tmp_path)


def test_archive_with_a_member_that_is_no_array_is_refused(save):
    path = save(x_test=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_test.npy", "not an array")
    assert "x_test must be uint8" in refusal(path)


def test_encrypted_archive_is_refused(save):
    path = save()
    contents = bytearray(path.read_bytes())
    contents[contents.index(b"PK\x01\x02") + 8] |= 1
    contents[6] |= 1
    path.write_bytes(contents)
    assert "password required" in refusal(path)


def test_truncated_archive_is_refused(save):
    path = save()
    path.write_bytes(path.read_bytes()[:-50])
    assert "not a readable .npz file" in refusal(path)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.data())
def test_damaged_archive_is_refused_or_read_and_never_a_crash(tmp_path_factory, data):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(x_train=np.zeros((12, 9, 8, 3), np.uint8)))
    contents = bytearray(buffer.getvalue())
    position = data.draw(st.integers(0, len(contents) - 1))
    contents[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(contents)
    try:
        source = open_npz(path)
    except SourceError:
        return
    assert [example.label for example in source.read("train")] == arrays()["y_train"].tolist()


def given_files():
    folder = os.environ.get("KLS_TEST_DATA")
    files = sorted(Path(folder).glob("*.npz")) if folder else []
    return [pytest.param(file, id=file.stem) for file in files if holds_all_keys(file)]


def holds_all_keys(file):
    with np.load(file) as contents:
        return set(KEYS) <= set(contents)


@pytest.mark.skipif("KLS_TEST_DATA" not in os.environ, reason="KLS_TEST_DATA names no folder of .npz files")
@pytest.mark.parametrize("file", given_files())
def test_given_file_is_prepared_and_opened(file, data_dir):
    prepare(file.stem, open_npz(file), data_dir=data_dir)
    dataset = open_dataset(file.stem, data_dir=data_dir)
    assert dataset.check() == []
    with np.load(file) as contents:
        for split in ("train", "test"):
            images, labels = dataset.split(split)
            np.testing.assert_array_equal(images, contents[f"x_{split}"].reshape(images.shape))
            np.testing.assert_array_equal(labels, contents[f"y_{split}"].reshape(-1))
        assert dataset.classes == len(np.unique(contents["y_train"]))
