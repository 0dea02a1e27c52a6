"""The command line: what it prints, its exit codes, and what it leaves behind."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import decathlon
from decathlon import preparation, store
from decathlon.__main__ import main
from decathlon.catalog import CATALOG

from .helpers import listing

STOPPED_MIDWAY = """
import signal, sys, time
import numpy as np
from decathlon.__main__ import main
from decathlon.sources import Example, Source, npz

signal.signal(signal.SIGINT, signal.default_int_handler)  # children of a shell's background jobs ignore it

def read(split):
    for i in range(200):
        yield Example(str(i), np.full((64, 64, 3), i, np.uint8), i % 2)
    print("writing", flush=True)
    time.sleep(600)

npz.open_npz = lambda path: Source("slow", ["a", "b"], 3, {"train": 400}, "train", read)
sys.exit(main(["prepare", "half", "--npz", "any.npz", "--data-dir", sys.argv[1]]))
"""
DRAWN = (
    "note: There is no validation folder: 4 of 20 training images were drawn for validation, the same share of each "
    "class (seed 0).\n"
)
LIMITED = """
import resource, sys
from decathlon.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
sys.exit(main(["prepare", "big", "--npz", sys.argv[2], "--data-dir", sys.argv[1]]))
"""


@pytest.fixture(autouse=True)
def termination():
    """Puts back the handler that the command line replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def run(data_dir, capsys):
    """Returns a function that runs a command and returns its exit code, output and errors."""

    def run_command(*arguments):
        code = main([*map(str, arguments), "--data-dir", str(data_dir)])
        return code, *capsys.readouterr()

    return run_command


@pytest.fixture
def npz(tmp_path, pixels):
    path = tmp_path / "mine.npz"
    labels = np.arange(20) % 2
    np.savez(path, x_train=pixels(20, 9, 9), y_train=labels, x_test=pixels(6, 9, 9, seed=1), y_test=labels[:6])
    return path


@pytest.fixture
def folder(tmp_path, pixels):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(pixels(9, 9, 3, seed=i)).save(tmp_path / "images" / name / f"{i}.png")
    return tmp_path / "images"


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(decathlon.__file__).parents[1],
    )


class TestList:
    def test_without_anything_prepared_it_shows_the_command_for_each(self, run, data_dir):
        code, output, _ = run("list")
        assert code == 0
        rows = {row.split("│")[1].strip(): row for row in output.splitlines() if row.startswith("│")}
        assert set(CATALOG) <= set(rows)
        assert "train 3,334, validation 3,333, test" in rows["aircraft"]
        assert "TFDS visual_domain_decathlon/aircraft" in rows["aircraft"]
        assert "python -m decathlon prepare aircraft" in rows["aircraft"]
        assert "made on first use" in rows["glyphs"]
        assert "tiny_imagenet --folder DIR" in " ".join(output.replace("│", " ").split())
        assert listing(data_dir) == []

    def test_prepared_sets_are_shown_with_their_sizes_and_own_ones_too(self, run, npz):
        run("prepare", "mine", "--npz", npz)
        run("prepare", "mine", "--npz", npz, "--size", "16")
        run("prepare", "digits")
        code, output, _ = run("list")
        rows = {row.split("│")[1].strip(): row for row in output.splitlines() if row.startswith("│")}
        assert code == 0
        assert "│ 2 " in rows["mine"]
        assert "train 20, test 6" in rows["mine"]
        assert "npz mine.npz" in rows["mine"]
        assert "at 9, 16 px" in rows["mine"]
        assert "at 8 px" in rows["digits"]

    def test_it_does_not_make_outdated_sets_anew(self, run, data_dir, monkeypatch):
        run("prepare", "digits")
        before = (data_dir / "digits-8" / "meta.json").read_text()
        monkeypatch.setattr(preparation, "BUNDLED_VERSION", "2")
        code, output, _ = run("list")
        assert code == 0
        assert "version 1" in output
        assert (data_dir / "digits-8" / "meta.json").read_text() == before

    def test_damaged_record_is_an_error_and_the_others_are_shown(self, run, npz, data_dir):
        for name in ("mine", "yours"):
            run("prepare", name, "--npz", npz)
        (data_dir / "mine-9" / "meta.json").write_text("{")
        code, output, error = run("list")
        assert code == 2
        assert f"delete {data_dir / 'mine-9'} and prepare it anew" in error
        assert "yours" in output

    def test_as_a_module_it_takes_the_environments_data_directory(self, data_dir):
        done = subprocess.run(
            [sys.executable, "-m", "decathlon", "list"],
            capture_output=True,
            text=True,
            env={**os.environ, "KLS_DATA": str(data_dir)},
            cwd=Path(decathlon.__file__).parents[1],
            check=True,
        )
        assert "vgg-flowers" in done.stdout
        assert done.stderr == ""


