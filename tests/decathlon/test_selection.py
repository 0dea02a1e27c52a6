"""Leaving a class out: which images go where, what is refused, and when the set is made anew."""

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import decathlon
from decathlon import hold_out, preparation, selection
from decathlon.__main__ import main
from decathlon.sources import Example, Source
from decathlon.store import DataError

TRAIN, TEST = [2, 0, 1, 3, 1, 0, 2, 3, 3, 1, 0, 2], [1, 3, 0, 2, 1, 1]  # the labels of the base set


@pytest.fixture(scope="session")
def make_base(tmp_path_factory):
    """Returns a function that prepares a set of images that show their number: 0, 1, ...; in `test` 100, 101, ..."""

    def make(data_dir=None, train=TRAIN, test=TEST, evaluation="test", first=0):
        labels = {"train": train, "test": test}

        def read(split):
            for number, label in enumerate(labels[split], start=first if split == "train" else 100):
                yield Example(str(number), np.full((4, 6, 1), number, np.uint8), label)

        counts = {split: len(of_split) for split, of_split in labels.items()}
        names = list("abcd"[: max(train) + 1])
        source = Source("made for a test", names, 1, counts, evaluation, read)
        return decathlon.prepare("mine", source, data_dir=data_dir or tmp_path_factory.mktemp("data"))

    return make


