"""The decathlon through TFDS's own builder, from tiny archives in the layout of the real ones, without a network."""

import io
import json
import shutil
import signal
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from decathlon.__main__ import main
from decathlon.catalog import CATALOG, Entry
from decathlon.preparation import prepare
from decathlon.quiet import quiet_tensorflow
from decathlon.sources import SourceError
from decathlon.sources.tfds import open_tfds
from decathlon.store import open_dataset

NAME = "daimlerpedcls"
COUNTS = {"train": 7, "validation": 4, "test": 3}
CATEGORIES = [{"id": 20, "name": "pedestrian"}, {"id": 10, "name": "background"}]
DEVKIT = "robo.ox.ac.uk_vgg_shar_deca-1.0-devk-G2eEoZ4Q0_yo6N08A6z4uwiZ-FeU92uXxn_GTeLX_c.tar.gz"
DATA = "robot.ox.ac.uk_vgg_share_decat-1.0-datajsqSi9oCXYVckaeNtFs7GLwyLv17FGKgQeYsJ7PIPCU.tar.gz"
PROBE = ("www.robots.ox.ac.uk", 80)


@pytest.fixture(autouse=True)
def termination():
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def tfds():
    with quiet_tensorflow():
        import tensorflow_datasets
    return tensorflow_datasets


@pytest.fixture(scope="module")
def jpegs(encode, pixels):
    """{split: {file name: (JPEG, label)}}; shorter side 72, no two of the same shape."""
    made, number = {}, 0
    for split, folder in (("train", "train"), ("validation", "val"), ("test", "test")):
        made[split] = {}
        for i in range(COUNTS[split]):
            number += 1
            shape = (72, 72 + 5 * number) if number % 2 else (72 + 5 * number, 72)
            name = f"{NAME}/{folder}/{number:06}.jpg"
            made[split][name] = encode(pixels(*shape, 3, seed=number), "JPEG"), i % 2 if split != "test" else -1
    return made


@pytest.fixture
def downloads(data_dir):
    return data_dir / "tfds" / "downloads" / "visual_domain_decathlon"


@pytest.fixture
def pack(jpegs, downloads):
    """Returns a function that writes the archives, with some images replaced, or left out where they are `None`."""

    def write(changes=None):
        downloads.mkdir(parents=True, exist_ok=True)
        inner = io.BytesIO()
        with tarfile.open(downloads / DEVKIT, "w:gz") as devkit, tarfile.open(fileobj=inner, mode="w") as images:
            number = 0
            for split, label in (("train", "train"), ("validation", "val"), ("test", "test_stripped")):
                record = {"images": [], "categories": CATEGORIES}
                annotations = []
                for name, (jpeg, category) in jpegs[split].items():
                    number += 1
                    record["images"].append({"id": number, "file_name": f"data/{name}"})
                    annotations.append({"image_id": number, "category_id": CATEGORIES[category]["id"]})
                    contents = (changes or {}).get(name, jpeg)
                    if contents is not None:
                        add(images, name, contents)
                if split != "test":
                    record["annotations"] = annotations
                add(devkit, f"decathlon-1.0/annotations/{NAME}_{label}.json", json.dumps(record).encode())
        with tarfile.open(downloads / DATA, "w:gz") as data:
            add(data, f"{NAME}.tar", inner.getvalue())
        for archive in (DEVKIT, DATA):
            (downloads / f"{archive}.INFO").write_text("{}")

    return write


def add(archive, name, contents):
    member = tarfile.TarInfo(name)
    member.size = len(contents)
    archive.addfile(member, io.BytesIO(contents))


@pytest.fixture
def tiny_entry(monkeypatch):
    """The catalogue's entry with as many images as the tiny archives hold."""
    entry = replace(CATALOG[NAME], counts=COUNTS)
    monkeypatch.setitem(CATALOG, NAME, entry)
    return entry


@pytest.fixture
def run(data_dir, capsys):
    """Returns a function that runs `prepare` and returns the exit code and the last line of its errors."""

    def prepare_by_command(*options):
        code = main(["prepare", NAME, "--data-dir", str(data_dir), *options])
        return code, capsys.readouterr().err.rpartition("error: ")[2].strip()

    return prepare_by_command


def prepared_by_hand(jpeg, size):
    with Image.open(io.BytesIO(jpeg)) as image:
        width, height = image.size
        if width < height:
            resized = image.resize((size, round(height * size / 72)), Image.Resampling.BILINEAR)
            top = (resized.height - size) // 2
            return np.asarray(resized)[top : top + size]
        resized = image.resize((round(width * size / 72), size), Image.Resampling.BILINEAR)
        left = (resized.width - size) // 2
        return np.asarray(resized)[:, left : left + size]


