import errno
import os
import stat

import numpy as np
import pytest

from kls.utils import files
from kls.utils.files import PARTIAL, atomic_write, remove_partial


def left(directory):
    return sorted(path.name for path in directory.iterdir())


def test_the_content_takes_the_place_of_the_old_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "file.npz"
    for value in (1, 2):
        with atomic_write(path) as file:
            np.savez(file, value=value)
            assert len(left(path.parent)) == value
        assert left(path.parent) == ["file.npz"]
        with np.load(path) as found:
            assert found["value"] == value


def test_what_is_written_by_the_name_of_the_file_counts(tmp_path):
    with atomic_write(tmp_path / "a.weights.h5") as file:
        assert str(file.name).endswith(".weights.h5")
        with open(file.name, "wb") as other:
            other.write(b"by its name")
    assert (tmp_path / "a.weights.h5").read_bytes() == b"by its name"
    assert left(tmp_path) == ["a.weights.h5"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOENT, "gone", "/other")])
def test_after_an_error_the_old_file_is_all_that_is_there(tmp_path, error):
    def write(file):
        file.write(b"new")
        raise error

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(type(error)) as raised, atomic_write(path) as file:
        write(file)
    assert raised.value is error
    assert (left(tmp_path), path.read_bytes()) == (["file"], b"old")


def test_two_at_once_write_each_its_own(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"first")
        with atomic_write(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert (left(tmp_path), path.read_bytes()) == (["file"], b"first")


def test_a_link_in_the_way_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0")
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f"{PARTIAL}{os.getpid()}-0-file").symlink_to(victim)
    with pytest.raises(FileExistsError, match=r"file'$"), atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert victim.read_bytes() == b"precious"


def test_a_full_disk_names_the_path(tmp_path):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"), atomic_write(path) as file:
        full(file)
    assert left(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match="taken"), atomic_write(tmp_path / "taken" / "file"):
        pass


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    with atomic_write(tmp_path / "file") as file:
        file.write(b"1")
    (tmp_path / "plain").write_bytes(b"1")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "logits").mkdir()
    for name in ("keep.npz", f"{PARTIAL}1-a-keep.npz", f"logits/{PARTIAL}2-b-test.npz", "logits/test.npz"):
        (tmp_path / name).write_bytes(b"1")
    remove_partial(tmp_path)
    assert (left(tmp_path), left(tmp_path / "logits")) == (["keep.npz", "logits"], ["test.npz"])