@pytest.fixture
def base(make_base, data_dir):
    return make_base(data_dir)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return decathlon.open("digits", data_dir=tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def without_three(digits):
    return hold_out(digits, 3, validation=200)


def numbers(dataset, split):
    """Returns the numbers that the images of a split show, and its labels."""
    images, labels = dataset.split(split)
    assert (images == images[:, :1, :1]).all()
    return images[:, 0, 0, 0].tolist(), labels.tolist()


def pairs(dataset, *splits):
    """Returns the `(image, class name)` of all images of some splits; that of a held-out class is `None`."""
    names = [*dataset.class_names, None]
    return [
        (image.tobytes(), names[label]) for split in splits for image, label in zip(*dataset.split(split), strict=True)
    ]


class TestContents:
    def test_every_image_goes_where_it_belongs(self, base):
        found = hold_out(base, 1, validation=3)
        assert (found.name, found.path, found.size) == (
            "mine-without-1",
            base.path.parent / "mine-without-1-4x6",
            "4x6",
        )
        assert (found.class_names, found.classes, found.evaluation) == (["a", "c", "d"], 3, "test")
        assert found.counts == {"train": 6, "validation": 3, "test": 3, "held_out": 3}
        assert numbers(found, "test") == ([101, 102, 103], [2, 0, 1])
        assert numbers(found, "held_out") == ([100, 104, 105], [-1, -1, -1])
        train, validation = numbers(found, "train"), numbers(found, "validation")
        labels = dict(zip(*train, strict=True)) | dict(zip(*validation, strict=True))
        assert labels == {0: 1, 1: 0, 3: 2, 5: 0, 6: 1, 7: 2, 8: 2, 10: 0, 11: 1}
        np.testing.assert_allclose(found.mean, np.full((4, 6, 1), np.mean(train[0]) / 255), rtol=1e-6)

    @settings(deadline=None, max_examples=10)
    @given(st.data())
    def test_any_labels_are_split_and_renumbered_right(self, make_base, data):
        labels = st.permutations([0, 1, 2, *data.draw(st.lists(st.integers(0, 2), max_size=20))])
        base = make_base(train=data.draw(labels), test=data.draw(labels))
        index = data.draw(st.integers(0, 2), "class_index")
        kept = [pair for pair in pairs(base, "train") if pair[1] != "abc"[index]]
        validation = data.draw(st.integers(1, len(kept) - 1), "validation")
        found = hold_out(base, index, validation, seed=data.draw(st.integers(0, 9), "seed"))
        validated = pairs(found, "validation")
        assert len(validated) == validation
        assert pairs(found, "train") == [pair for pair in kept if pair not in validated]
        assert validated == [pair for pair in kept if pair in validated]
        assert pairs(found, "test") == [pair for pair in pairs(base, "test") if pair[1] != "abc"[index]]
        held_out = [(image, None) for image, name in pairs(base, "test") if name == "abc"[index]]
        assert pairs(found, "held_out") == held_out

    def test_of_digits_nothing_is_lost_doubled_or_left_in(self, digits, without_three):
        found = {split: pairs(without_three, split) for split in ("train", "validation", "test")}
        threes = {image for image, name in pairs(digits, "train", "validation") if name == "3"}
        kept = {split: [pair for pair in pairs(digits, split) if pair[1] != "3"] for split in digits.counts}
        assert Counter(found["train"] + found["validation"]) == Counter(kept["train"])
        assert found["test"] == kept["validation"]
        assert len(found["validation"]) == 200
        assert len(threes) == 183
        assert not threes & {image for split in found.values() for image, _ in split}
        assert {image for image, _ in pairs(without_three, "held_out")} <= threes
        assert without_three.counts["held_out"] == digits.counts["validation"] - len(found["test"])

    def test_images_held_out_are_spread_evenly_over_the_training_images(self, digits, without_three):
        place = {pair: i for i, pair in enumerate(pair for pair in pairs(digits, "train") if pair[1] != "3")}
        places = [place[pair] / len(place) for pair in pairs(without_three, "validation")]
        assert stats.kstest(places, "uniform").pvalue > 0.01

    def test_training_batches_are_made_of_it(self, without_three):
        batches = decathlon.Batches(*without_three.split("train"), 9, 32, training=True)
        images, labels = decathlon.Denoising(batches, decathlon.Noise(sides=(2, 3)))[0]
        assert (images.shape, labels["class"].shape) == ((32, 8, 8, 1), (32,))

    def test_of_what_is_left_another_class_can_be_held_out(self, base):
        found = hold_out(hold_out(base, 1, validation=1), 0, validation=2)
        assert (found.name, found.class_names) == ("mine-without-1-without-0", ["c", "d"])
        assert numbers(found, "held_out") == ([102], [-1])


class TestMakingAnew:
    def test_what_is_there_is_opened(self, base):
        first = hold_out(base, 1, validation=3)
        written = (first.path / "meta.json").stat().st_mtime_ns
        assert hold_out(base, 1, validation=3) == first
        assert (first.path / "meta.json").stat().st_mtime_ns == written

    def test_the_same_arguments_draw_the_same_images(self, base, tmp_path):
        first, again = (hold_out(base, 1, validation=3, data_dir=tmp_path / name) for name in ("first", "again"))
        assert first.fingerprint == again.fingerprint
        assert first.path.parent == tmp_path / "first"
        assert len({hold_out(base, 1, validation=3, seed=seed).fingerprint for seed in range(5)}) > 2

    @pytest.mark.parametrize("change", [{"validation": 4}, {"seed": 1}])
    def test_it_is_made_anew_for_other_arguments(self, base, change):
        before = hold_out(base, 1, validation=3)
        after = hold_out(base, 1, **{"validation": 3, **change})
        assert after.path == before.path
        assert after.meta["source"] != before.meta["source"]
        assert after.check() == []

    def test_it_is_made_anew_for_other_base_data(self, make_base, tmp_path):
        data_dir = tmp_path / "held out"
        hold_out(make_base(tmp_path / "old"), 1, validation=3, data_dir=data_dir)
        found = hold_out(make_base(tmp_path / "new", first=50), 1, validation=3, data_dir=data_dir)
        assert min(numbers(found, "train")[0] + numbers(found, "validation")[0]) == 50

    def test_a_damaged_record_is_made_anew(self, base):
        expected = hold_out(base, 1, validation=3)
        (expected.path / "meta.json").write_text("{")
        assert hold_out(base, 1, validation=3) == expected

    def test_it_may_be_made_by_another_process_meanwhile(self, base, data_dir, monkeypatch):
        make = selection.prepare

        def overtaken(*arguments, **options):
            with monkeypatch.context() as other:
                other.setattr(preparation, "RUN", "00000001")
                make(*arguments, **options)
            return make(*arguments, **options)

        monkeypatch.setattr(selection, "prepare", overtaken)
        assert hold_out(base, 1, validation=3).check() == []
        assert sorted(os.listdir(data_dir)) == ["mine-4x6", "mine-without-1-4x6"]

    def test_a_set_of_another_origin_is_not_touched(self, base, make_source, pixels, data_dir):
        theirs = decathlon.prepare("mine-without-1", make_source({"train": pixels(4, 4, 6, 1)}, 1), data_dir=data_dir)
        with pytest.raises(DataError, match=r"mine-without-1-4x6 was not made by `hold_out`.* Received: .*for a test"):
            hold_out(base, 1, validation=3)
        assert theirs.check() == []

    def test_interruption_leaves_nothing(self, base, data_dir, monkeypatch):
        def interrupt(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(preparation, "_write_mean", interrupt)
        with pytest.raises(KeyboardInterrupt):
            hold_out(base, 1, validation=3)
        assert os.listdir(data_dir) == ["mine-4x6"]


class TestRefusals:
    @pytest.mark.parametrize("index", [-1, 4, "0", "0/../x", 1.0, True, None])
    def test_class_that_is_none_is_refused(self, base, data_dir, index):
        with pytest.raises(
            ValueError, match=rf"`class_index` must be a whole number in 0..3. Received: class_index={index!r}"
        ):
            hold_out(base, index, validation=3)
        assert os.listdir(data_dir) == ["mine-4x6"]

    @pytest.mark.parametrize("validation", [-1, 0, 9, 10])
    def test_validation_that_leaves_nothing_is_refused(self, base, validation):
        message = rf"`validation` must be a whole number in 1..8. Received: validation={validation}"
        with pytest.raises(ValueError, match=message):
            hold_out(base, 1, validation)

    def test_two_classes_are_refused(self, make_base):
        with pytest.raises(DataError, match=r"mine must have at least 3 classes to hold one out. It has 2\."):
            hold_out(make_base(train=[0, 1, 0, 1], test=[0, 1]), 0, validation=1)

    def test_class_without_images_to_evaluate_on_is_refused(self, make_base):
        with pytest.raises(DataError, match=r"mine has no image of class 1 in its split test\."):
            hold_out(make_base(test=[0, 2, 3]), 1, validation=1)

    def test_evaluation_on_training_images_is_refused(self, make_base):
        with pytest.raises(DataError, match="mine is evaluated on its training images"):
            hold_out(make_base(evaluation="train"), 1, validation=1)


def test_the_command_line_lists_and_checks_it(base, data_dir, capsys):
    found = hold_out(base, 1, validation=3)
    assert main(["list", "--data-dir", str(data_dir)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "mine-without-1" in line]
    assert "train 6" in line
    assert "at 4x6 px" in line
    assert main(["check", "--data-dir", str(data_dir)]) == 0
    assert "mine-without-1 4x6 px: ok" in capsys.readouterr().out
    (found.path / "held_out.labels.npy").unlink()
    assert main(["check", "mine-without-1", "--data-dir", str(data_dir)]) == 1
    assert "DAMAGED: held_out.labels.npy" in capsys.readouterr().out