class TestPrepare:
    def test_npz_is_prepared_and_the_outcome_told(self, run, npz, data_dir):
        expected = f"mine: 2 classes, train 20, test 6, 9 px -> {data_dir / 'mine-9'}\n"
        assert run("prepare", "mine", "--npz", npz) == (0, expected, "")
        assert store.open_dataset("mine", data_dir=data_dir).check() == []

    def test_folder_is_prepared_at_the_size_asked_for(self, run, folder, data_dir):
        expected = f"{DRAWN}pets: 2 classes, train 16, validation 4, 12 px -> {data_dir / 'pets-12'}\n"
        assert run("prepare", "pets", "--folder", folder, "--size", "12") == (0, expected, "")

    def test_what_is_left_out_is_counted_and_named(self, run, folder, data_dir):
        for i in range(7):
            Image.new("L", (9, 9)).save(folder / "cat" / f"{i}.gif")
        (folder / ".ipynb_checkpoints").mkdir()
        code, output, _ = run("prepare", "pets", "--folder", folder)
        assert code == 0
        assert output.startswith(
            f"{DRAWN}note: Files of {folder} that are left out: 7 .gif.\npets: 2 classes, train 16"
        )
        assert store.open_dataset("pets", data_dir=data_dir).meta["left_out"] == {".gif": 7}

    def test_several_bundled_sets_are_prepared_at_once(self, run, data_dir):
        code, output, _ = run("prepare", "digits", "noise", "--size", "8")
        assert code == 0
        assert output.splitlines() == [
            f"digits: 10 classes, train 1,437, validation 360, 8 px -> {data_dir / 'digits-8'}",
            f"noise: 2 classes, train 2,000, validation 1,000, 8 px -> {data_dir / 'noise-8'}",
        ]

    def test_images_left_out_are_told(self, run, folder, data_dir):
        (folder / "cat" / "3.png").write_bytes(b"no image")
        code, _, error = run("prepare", "pets", "--folder", folder)
        assert code == 2
        assert error.startswith("error: pets: 1 corrupt images:\n  train: cat/3.png (UnidentifiedImageError")
        code, output, _ = run("prepare", "pets", "--folder", folder, "--skip-bad", "1")
        assert code == 0
        assert output.startswith(f"{DRAWN}pets: 2 classes, train 15, validation 4, 9 px, 1 corrupt left out -> ")

    def test_part_of_a_set_of_the_catalogue_is_noted(self, run, npz):
        code, output, _ = run("prepare", "mnist", "--npz", npz)
        assert code == 0
        assert output.endswith(
            "note: the catalogue's mnist has 60,000 training images in 10 classes; tables will say that this one "
            "differs.\n"
        )

    def test_progress_is_drawn_where_somebody_watches(self, run, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        _, _, screen = run("prepare", "digits")
        assert "digits train" in screen
        assert "1437/1437" in screen
        assert "images/s" in screen

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nosuch"], "'nosuch' is not in the catalogue (aircraft, cifar100, "),
            (["nosuch"], "Your own images: --folder DIR or --npz FILE."),
            (["one", "two", "--folder", "{folder}"], "--folder and --npz prepare one dataset. Received: one two"),
            (["one", "two", "--npz", "{npz}"], "--folder and --npz prepare one dataset. Received: one two"),
            (["mine", "--npz", "{npz}", "--size", "7"], "`size` must be a whole number in 8..1024. Received: size=7"),
            (
                ["mine", "--npz", "{npz}", "--size", "1025"],
                "`size` must be a whole number in 8..1024. Received: size=1025",
            ),
            (["noise", "--size", "0"], "`size` must be a whole number in 8..1024. Received: size=0"),
            (["noise", "--size", "-1"], "`size` must be a whole number in 8..1024. Received: size=-1"),
            (["noise", "--size", "1000000"], "`size` must be a whole number in 8..1024. Received: size=1000000"),
            (["photos", "--size", "500"], "photos: patches are at most 214 pixels wide. Received: size=500."),
            (
                ["mine", "--npz", "{npz}", "--skip-bad", "-1"],
                "`skip_bad` must be a whole number of at least 0. Received: skip_bad=-1",
            ),
            (["../mine", "--npz", "{npz}"], "`name` must consist of letters, digits, '-', '_' and '.'. Received: "),
            (["mine", "--npz", "absent.npz"], "absent.npz: not a readable .npz file"),
            (["mine", "--folder", "absent"], "absent: no such folder."),
            (["tiny_imagenet"], "tiny_imagenet comes as a folder: download http://cs231n.stanford.edu/tiny-imagenet"),
            (
                ["digits", "--npz", "{npz}"],
                "digits is bundled. Give your own images another name.",
            ),
            (["photos", "--folder", "{folder}"], "photos is bundled."),
        ],
    )
    def test_wrong_input_is_refused_and_nothing_made(self, run, npz, folder, data_dir, arguments, message):
        code, output, error = run("prepare", *[part.format(npz=npz, folder=folder) for part in arguments])
        assert (code, output) == (2, "")
        assert error.startswith("error: ")
        assert message in error
        assert listing(data_dir) == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "required: list | prepare | check"),
            (["prepare"], "required: NAME"),
            (["prepare", "mine", "--folder", "a", "--npz", "b"], "argument --npz: not allowed with argument --folder"),
            (["prepare", "mine", "--size", "big"], "argument --size: invalid int value: 'big'"),
            (["delete", "mine"], "invalid choice: 'delete'"),
        ],
    )
    def test_malformed_command_is_refused(self, capsys, arguments, message):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err

    def test_prepared_set_is_refused(self, run, npz, data_dir):
        run("prepare", "mine", "--npz", npz)
        for size in ([], ["--size", "9"]):
            code, _, error = run("prepare", "mine", "--npz", npz, *size)
            assert code == 2
            assert error == f"error: {data_dir / 'mine-9'} is there already. To prepare it anew, delete it first.\n"
        assert listing(data_dir) == ["mine-9"]

    def test_a_prepared_set_is_refused_before_its_source_is_opened(self, run, data_dir, connections):
        (data_dir / "aircraft-64").mkdir(parents=True)
        code, _, error = run("prepare", "aircraft")
        assert code == 2
        assert "aircraft-64 is there already" in error
        assert not connections

    def test_one_that_fails_or_is_there_does_not_stop_the_others(self, run, data_dir):
        assert run("prepare", "digits")[0] == 0
        code, out, error = run("prepare", "digits", "mine", "noise")
        assert code == 2
        assert out.startswith("digits: prepared already at 8 px\nnoise: 2 classes")
        assert "'mine' is not in the catalogue" in error
        assert listing(data_dir) == ["digits-8", "noise-32"]

    def test_a_data_directory_that_is_a_file_is_an_error(self, run, npz, data_dir):
        data_dir.write_text("a file")
        code, _, error = run("prepare", "mine", "--npz", npz)
        assert code == 2
        assert error == f"error: File exists: {data_dir}. Nothing was kept.\n"


