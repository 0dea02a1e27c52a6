"""What is made anew when it is opened: when that is done, and that nothing else is removed for it."""

import json
import os
import platform

import numpy as np
import pytest

from decathlon import preparation, store
from decathlon.preparation import prepare
from decathlon.store import DataError, open_dataset, open_like

from .helpers import listing, rewrite


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
        with pytest.raises(DataError, match=r"photos-32 was not removed: it holds files of no dataset, 'holiday.jpg'"):
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
            preparation.open_or_make(data_dir, directory, lambda _: False, lambda: None)
        assert precious.exists()

    def test_a_file_of_the_name_is_kept(self, data_dir):
        data_dir.mkdir()
        (data_dir / "digits-8").write_text("a file")
        with pytest.raises(DataError, match="was not removed: it is no directory of a dataset"):
            open_dataset("digits", data_dir=data_dir)
        assert (data_dir / "digits-8").read_text() == "a file"

    def test_a_leftover_with_foreign_files_is_kept(self, small, data_dir):
        leftover = data_dir / f".partial-mine@{platform.node()}@00000000@{os.getpid()}"
        leftover.mkdir(parents=True)
        (leftover / "notes.txt").touch()
        (data_dir / ".partial-a@b@c@d").mkdir()
        prepare("mine", small, data_dir=data_dir)
        assert listing(data_dir) == sorted([leftover.name, ".partial-a@b@c@d", "mine-8"])


class TestBundled:
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
        make = preparation.open_bundled

        def overtaken(name, size):
            with monkeypatch.context() as other:
                other.setattr(preparation, "RUN", "00000001")
                other.setattr(preparation, "open_bundled", make)
                open_dataset(name, size, data_dir)
            return make(name, size)

        monkeypatch.setattr(preparation, "open_bundled", overtaken)
        assert open_dataset("digits", data_dir=data_dir).check() == []
        assert listing(data_dir) == ["digits-8"]
