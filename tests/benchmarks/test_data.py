import numpy as np
import pytest
from PIL import Image

import decathlon
from benchmarks.runner.data import open_familiar, open_outliers, open_unfamiliar, outlier_images
from benchmarks.runner.plan import PlanError
from decathlon.sources.npz import open_npz


@pytest.fixture(scope="module")
def room(tmp_path_factory, prepare_random):
    """Familiar `one` and `two` of 8 pixels, unfamiliar `dots`, `large` and `hues` of other shapes."""
    directory = tmp_path_factory.mktemp("room")
    for name in ("one", "two", "dots", "train"):
        prepare_random(name, directory, train=30)
    prepare_random("large", directory, shape=(16, 16, 3))
    prepare_random("hues", directory, shape=(8, 8, 3))
    return directory


@pytest.fixture
def one(room):
    return decathlon.open("one", data_dir=room)


@pytest.fixture
def two(room):
    return decathlon.open("two", data_dir=room)


@pytest.fixture
def copies(room, one):
    """A data set of which 2 of 100 training images, and none of the others, are test images of `one`."""
    if not (room / "copies-8").exists():
        rng = np.random.default_rng(0)
        train, test = (rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8) for count in (100, 20))
        train[[3, 9]] = one.split("test")[0][:2]
        labels = {"y_train": np.arange(100) % 2, "y_test": np.arange(20) % 2}
        np.savez(room / "copies.npz", x_train=train, x_test=test, **labels)
        decathlon.prepare("copies", open_npz(room / "copies.npz"), data_dir=room)
    return decathlon.open("copies", data_dir=room)


class TestFamiliar:
    def test_each_set_is_opened_once(self, room):
        opened = open_familiar(["two", "one", "two"], None, room)
        assert list(opened) == ["two", "one"]
        assert {name: dataset.name for name, dataset in opened.items()} == {"two": "two", "one": "one"}

    def test_absent_sets_are_listed_in_one_error_with_their_commands(self, room):
        with pytest.raises(PlanError) as error:
            open_familiar(["mnist", "one", "mine", "tiny_imagenet"], None, room)
        lines = str(error.value).splitlines()
        assert len(lines) == 4
        assert "mnist is not prepared. Run: python -m decathlon prepare mnist" in lines[1]
        assert "mine is not prepared. Run: python -m decathlon prepare mine --folder DIR" in lines[2]
        assert "tiny_imagenet is not prepared. Run: python -m decathlon prepare tiny_imagenet --folder DIR" in lines[3]

    def test_a_size_at_which_a_set_is_not_prepared(self, room):
        with pytest.raises(PlanError, match=r"one is not prepared at 12 pixels. Run: .* prepare one .*--size 12"):
            open_familiar(["one"], 12, room)