class TestNothingHalfMade:
    def test_full_disk_is_told_and_nothing_kept(self, run, npz, data_dir, monkeypatch):
        def no_space(*_args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(np, "save", no_space)
        expected = f"error: No space left on device: {data_dir}. Nothing was kept.\n"
        assert run("prepare", "mine", "--npz", npz) == (2, "", expected)
        assert listing(data_dir) == []

    def test_limit_on_file_sizes_is_told_and_nothing_kept(self, tmp_path, pixels, data_dir):
        labels = np.zeros(60, int)
        np.savez(
            tmp_path / "big.npz",
            x_train=pixels(60, 32, 32, 3),
            y_train=labels,
            x_test=pixels(60, 32, 32, 3),
            y_test=labels,
        )
        process = start(LIMITED, data_dir, tmp_path / "big.npz")
        _, error = process.communicate()
        assert process.returncode == 2
        assert error == f"error: File too large: {data_dir}. Nothing was kept.\n"
        assert listing(data_dir) == []

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_stopped_process_cleans_up(self, data_dir, stop):
        process = start(STOPPED_MIDWAY, data_dir)
        try:
            assert process.stdout.readline() == "writing\n"
            assert listing(data_dir)[0].startswith(".partial-half@")
            process.send_signal(stop)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 130
        assert error == "\nStopped. Nothing half-made was kept.\n"
        assert listing(data_dir) == []


class TestCheck:
    def test_whole_sets_are_ok(self, run, npz):
        run("prepare", "mine", "--npz", npz)
        run("prepare", "mine", "--npz", npz, "--size", "16")
        run("prepare", "digits")
        assert run("check") == (0, "digits 8 px: ok\nmine 9 px: ok\nmine 16 px: ok\n", "")
        assert run("check", "digits") == (0, "digits 8 px: ok\n", "")

    def test_damaged_arrays_are_named_and_the_others_still_checked(self, run, npz, data_dir):
        run("prepare", "mine", "--npz", npz)
        run("prepare", "yours", "--npz", npz)
        path = data_dir / "mine-9"
        contents = bytearray((path / "train.images.npy").read_bytes())
        contents[200] ^= 1
        (path / "train.images.npy").write_bytes(contents)
        (path / "mean.npy").unlink()
        code, output, _ = run("check")
        assert code == 1
        assert output.splitlines() == [
            f"mine 9 px: DAMAGED: mean.npy, train.images.npy; delete {path} and prepare it anew",
            "yours 9 px: ok",
        ]

    def test_a_damaged_record_does_not_stop_the_others(self, run, npz, data_dir):
        for name in ("first", "mine", "old", "yours"):
            run("prepare", name, "--npz", npz)
        (data_dir / "first-9" / "meta.json").write_text("{")
        record = data_dir / "mine-9" / "meta.json"
        record.write_text(record.read_text().replace('"0"', '"7"'))
        record = data_dir / "old-9" / "meta.json"
        record.write_text(record.read_text().replace('"hash"', '"unknown"'))
        code, output, _ = run("check")
        assert code == 1
        assert output.splitlines() == [
            f"first 9 px: DAMAGED: {data_dir / 'first-9' / 'meta.json'} is damaged: delete {data_dir / 'first-9'} and "
            "prepare it anew.",
            f"mine 9 px: DAMAGED: meta.json; delete {data_dir / 'mine-9'} and prepare it anew",
            f"old 9 px: DAMAGED: meta.json; delete {data_dir / 'old-9'} and prepare it anew",
            "yours 9 px: ok",
        ]

    @pytest.mark.parametrize("name", ["aircraft", "nosuch", "digits"])
    def test_set_that_is_not_prepared_is_an_error_with_its_command(self, run, name):
        code, output, error = run("check", name)
        assert (code, output) == (2, "")
        assert error.startswith(f"error: {name} is not prepared. Run: python -m decathlon prepare {name}")

    def test_empty_directory_has_nothing_to_check(self, run, data_dir):
        error = f"error: {data_dir} holds no prepared dataset: there is nothing to check.\n"
        assert run("check") == (2, "", error)