def pairs(dataset, split):
    """Returns the images and labels of a split in an order that does not depend on that of TFDS."""
    images, labels = dataset.split(split)
    return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


@pytest.mark.usefixtures("tiny_entry")
class TestPrepare:
    def test_images_and_labels_are_those_of_the_archives(self, pack, jpegs, run, data_dir, connections):
        pack()
        assert run()[0] == 0
        dataset = open_dataset(NAME, data_dir=data_dir)
        assert dataset.image_shape == (64, 64, 3)
        assert dataset.counts == COUNTS
        assert dataset.class_names == ["0", "1"]
        assert dataset.evaluation == "validation"
        assert dataset.meta["source"].startswith(f"TFDS visual_domain_decathlon/{NAME}/")
        for split, files in jpegs.items():
            expected = sorted((prepared_by_hand(jpeg, 64).tobytes(), label) for jpeg, label in files.values())
            assert pairs(dataset, split) == expected
        assert connections == [PROBE]

    def test_labels_of_the_test_split_are_all_unknown(self, pack, run, data_dir):
        pack()
        run()
        assert open_dataset(NAME, data_dir=data_dir).split("test")[1].tolist() == [-1, -1, -1]

    def test_another_size_needs_the_archives_no_more(self, pack, run, data_dir, downloads, connections):
        pack()
        assert run()[0] == 0
        shutil.rmtree(downloads.parent, ignore_errors=True)
        connections.clear()
        assert run("--size", "16")[0] == 0
        assert open_dataset(NAME, 16, data_dir).counts == COUNTS
        assert not connections

    def test_two_rooms_hold_the_same_in_the_same_order(self, pack, run, tiny_entry, data_dir, downloads, tmp_path):
        pack()
        run("--size", "8")
        copy = tmp_path / "two" / downloads.relative_to(data_dir)
        shutil.copytree(downloads, copy)
        other = prepare(NAME, open_tfds(tiny_entry, tmp_path / "two"), 8, tmp_path / "two")
        assert other.fingerprint == open_dataset(NAME, data_dir=data_dir).fingerprint

    def test_corrupt_image_is_named_and_left_out_if_asked(self, pack, jpegs, run, data_dir):
        bad = f"{NAME}/train/000003.jpg"
        pack({bad: jpegs["train"][bad][0][:1000]})
        code, error = run()
        assert code == 2
        assert error.startswith(f"{NAME}: 1 corrupt images:\n  train: {bad} (OSError: image file is truncated")
        assert error.endswith("To leave them out: --skip-bad 1")
        assert run("--skip-bad", "1")[0] == 0
        dataset = open_dataset(NAME, data_dir=data_dir)
        assert dataset.counts == {**COUNTS, "train": 6}
        rest = [
            (prepared_by_hand(jpeg, 64).tobytes(), label) for n, (jpeg, label) in jpegs["train"].items() if n != bad
        ]
        assert pairs(dataset, "train") == sorted(rest)

    def test_missing_and_corrupt_images_share_what_may_be_left_out(self, pack, run, data_dir):
        pack({f"{NAME}/train/000003.jpg": None, f"{NAME}/val/000009.jpg": b"no image"})
        code, error = run()
        assert code == 2
        assert error.startswith(f"{NAME}: train must have 7 images, the source has 6. If an archive is truncated")
        assert error.endswith("--skip-bad 1")
        code, error = run("--skip-bad", "1")
        assert code == 2
        assert f"{NAME}: 1 corrupt and 1 missing images" in error
        assert run("--skip-bad", "2")[0] == 0
        assert open_dataset(NAME, data_dir=data_dir).counts == {"train": 6, "validation": 3, "test": 3}

    @pytest.mark.parametrize("archive", [DEVKIT, DATA])
    def test_truncated_archive_names_the_set_and_the_remedy_works(self, pack, run, downloads, archive):
        pack()
        whole = (downloads / archive).read_bytes()
        (downloads / archive).write_bytes(whole[: len(whole) // 2])
        code, error = run()
        assert code == 2
        assert error.startswith(f"{NAME}: TFDS could not read the archives in {downloads.parent}: ")
        extracted = downloads.parent / "extracted"
        assert error.endswith(f"If one is truncated, replace it, delete {extracted} and run again.")
        (downloads / archive).write_bytes(whole)
        shutil.rmtree(extracted, ignore_errors=True)
        assert run()[0] == 0

    def test_remedy_for_images_that_are_missing_works(self, pack, run, data_dir, downloads):
        pack({f"{NAME}/test/000014.jpg": None})
        code, error = run()
        assert code == 2
        stale = [data_dir / "tfds" / "visual_domain_decathlon" / NAME, downloads.parent / "extracted"]
        assert all(str(path) in error for path in stale)
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)
        pack()
        assert run()[0] == 0


class TestAgainstTheCatalogue:
    def test_fewer_images_than_the_catalogue_says_are_refused(self, pack, run, data_dir):
        pack()
        code, error = run()
        assert code == 2
        assert error.startswith(f"{NAME}: train must have 23,520 images, the source has 7. If an archive is truncated")
        assert error.endswith("To go on with what is there: --skip-bad 23513")
        assert [path.name for path in data_dir.iterdir()] == ["tfds"]

    def test_more_images_than_the_catalogue_says_are_refused(self, pack, run, monkeypatch):
        pack()
        monkeypatch.setitem(CATALOG, NAME, replace(CATALOG[NAME], counts={**COUNTS, "validation": 3}))
        assert run("--skip-bad", "5") == (2, f"{NAME}: validation must have 3 images, the source has 4.")

    def test_another_number_of_classes_is_refused(self, pack, run, tiny_entry, monkeypatch):
        pack()
        monkeypatch.setitem(CATALOG, NAME, replace(tiny_entry, classes=3))
        assert run() == (2, f"{NAME} must have 3 classes. The source has 2.")


class TestWithoutNetwork:
    def test_absent_archives_are_reported_after_one_probe(self, run, data_dir, downloads, connections):
        code, error = run()
        assert code == 2
        assert error.startswith(
            f"{NAME}: www.robots.ox.ac.uk cannot be reached (tried for 5 s), and {downloads} does not"
        )
        assert error.endswith("Prepare it from a local copy with --npz or --folder.")
        assert connections == [PROBE]
        assert [path.name for path in data_dir.iterdir()] == ["tfds"]

    def test_one_archive_of_two_is_not_enough_and_the_other_is_named(self, pack, run, downloads, connections):
        pack()
        for name in (DATA, f"{DATA}.INFO"):
            (downloads / name).unlink()
        code, error = run()
        assert code == 2
        assert "does not hold http://www.robots.ox.ac.uk/~vgg/share/decathlon-1.0-data.tar.gz." in error
        assert connections == [PROBE]

    def test_probe_waits_no_longer_than_it_says(self, run, monkeypatch, connections):
        timeouts = []

        def refuse(address, timeout):
            timeouts.append(timeout)
            raise TimeoutError

        monkeypatch.setattr("socket.create_connection", refuse)
        assert run()[0] == 2
        assert timeouts == [5]
        assert not connections

    def test_proxy_is_probed_where_there_is_one(self, run, monkeypatch, connections):
        monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
        assert run()[0] == 2
        assert connections == [("proxy.example", 3128)]

    def test_arguments_are_checked_before_anything_is_fetched(self, run, connections):
        assert run("--size", "5000") == (2, "`size` must be a whole number in 8..1024. Received: size=5000")
        assert run("--skip-bad", "-1") == (2, "`skip_bad` must be a whole number of at least 0. Received: skip_bad=-1")
        assert not connections


def test_package_that_tfds_lacks_is_named(tfds, data_dir, monkeypatch):
    def need_lmdb(*_args, **_options):
        raise ImportError("No module named 'lmdb'")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", need_lmdb)
    with pytest.raises(SourceError, match="lsun: TFDS needs a package that is not installed: No module named 'lmdb'"):
        open_tfds(CATALOG["lsun"], data_dir)


def test_grey_set_without_file_names_is_read_in_one_channel(tfds, data_dir):
    """TFDS's dummy of MNIST goes the way of MNIST."""
    builder = tfds.testing.DummyMnist(data_dir=str(data_dir / "tfds"))
    builder.download_and_prepare()
    entry = Entry(
        "mnist", 10, {"train": 20, "test": 20}, tfds_name="dummy_mnist", url="http://host.invalid", evaluation="test"
    )
    source = open_tfds(entry, data_dir)
    assert (source.channels, source.counts, source.evaluation) == (1, entry.counts, "test")
    assert source.class_names == [str(digit) for digit in range(10)]
    examples = list(source.read("train"))
    assert [example.key for example in examples] == [f"train[{i}]" for i in range(20)]
    assert prepare("mnist", source, data_dir=data_dir).image_shape == (28, 28, 1)