class TestUnfamiliar:
    def test_one_list_is_held_against_all_familiar_sets_but_of_the_own_images(self, one, two, room):
        opened = open_unfamiliar(["dots", "two", "one", "dots"], [one, two], room)
        assert {name: list(others) for name, others in opened.items()} == {
            "one": ["dots", "two"],
            "two": ["dots", "one"],
        }
        assert opened["one"]["dots"].fingerprint == decathlon.open("dots", data_dir=room).fingerprint

    def test_a_mapping_names_the_sets_of_each(self, one, two, room):
        opened = open_unfamiliar({"one": ("large", "two"), "two": ("dots", "two")}, [one, two], room)
        assert {name: list(others) for name, others in opened.items()} == {"one": ["large", "two"], "two": ["dots"]}

    def test_a_familiar_set_that_a_mapping_leaves_out_has_none(self, one, two, room):
        assert open_unfamiliar({"one": ["dots"]}, [one, two], room)["two"] == {}

    @pytest.mark.parametrize("names", [(), {}])
    def test_no_names_open_nothing(self, one, room, names):
        assert open_unfamiliar(names, [one], room) == {"one": {}}

    def test_a_set_prepared_in_several_sizes_is_opened_at_the_familiar_one(self, one, room, tmp_path):
        other = decathlon.open("large", data_dir=room)
        np.savez(
            tmp_path / "sizes.npz",
            **{f"x_{part}": other.split(part)[0] for part in ("train", "test")},
            **{f"y_{part}": other.split(part)[1] for part in ("train", "test")},
        )
        for size in (8, 16):
            decathlon.prepare("sizes", open_npz(tmp_path / "sizes.npz"), size, tmp_path)
        assert open_unfamiliar(["sizes"], [one], tmp_path)["one"]["sizes"].image_shape == (8, 8, 3)

    @pytest.mark.parametrize("names", [["one"], {"one": ["dots", "one"]}])
    def test_the_only_familiar_set_is_refused(self, one, room, names):
        with pytest.raises(PlanError, match=r"--ood one: .* network of one: it is the same data set\.$"):
            open_unfamiliar(names, [one], room)

    def test_the_evaluation_split_alone_is_compared(self, one, copies, room):
        assert list(open_unfamiliar(["copies"], [one], room)["one"]) == ["copies"]

    def test_a_set_called_like_a_split_is_refused(self, one, room):
        with pytest.raises(PlanError, match="--ood train: a data set of that name cannot be told from a split"):
            open_unfamiliar(["dots", "train"], [one], room)

    def test_absent_sets_are_listed_in_one_error_with_flag_and_commands(self, one, room):
        with pytest.raises(PlanError) as error:
            open_unfamiliar(["svhn_cropped", "dots", "mine"], [one], room)
        assert str(error.value).startswith("--ood")
        for name in ("svhn_cropped", "mine"):
            assert f"{name} is not prepared. Run: python -m decathlon prepare {name}" in str(error.value)


class TestOutliers:
    def test_sets_are_opened_in_the_order_of_their_names(self, one, room):
        opened = open_outliers(("large", "dots"), one, room)
        assert [dataset.name for dataset in opened.values()] == list(opened) == ["large", "dots"]

    def test_the_familiar_set_is_refused(self, one, room):
        with pytest.raises(PlanError, match=r"--outliers one: .* network of one: it is the same data set\.$"):
            open_outliers(("dots", "one"), one, room)

    def test_training_images_that_are_familiar_are_refused(self, one, copies, room):
        match = r"--outliers copies: .*: 2 of its 100 train images are among those of one\.$"
        with pytest.raises(PlanError, match=match):
            open_outliers(("copies",), one, room)

    def test_absent_sets_are_listed_in_one_error_with_flag_and_commands(self, one, room):
        with pytest.raises(PlanError) as error:
            open_outliers(("mnist", "dots", "mine"), one, room)
        assert str(error.value).startswith("--outliers")
        for name in ("mnist", "mine"):
            assert f"{name} is not prepared. Run: python -m decathlon prepare {name}" in str(error.value)

    def test_a_name_that_is_none_is_refused(self, one, room):
        with pytest.raises(PlanError, match="--outliers"):
            open_outliers(("dots", ""), one, room)


class TestOutlierImages:
    def test_all_training_images_follow_each_other_in_the_shape_asked_for(self, room):
        sets = [decathlon.open(name, data_dir=room) for name in ("dots", "large", "hues")]
        found = outlier_images(sets, (8, 8, 1))
        assert (found.shape, found.dtype) == ((30 + 14 + 14, 8, 8, 1), np.uint8)
        np.testing.assert_array_equal(found[:30], sets[0].split("train")[0])
        for start, dataset in ((30, sets[1]), (44, sets[2])):
            for image, other in zip(found[start:], dataset.split("train")[0], strict=False):
                grey = Image.fromarray(np.asarray(other)).convert("L").resize((8, 8), Image.Resampling.BILINEAR)
                np.testing.assert_array_equal(image[..., 0], np.asarray(grey))

    def test_grey_images_become_coloured(self, room):
        found = outlier_images([decathlon.open("dots", data_dir=room)], (8, 8, 3))
        expected = np.repeat(decathlon.open("dots", data_dir=room).split("train")[0], 3, axis=3)
        np.testing.assert_array_equal(found, expected)

    def test_one_set_of_that_shape_stays_memory_mapped(self, room):
        assert isinstance(outlier_images([decathlon.open("dots", data_dir=room)], (8, 8, 1)), np.memmap)
