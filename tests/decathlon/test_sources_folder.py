"""Folders of images: both layouts, that of Tiny ImageNet, and every way in which one can be wrong."""

import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from decathlon.preparation import decode, prepare
from decathlon.sources import SourceError
from decathlon.sources.folder import open_folder
from decathlon.store import DataError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


@pytest.fixture
def put(root, pixels):
    """Returns a function that writes images to paths below the folder, grey ones where asked."""

    def write(*paths, shape=(9, 9, 3)):
        for i, path in enumerate(paths):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels(*shape, seed=i)).save(file)

    return write


def named(source, split):
    """Returns [(key, class name)] of a split."""
    return [(example.key, source.class_names[example.label]) for example in source.read(split)]


def numbered(folder, count, suffix="png"):
    return [f"{folder}/{i:02}.{suffix}" for i in range(count)]


def refusal(path):
    with pytest.raises(SourceError) as caught:
        open_folder(path)
    return str(caught.value)


class TestOneTree:
    def test_one_in_five_of_each_class_is_for_validation_and_none_is_lost(self, put, root):
        files = [*numbered("cat", 10), *numbered("dog", 20), *numbered("eel", 5)]
        put(*files)
        source = open_folder(root)
        assert source.description == "folder images"
        assert source.class_names == ["cat", "dog", "eel"]
        assert source.counts == {"train": 28, "validation": 7}
        assert source.evaluation == "validation"
        train, validation = named(source, "train"), named(source, "validation")
        assert Counter(name for _, name in validation) == {"cat": 2, "dog": 4, "eel": 1}
        assert sorted(key for key, _ in train + validation) == files
        assert all(key.startswith(name) for key, name in train + validation)

    def test_split_is_the_same_every_time(self, put, root):
        put(*numbered("cat", 10), *numbered("dog", 10))
        assert named(open_folder(root), "validation") == named(open_folder(root), "validation")

    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.integers(2, 15), min_size=2, max_size=6))
    def test_any_classes_of_at_least_two_images_can_be_split(self, tmp_path_factory, sizes):
        root = tmp_path_factory.mktemp("any")
        for label, count in enumerate(sizes):
            (root / str(label)).mkdir()
            for i in range(count):
                (root / str(label) / f"{i}.png").touch()
        source = open_folder(root)
        assert sum(source.counts.values()) == sum(sizes)
        assert {name for _, name in named(source, "train")} == {str(i) for i in range(len(sizes))}
        assert source.counts["validation"] >= len(sizes)

    def test_images_may_lie_in_folders_below_the_class(self, put, root):
        put(*numbered("cat/black/young", 4), *numbered("cat/white", 4), *numbered("dog", 4))
        source = open_folder(root)
        assert source.class_names == ["cat", "dog"]
        found = dict(named(source, "train") + named(source, "validation"))
        assert found["cat/black/young/00.png"] == found["cat/white/00.png"] == "cat"
        assert len(found) == 12
        assert source.remarks[1:] == [
            "Folders below a class are no classes of their own: 'cat/black', 'cat/white' belong to the one above."
        ]

    def test_one_folder_below_a_class_is_not_worth_saying(self, put, root):
        put(*numbered("cat/images", 4), *numbered("dog/images", 4))
        assert len(open_folder(root).remarks) == 1

    def test_suffixes_are_known_in_any_case(self, put, root):
        put("cat/a.PNG", "cat/b.jpg", "cat/c.JPEG", "cat/d.webp", "cat/e.bmp", "cat/f.TIF", "cat/g.tiff")
        put(*numbered("dog", 2))
        source = open_folder(root)
        assert sum(source.counts.values()) == 9
        assert source.left_out == {}

    def test_other_files_are_counted_by_suffix(self, put, root):
        put(*numbered("cat", 4), *numbered("dog", 4), *numbered("dog/old", 3, "gif"), "cat/x.GIF", "loose.png")
        (root / "cat" / "notes.txt").write_text("no image")
        (root / "LICENSE").write_text("no class")
        source = open_folder(root)
        assert sum(source.counts.values()) == 8
        assert source.left_out == {".gif": 4, ".png": 1, ".txt": 1, "without a suffix": 1}
        (remark,) = [remark for remark in source.remarks if "left out" in remark]
        assert "left out: 4 .gif, 1 " in remark

    def test_hidden_files_and_folders_are_ignored(self, put, root):
        put(*numbered("cat", 4), *numbered("dog", 4), ".ipynb_checkpoints/a.png", "dog/.thumbs/b.png", "cat/._c.png")
        source = open_folder(root)
        assert source.class_names == ["cat", "dog"]
        assert sum(source.counts.values()) == 8
        assert source.left_out == {}

    def test_a_split_that_is_drawn_is_said(self, put, root):
        put(*numbered("cat", 10), *numbered("dog", 10))
        assert open_folder(root).remarks == [
            "There is no validation folder: 4 of 20 training images were drawn for validation, the same share of each "
            "class (seed 0)."
        ]

    def test_class_names_that_differ_in_case_or_blanks_are_said(self, put, root):
        put(*(path for name in ("cat", "Cat", "dog", "dog ", "eel") for path in numbered(name, 5)))
        source = open_folder(root)
        assert source.class_names == ["Cat", "cat", "dog", "dog ", "eel"]
        assert "Some class names differ only in case or in blanks around them: 'cat', 'dog'." in source.remarks

    def test_class_names_that_differ_in_encoding_are_refused(self, put, root):
        put(*numbered("caf\u00e9", 5), *numbered("cafe\u0301", 5))
        assert refusal(root) == f"{root}: two folders have the same class name: 'caf\u00e9'."

    @pytest.mark.parametrize("linked", ["file", "class"])
    def test_links_that_leave_the_folder_are_refused(self, put, root, tmp_path, linked):
        put(*numbered("cat", 5), *numbered("dog", 5))
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret" / "a.png").write_bytes((root / "cat" / "00.png").read_bytes())
        link, target = {
            "file": (root / "cat" / "a.png", tmp_path / "secret" / "a.png"),
            "class": (root / "eel", tmp_path / "secret"),
        }[linked]
        link.symlink_to(target)
        assert refusal(root) == f"{link}: this is {target}, which is outside of {root}."

    def test_links_within_the_folder_and_to_it_are_followed(self, put, root, tmp_path):
        put(*numbered("cat", 5), *numbered("dog", 5))
        (root / "cat" / "again.png").symlink_to(root / "cat" / "00.png")
        (tmp_path / "link").symlink_to(root)
        assert sum(open_folder(tmp_path / "link").counts.values()) == 11

    @pytest.mark.parametrize("name", ["train", "Train", "testing"])
    def test_class_may_be_called_like_a_split(self, put, root, name):
        put(*numbered(name, 5), *numbered("tram", 5))
        assert open_folder(root).class_names == sorted([name, "tram"])

    def test_class_of_one_image_is_refused(self, put, root):
        put(*numbered("cat", 5), "dog/only.png")
        assert refusal(root) == f"{root}: classes of one image cannot be split for validation: dog."

    def test_class_without_images_is_refused(self, put, root):
        put(*numbered("cat", 5))
        (root / "dog").mkdir()
        assert (
            refusal(root)
            == f"{root / 'dog'}: no .png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff images in this class folder."
        )

    def test_single_class_is_refused(self, put, root):
        put(*numbered("cat", 5))
        assert refusal(root) == f"{root}: at least two class folders are needed. Found: ['cat']."

    def test_folder_of_the_folder_of_classes_is_refused(self, put, root):
        put(*numbered("all/cat", 5), *numbered("all/dog", 5))
        found = "Found: ['all'], with 'all/cat', 'all/dog' below."
        assert refusal(root) == f"{root}: at least two class folders are needed. {found}"

    def test_folder_without_classes_is_refused(self, put, root):
        put("a.png", "b.png")
        assert refusal(root) == f"{root}: no class folders with .png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff images."

    def test_absent_folder_and_file_are_refused(self, tmp_path):
        assert refusal(tmp_path / "absent") == f"{tmp_path / 'absent'}: no such folder."
        (tmp_path / "file").touch()
        assert refusal(tmp_path / "file") == f"{tmp_path / 'file'}: no such folder."


