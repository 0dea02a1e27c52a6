import numpy as np
import pytest
from PIL import Image

import decathlon
from decathlon.sources.npz import open_npz
from kls.study.data import as_dataset, open_datasets, open_ood, open_others, open_sources
from kls.study.plan import PlanError


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory, prepare_random):
    """Datasets of random images: `one`, `two` and `dots` of 8 pixels, `large` and `hues` of other shapes."""
    directory = tmp_path_factory.mktemp("prepared_dir")
    for name in ("one", "two", "dots", "train"):
        prepare_random(name, directory, train=30)
    prepare_random("large", directory, shape=(16, 16, 3))
    prepare_random("hues", directory, shape=(8, 8, 3))
    return directory


@pytest.fixture
def one(prepared_dir):
    return decathlon.open("one", data_dir=prepared_dir)


@pytest.fixture
def two(prepared_dir):
    return decathlon.open("two", data_dir=prepared_dir)


@pytest.fixture
def copies(prepared_dir, one):
    """A dataset of which 2 of 100 training images, and none of the others, are test images of `one`."""
    if not (prepared_dir / "copies-8").exists():
        rng = np.random.default_rng(0)
        train, test = (rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8) for count in (100, 20))
        train[[3, 9]] = one.split("test")[0][:2]
        labels = {"y_train": np.arange(100) % 2, "y_test": np.arange(20) % 2}
        np.savez(prepared_dir / "copies.npz", x_train=train, x_test=test, **labels)
        decathlon.prepare("copies", open_npz(prepared_dir / "copies.npz"), data_dir=prepared_dir)
    return decathlon.open("copies", data_dir=prepared_dir)


class TestOpenDatasets:
    def test_each_set_is_opened_once(self, prepared_dir):
        opened = open_datasets(["two", "one", "two"], None, prepared_dir)
        assert list(opened) == ["two", "one"]
        assert {name: dataset.name for name, dataset in opened.items()} == {"two": "two", "one": "one"}

    def test_absent_sets_are_listed_in_one_error_with_their_commands(self, prepared_dir):
        with pytest.raises(PlanError) as error:
            open_datasets(["mnist", "one", "mine", "tiny_imagenet"], None, prepared_dir)
        lines = str(error.value).splitlines()
        assert len(lines) == 4
        assert "mnist is not prepared. Run: python -m decathlon prepare mnist" in lines[1]
        assert "mine is not prepared. Run: python -m decathlon prepare mine --folder DIR" in lines[2]
        assert "tiny_imagenet is not prepared. Run: python -m decathlon prepare tiny_imagenet --folder DIR" in lines[3]

    def test_a_size_at_which_a_set_is_not_prepared(self, prepared_dir):
        with pytest.raises(PlanError, match=r"one is not prepared at 12 pixels. Run: .* prepare one .*--size 12"):
            open_datasets(["one"], 12, prepared_dir)


class TestOpenOOD:
    def test_one_list_is_for_all_datasets_but_of_the_own_images(self, one, two, prepared_dir):
        opened = open_ood(["dots", "two", "one", "dots"], [one, two], prepared_dir)
        assert {name: list(others) for name, others in opened.items()} == {
            "one": ["dots", "two"],
            "two": ["dots", "one"],
        }
        assert opened["one"]["dots"].fingerprint == decathlon.open("dots", data_dir=prepared_dir).fingerprint

    def test_a_mapping_names_the_sets_of_each(self, one, two, prepared_dir):
        opened = open_ood({"one": ("large", "two"), "two": ("dots", "two")}, [one, two], prepared_dir)
        assert {name: list(others) for name, others in opened.items()} == {"one": ["large", "two"], "two": ["dots"]}

    def test_a_dataset_that_is_no_key_of_a_mapping_has_none(self, one, two, prepared_dir):
        assert open_ood({"one": ["dots"]}, [one, two], prepared_dir)["two"] == {}

    @pytest.mark.parametrize("names", [(), {}])
    def test_no_names_open_nothing(self, one, prepared_dir, names):
        assert open_ood(names, [one], prepared_dir) == {"one": {}}

    def test_of_several_sizes_that_of_the_id_images_is_opened(self, one, prepared_dir, tmp_path):
        other = decathlon.open("large", data_dir=prepared_dir)
        np.savez(
            tmp_path / "sizes.npz",
            **{f"x_{part}": other.split(part)[0] for part in ("train", "test")},
            **{f"y_{part}": other.split(part)[1] for part in ("train", "test")},
        )
        for size in (8, 16):
            decathlon.prepare("sizes", open_npz(tmp_path / "sizes.npz"), size, tmp_path)
        assert open_ood(["sizes"], [one], tmp_path)["one"]["sizes"].image_shape == (8, 8, 3)

    @pytest.mark.parametrize("names", [["one"], {"one": ["dots", "one"]}])
    def test_the_only_dataset_to_train_on_is_refused(self, one, prepared_dir, names):
        with pytest.raises(PlanError, match=r"--ood one: .* network of one: it is the same dataset\.$"):
            open_ood(names, [one], prepared_dir)

    def test_the_evaluation_split_alone_is_compared(self, one, copies, prepared_dir):
        assert list(open_ood(["copies"], [one], prepared_dir)["one"]) == ["copies"]

    def test_a_set_called_like_a_split_is_refused(self, one, prepared_dir):
        with pytest.raises(PlanError, match="--ood train: a dataset of that name cannot be told from a split"):
            open_ood(["dots", "train"], [one], prepared_dir)

    def test_absent_sets_are_listed_in_one_error_with_flag_and_commands(self, one, prepared_dir):
        with pytest.raises(PlanError) as error:
            open_ood(["svhn_cropped", "dots", "mine"], [one], prepared_dir)
        assert str(error.value).startswith("--ood")
        for name in ("svhn_cropped", "mine"):
            assert f"{name} is not prepared. Run: python -m decathlon prepare {name}" in str(error.value)