class TestSplitFolders:
    @pytest.mark.parametrize("validation", ["validation", "val"])
    def test_splits_are_taken_as_they_stand(self, put, root, validation):
        put("train/cat/1.png", "train/dog/1.png", "train/dog/2.png", f"{validation}/dog/3.png", "test/cat/4.png")
        source = open_folder(root)
        assert source.counts == {"train": 3, "validation": 1, "test": 1}
        assert list(source.counts) == ["train", "validation", "test"]
        assert source.evaluation == "test"
        assert named(source, "train") == [
            ("train/cat/1.png", "cat"),
            ("train/dog/1.png", "dog"),
            ("train/dog/2.png", "dog"),
        ]
        assert named(source, "validation") == [(f"{validation}/dog/3.png", "dog")]
        assert named(source, "test") == [("test/cat/4.png", "cat")]

    @pytest.mark.parametrize("folders", [("Train", "VALID", "Testing"), ("training", "Val", "TEST")])
    def test_splits_are_known_by_their_usual_names(self, put, root, folders):
        put(*(path for folder in folders for name in ("cat", "dog") for path in numbered(f"{folder}/{name}", 2)))
        source = open_folder(root)
        assert (source.class_names, source.remarks) == (["cat", "dog"], [])
        for folder, split in zip(folders, ("train", "validation", "test"), strict=True):
            assert {key.split("/")[0] for key, _ in named(source, split)} == {folder}

    def test_a_class_that_a_split_lacks_is_said(self, put, root):
        put(*numbered("train/cat", 4), *numbered("train/dog", 4), *numbered("train/eel", 4), "val/cat/1.png")
        assert open_folder(root).remarks == ["validation has no image of 2 of 3 classes: 'dog', 'eel'."]

    def test_names_in_two_encodings_are_one_class(self, put, root):
        put(*numbered("train/caf\u00e9", 4), *numbered("train/dog", 4), "val/cafe\u0301/1.png", "val/dog/1.png")
        assert open_folder(root).class_names == ["caf\u00e9", "dog"]

    def test_without_validation_it_is_drawn_from_train(self, put, root):
        put(*numbered("train/cat", 10), *numbered("train/dog", 10), "test/dog/1.png")
        source = open_folder(root)
        assert source.counts == {"train": 16, "validation": 4, "test": 1}
        assert all(key.startswith("train/") for key, _ in named(source, "validation"))

    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_class_that_train_lacks_is_refused(self, put, root, split):
        put(*numbered("train/cat", 4), *numbered("train/dog", 4), f"{split}/eel/1.png")
        assert refusal(root) == f"{root}: {split} has classes that train lacks: eel."

    def test_empty_class_of_train_is_refused(self, put, root):
        put(*numbered("train/cat", 4), "val/cat/1.png")
        (root / "train" / "dog").mkdir()
        assert refusal(root).startswith(f"{root / 'train' / 'dog'}: no .png")