class TestOpenOthers:
    def test_sets_are_opened_in_the_order_of_their_names(self, one, prepared_dir):
        opened = open_others(("large", "dots"), one, prepared_dir)
        assert [dataset.name for dataset in opened.values()] == list(opened) == ["large", "dots"]

    def test_the_dataset_to_train_on_is_refused(self, one, prepared_dir):
        with pytest.raises(PlanError, match=r"--outliers one: .* network of one: it is the same dataset\.$"):
            open_others(("dots", "one"), one, prepared_dir)

    def test_training_images_that_are_id_images_are_refused(self, one, copies, prepared_dir):
        match = r"--outliers copies: .*: 2 of its 100 train images are among those of one\.$"
        with pytest.raises(PlanError, match=match):
            open_others(("copies",), one, prepared_dir)

    def test_absent_sets_are_listed_in_one_error_with_flag_and_commands(self, one, prepared_dir):
        with pytest.raises(PlanError) as error:
            open_others(("mnist", "dots", "mine"), one, prepared_dir)
        assert str(error.value).startswith("--outliers")
        for name in ("mnist", "mine"):
            assert f"{name} is not prepared. Run: python -m decathlon prepare {name}" in str(error.value)

    def test_a_name_that_is_none_is_refused(self, one, prepared_dir):
        with pytest.raises(PlanError, match="--outliers"):
            open_others(("dots", ""), one, prepared_dir)


class TestOpenSources:
    def test_all_that_a_study_reads_is_opened(self, prepared_dir):
        read = {"two": ("large", "dots", "large")}
        sources = open_sources(["one", "two"], None, prepared_dir, {"one": ["dots"]}, read)
        assert [*sources.datasets] == ["one", "two"]
        assert {name: [*of] for name, of in sources.ood.items()} == {"one": ["dots"], "two": []}
        assert {place: other.name for place, other in sources.others.items()} == {
            ("two", "large"): "large",
            ("two", "dots"): "dots",
        }

    @pytest.mark.parametrize("ood", [["mine", "mnist"], {"one": ["mine", "dots"]}])
    def test_all_absent_sets_are_listed_in_one_error(self, prepared_dir, ood):
        with pytest.raises(PlanError) as error:
            open_sources(["mnist", "one"], None, prepared_dir, ood, {"one": ["tiny_imagenet"]})
        heading, *lines = str(error.value).splitlines()
        assert heading == "datasets have to be prepared first:"
        assert [line.split()[0] for line in lines] == ["mnist", "mine", "tiny_imagenet"]


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        rng = np.random.default_rng(0)
        for name in ("cats", "dogs"):
            (tmp_path / "pets" / name).mkdir(parents=True)
            for number in range(5):
                pixels = rng.integers(0, 256, (12 + number, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
        return tmp_path / "pets"

    def test_it_is_prepared_once_and_said(self, folder, tmp_path, capsys):
        dataset = as_dataset(folder, 8, tmp_path / "data")
        assert dataset.name.startswith("pets.")
        assert dataset.counts == {"train": 8, "validation": 2}
        assert (
            f"8 train, 2 validation images of 2 classes, prepared at 8 px in {dataset.path}" in capsys.readouterr().out
        )
        assert as_dataset(str(folder), 8, tmp_path / "data").fingerprint == dataset.fingerprint
        assert capsys.readouterr().out == ""

    def test_images_of_several_sizes_become_64_pixels(self, folder, tmp_path):
        assert as_dataset(folder, None, tmp_path / "data").image_shape == (64, 64, 3)

    def test_other_contents_are_another_dataset(self, folder, tmp_path):
        first = as_dataset(folder, 8, tmp_path / "data")
        Image.new("RGB", (9, 9)).save(folder / "cats" / "0.png")
        assert as_dataset(folder, 8, tmp_path / "data").name != first.name

    @pytest.mark.parametrize("image_size", [7, 1025, 16.0])
    def test_side_out_of_range_is_refused_by_its_name(self, folder, tmp_path, image_size):
        with pytest.raises(PlanError, match=rf"`image_size` must be .* in 8..1024. Received: image_size={image_size}"):
            as_dataset(folder, image_size, tmp_path / "data")

    def test_corrupt_images_are_no_reason_for_another_size(self, folder, tmp_path, monkeypatch):
        for file in folder.rglob("*.png"):
            Image.new("RGB", (9, 9)).save(file)
        (folder / "cats" / "0.png").write_bytes(b"no image")
        sizes = []
        prepare = decathlon.prepare
        monkeypatch.setattr(decathlon, "prepare", lambda *args: sizes.append(args[2]) or prepare(*args))
        with pytest.raises(PlanError, match=r"`data`: .*1 corrupt images"):
            as_dataset(folder, None, tmp_path / "data")
        assert sizes == [None]
        assert list((tmp_path / "data").iterdir()) == []

    def test_a_folder_without_classes_is_refused(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(PlanError, match=r"`data`: .*no class folders"):
            as_dataset(tmp_path / "empty", 8, tmp_path / "data")