class TestTinyImageNet:
    @pytest.fixture
    def tiny(self, put, root):
        """The layout of tiny-imagenet-200.zip, unlabelled test images included."""
        for name in ("n01", "n02"):
            put(*[f"train/{name}/images/{name}_{i}.JPEG" for i in range(3)])
            (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t8\t8\n")
        put("val/images/val_0.JPEG", "val/images/val_1.JPEG", *[f"test/images/test_{i}.JPEG" for i in range(4)])
        (root / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn01\t0\t0\t8\t8\nval_0.JPEG\tn02\t0\t0\t8\t8\n")
        (root / "wnids.txt").write_text("n02\nn01\n")
        return root

    def test_validation_labels_come_from_the_annotations(self, tiny):
        source = open_folder(tiny)
        assert source.class_names == ["n01", "n02"]
        assert source.counts == {"train": 6, "validation": 2}
        assert named(source, "validation") == [("val/images/val_1.JPEG", "n01"), ("val/images/val_0.JPEG", "n02")]
        assert ("train/n02/images/n02_0.JPEG", "n02") in named(source, "train")

    def test_images_are_those_of_the_files(self, tiny, data_dir):
        images, labels = prepare("tiny", open_folder(tiny), data_dir=data_dir).split("validation")
        files = [tiny / "val" / "images" / name for name in ("val_1.JPEG", "val_0.JPEG")]
        np.testing.assert_array_equal(images, [np.asarray(Image.open(file)) for file in files])
        assert labels.tolist() == [0, 1]

    def test_annotated_image_that_is_missing_is_named(self, tiny, data_dir):
        (tiny / "val" / "images" / "val_0.JPEG").unlink()
        source = open_folder(tiny)
        with pytest.raises(DataError, match=r"1 corrupt images:\n  validation: val/images/val_0.JPEG \(FileNotFound"):
            prepare("tiny", source, data_dir=data_dir)
        assert prepare("tiny", source, data_dir=data_dir, skip_bad=1).counts == {"train": 6, "validation": 1}

    @pytest.mark.parametrize("path", ["../../../secret.JPEG", "/etc/passwd"])
    def test_annotated_paths_that_leave_the_folder_are_refused(self, tiny, path):
        (tiny / "val" / "val_annotations.txt").write_text(f"{path}\tn01\n")
        assert refusal(tiny).endswith(f", which is outside of {tiny}.")

    def test_malformed_annotations_are_named(self, tiny):
        annotations = tiny / "val" / "val_annotations.txt"
        annotations.write_text("val_0.JPEG\tn01\t0\t0\t8\t8\n\n")
        assert refusal(tiny) == f"{annotations}: line 2 is not a file name, a tab and a class."

    def test_unknown_class_in_the_annotations_is_refused(self, tiny):
        (tiny / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn03\t0\t0\t8\t8\n")
        assert refusal(tiny) == f"{tiny}: validation has classes that train lacks: n03."


class TestChannels:
    def test_colours_make_three(self, put, root):
        put(*numbered("cat", 3, "jpg"), *numbered("dog", 3))
        assert open_folder(root).channels == 3

    def test_grey_alone_makes_one(self, put, root, encode, data_dir):
        put(*numbered("cat", 3, "jpg"), *numbered("dog", 3), shape=(9, 9))
        (root / "cat" / "deep.png").write_bytes(encode(np.full((9, 9), 0x1234, np.uint16)))
        (root / "cat" / "bits.png").write_bytes(encode(np.eye(9, dtype=bool)))
        source = open_folder(root)
        assert source.channels == 1
        assert prepare("grey", source, data_dir=data_dir).image_shape == (9, 9, 1)

    def test_one_colour_image_among_grey_ones_makes_three(self, put, root, pixels, data_dir):
        put(*numbered("cat", 5), *numbered("dog", 5), shape=(9, 9))
        Image.fromarray(pixels(9, 9, 3)).save(root / "dog" / "04.png")
        source = open_folder(root)
        assert source.channels == 3
        assert source.remarks[1:] == ["Some images are grey, such as 'cat/00.png': they become RGB as the others."]
        for example in source.read("train"):
            if example.key == "cat/00.png":
                grey = np.repeat(pixels(9, 9, seed=0)[..., None], 3, axis=2)
                np.testing.assert_array_equal(decode(example.image, 3, None), grey)

    def test_photographs_of_any_kind_become_colours_of_one_size(self, put, root, encode, data_dir):
        put(*numbered("dog", 2))
        (root / "cat").mkdir()
        halves = Image.new("RGB", (40, 60), (200, 60, 20))
        halves.paste((0, 0, 0), (0, 30, 40, 60))  # below
        palette = Image.new("P", (25, 90), 1)
        palette.putpalette([0, 0, 0, 9, 8, 7])
        turned = Image.Exif()
        turned[0x0112] = 6  # to be turned clockwise
        kinds = {
            "a.jpg": encode(halves, "JPEG", quality=95, exif=turned),
            "b.jpg": encode(Image.new("L", (30, 50), 77), "JPEG"),
            "c.png": encode(Image.new("RGBA", (70, 30), (200, 60, 20, 9))),
            "d.png": encode(palette),
            "e.png": encode(Image.new("RGB", (24, 24), (1, 2, 3))),
        }
        for name, content in kinds.items():
            (root / "cat" / name).write_bytes(content)
        dataset = prepare("kinds", open_folder(root), 24, data_dir)
        assert dataset.image_shape == (24, 24, 3)
        images = dict(prepared_images(open_folder(root), dataset))
        expected = {"b.jpg": (77, 77, 77), "c.png": (200, 60, 20), "d.png": (9, 8, 7), "e.png": (1, 2, 3)}
        for name, colour in expected.items():
            np.testing.assert_array_equal(images[f"cat/{name}"], np.broadcast_to(colour, (24, 24, 3)))
        np.testing.assert_allclose(images["cat/a.jpg"][:, 16:], np.broadcast_to((200, 60, 20), (24, 8, 3)), atol=4)
        np.testing.assert_allclose(images["cat/a.jpg"][:, :8], 0, atol=4)

    def test_corrupt_images_are_left_to_the_store_to_name(self, put, root, data_dir):
        put(*numbered("cat", 5), *numbered("dog", 5), shape=(9, 9))
        (root / "dog" / "04.png").write_bytes(b"no image")
        (root / "dog" / "03.png").write_bytes(bomb())
        source = open_folder(root)
        assert source.channels == 1
        with pytest.raises(DataError, match="mine: 2 corrupt images:") as caught:
            prepare("mine", source, data_dir=data_dir)
        assert "dog/03.png (DecompressionBombError" in str(caught.value)
        assert "dog/04.png (UnidentifiedImageError" in str(caught.value)


def prepared_images(source, dataset):
    """Yields `(key, image)` of the prepared images of a source."""
    for split in dataset.counts:
        yield from zip((example.key for example in source.read(split)), dataset.split(split)[0], strict=True)


def bomb():
    """Returns a PNG of a few bytes that claims to be 50,000 pixels high and wide."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
