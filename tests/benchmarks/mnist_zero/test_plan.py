"""The trials of the study: recipes, classes held out, and what is refused before anything is trained."""

import argparse
import re
from types import SimpleNamespace

import numpy as np
import pytest

import decathlon
from benchmarks.mnist_zero.__main__ import _parser
from benchmarks.mnist_zero.plan import list_rows, make_plan, method_named, scaled_sides
from decathlon.sources.npz import open_npz
from decathlon.store import NotPreparedError, default_data_dir
from kls.study.methods import CrossEntropy, Denoising
from kls.study.plan import PlanError

METHODS = ["cross-entropy", "std-1", "std-5", "classifier"]
NAMES = ["ant", "bee", "1", "eel"]  # one is called like the index of another
MNIST = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)  # training images of each digit


def write_named(directory):
    """Prepares `named`: 40 training and 20 test images of four classes with names, and 8 pixels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(60) % 4
    arrays = {"x_train": images[:40], "y_train": labels[:40], "x_test": images[40:], "y_test": labels[40:]}
    np.savez(directory / "named.npz", class_names=np.array(NAMES), **arrays)
    decathlon.prepare("named", open_npz(directory / "named.npz"), data_dir=directory)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory, prepare_random):
    """A small `mnist`, `named`, and sets of other sides."""
    directory = tmp_path_factory.mktemp("data")
    prepare_random("mnist", directory, train=130, test=40, shape=(28, 28, 1), classes=10)
    write_named(directory)
    prepare_random("large", directory, train=70, shape=(56, 56, 3), classes=3)
    prepare_random("odd", directory, shape=(10, 10, 1), classes=3)
    prepare_random("wide", directory, shape=(8, 12, 1), classes=3)
    prepare_random("thumbs", directory, shape=(4, 4, 1), classes=3)
    prepare_random("few", directory, train=15, classes=3)  # the share of the paper would be 1 image
    prepare_random("pair", directory, train=80, classes=2)
    return directory


def plan_of(prepared_dir, *arguments):
    return make_plan(_parser().parse_args([*arguments, "--data-dir", str(prepared_dir)]))


def trials_of(prepared_dir, *arguments):
    return plan_of(prepared_dir, *arguments)[0].trials


def named(prepared_dir, *arguments):
    return trials_of(prepared_dir, "--datasets", "named", "--batch-size", "16", *arguments)


def by_method(trials):
    return {trial.method.title: trial for trial in trials}


class TestRecipes:
    def test_the_preset_of_the_paper(self, prepared_dir):
        plan, sources = plan_of(prepared_dir, "--preset", "paper")
        assert (plan.study, sources.ood) == ("mnist_zero", {"mnist-without-0": {}})
        assert [trial.method.title for trial in plan.trials] == METHODS
        for trial in plan.trials:
            assert (trial.dataset, trial.image_size, trial.model) == ("mnist-without-0", "28", "denoising_classifier")
            assert (trial.optimizer, trial.learning_rate, trial.schedule) == ("adam", 0.001, "cosine")
            assert (trial.epochs, trial.batch_size, trial.seed, trial.precision) == (10, 64, 0, "float32")
            assert trial.data == decathlon.open("mnist-without-0", data_dir=prepared_dir).fingerprint

    def test_the_quick_preset_is_of_bundled_data(self, prepared_dir):
        trials = trials_of(prepared_dir)
        assert {(trial.dataset, trial.image_size, trial.epochs) for trial in trials} == {("digits-without-0", "8", 15)}
        assert [trial.method.title for trial in trials] == ["cross-entropy", "std-1", "classifier"]

    def test_images_are_varied_by_noise_alone(self, prepared_dir):
        for trial in named(prepared_dir):
            assert (trial.shift, trial.flip, trial.normalisation, trial.method.mixing) == (0.0, False, "scale", None)

    @pytest.mark.parametrize(
        ("method", "focal", "std_weight"),
        [("cross-entropy", 0, 0), ("std-0", 1, 0), ("std-1", 1, 1), ("std-5", 1, 5), ("std-0.25", 1, 0.25)],
    )
    def test_weights_of_the_loss(self, prepared_dir, method, focal, std_weight):
        (trial,) = named(prepared_dir, "--methods", method)
        assert isinstance(trial.method, Denoising)
        assert (trial.method.label, trial.method.focal, trial.method.std_weight) == (method, focal, std_weight)

    def test_the_classifier_alone_is_trained_by_cross_entropy(self, prepared_dir):
        (trial,) = named(prepared_dir, "--methods", "classifier")
        assert trial.method == CrossEntropy(title="classifier")

    @pytest.mark.parametrize(
        ("dataset", "noise", "sides", "heavy"),
        [("mnist", 0.3, (10, 14), (18, 22)), ("named", 0.086, (3, 4), (5, 6)), ("large", 0.6, (20, 28), (36, 44))],
    )
    def test_noise_is_in_proportion_to_the_side(self, prepared_dir, dataset, noise, sides, heavy):
        (trial,) = trials_of(prepared_dir, "--datasets", dataset, "--methods", "std-1", "--batch-size", "16")
        assert (trial.method.deviation, trial.method.sides) == (noise, sides)
        assert scaled_sides((18, 22), decathlon.open(dataset, data_dir=prepared_dir)) == heavy

    def test_seeds_epochs_batches_and_methods_of_the_command_line(self, prepared_dir):
        trials = named(prepared_dir, "--seeds", "2", "--epochs", "3", "--methods", "std-1", "classifier", "std-1")
        assert [(trial.seed, trial.method.title) for trial in trials] == [
            *((0, "std-1"), (0, "classifier")),
            *((1, "std-1"), (1, "classifier")),
        ]
        assert {(trial.epochs, trial.batch_size) for trial in trials} == {(3, 16)}
        assert len({trial.id for trial in trials}) == 4


class TestClassesLeftOut:
    @pytest.mark.parametrize(
        ("asked", "index"), [("bee", 1), ("0", 0), ("3", 3), ("1", 2)], ids=["name", "index", "last", "name-of-digits"]
    )
    def test_one_is_named_or_given_by_its_index(self, prepared_dir, asked, index):
        (trial,) = named(prepared_dir, "--held-out", asked, "--methods", "std-1")
        assert trial.dataset == f"named-without-{index}"
        left = decathlon.open(trial.dataset, data_dir=prepared_dir)
        assert left.class_names == [name for name in NAMES if name != NAMES[index]]

    def test_each_is_another_data_set_and_another_trial(self, prepared_dir):
        trials = named(prepared_dir, "--held-out", "ant", "eel", "0", "--methods", "std-1", "classifier")
        assert [(trial.dataset, trial.method.title) for trial in trials] == [
            *(("named-without-0", "std-1"), ("named-without-0", "classifier")),
            *(("named-without-3", "std-1"), ("named-without-3", "classifier")),
        ]
        assert len({trial.id for trial in trials}) == 4

    def test_of_several_data_sets_each_holds_the_class_out(self, prepared_dir):
        trials = trials_of(
            prepared_dir, "--datasets", "named", "mnist", "named", "--held-out", "1", "--batch-size", "16"
        )
        assert [trial.dataset for trial in trials] == ["named-without-2"] * 3 + ["mnist-without-1"] * 3

    def test_other_validation_images_make_another_trial(self, prepared_dir):
        few, many = (by_method(named(prepared_dir, "--validation", count))["std-1"] for count in ("5", "9"))
        assert few.dataset == many.dataset
        assert few.data != many.data
        assert few.id != many.id

    @pytest.mark.parametrize(("arguments", "count"), [((), 3), (("--validation", "7"), 7)])
    def test_validation_is_the_share_of_the_paper_or_as_asked_for(self, prepared_dir, arguments, count):
        named(prepared_dir, *arguments)
        counts = decathlon.open("named-without-0", data_dir=prepared_dir).counts
        assert counts == {"train": 30 - count, "validation": count, "test": 15, "held_out": 5}


class TestMNIST:
    def test_the_share_is_that_of_the_paper(self, monkeypatch):
        labels = np.repeat(np.arange(10), MNIST)
        mnist = SimpleNamespace(
            name="mnist",
            class_names=list("0123456789"),
            classes=10,
            image_shape=(28, 28, 1),
            split={"train": (None, labels)}.get,
        )

        def hold_out(dataset, class_index, validation, data_dir):
            counts = {"train": int((labels != class_index).sum()) - validation, "validation": validation}
            left = {"name": "mnist-without-0", "size": "28", "fingerprint": "0123", "image_shape": (28, 28, 1)}
            made.append(SimpleNamespace(counts=counts, **left))
            return made[-1]

        made = []
        monkeypatch.setattr("benchmarks.mnist_zero.plan.open_datasets", lambda names, *_: dict.fromkeys(names, mnist))
        monkeypatch.setattr(decathlon, "hold_out", hold_out)
        assert len(trials_of("anywhere", "--preset", "paper")) == 4
        assert [dataset.counts for dataset in made] == [{"train": 49077, "validation": 5000}]

    def test_the_real_images_are_as_many_of_each_digit(self):
        try:
            mnist = decathlon.open("mnist", 28)
        except NotPreparedError:
            pytest.skip(f"MNIST is not prepared at 28 pixels in {default_data_dir()}")
        train, test = (np.bincount(mnist.split(name)[1]) for name in ("train", "test"))
        assert tuple(train) == MNIST
        assert (test[0], test[1:].sum()) == (980, 9020)


class TestWrongInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ("--datasets", "named", "--held-out", "bee", "cow"),
                "--held-out must name classes of named, or indices below 4: ant, bee, 1, eel. Received: cow.",
            ),
            (("--datasets", "named", "--held-out", "4"), "indices below 4: ant, bee, 1, eel. Received: 4."),
            (("--datasets", "named", "--held-out", "-1"), "indices below 4: ant, bee, 1, eel. Received: -1."),
            (
                ("--datasets", "odd"),
                "odd must have square images, to be turned, whose side is a multiple of 4 and at least 8, to be halved "
                "twice. Received: 10. Prepare it with --size.",
            ),
            (("--datasets", "wide"), "Received: 8x12. Prepare it with --size."),
            (("--datasets", "thumbs"), "Received: 4. Prepare it with --size."),
            (
                ("--datasets", "absent", "named", "missing"),
                "absent is not prepared. Run: python -m decathlon prepare absent",
            ),
            (("--datasets", "absent", "missing"), "missing is not prepared. Run: python -m decathlon prepare missing"),
            (("--datasets", "named", "--image-size", "12"), "named is not prepared at 12 pixels"),
            (
                ("--datasets", "named", "--validation", "30"),
                "named without class 0: `validation` must be a whole number in 1..29. Received: validation=30",
            ),
            (
                ("--datasets", "named", "--validation", "1"),
                "--validation must be at least 2 for named, an image to be turned and one to be covered. Received: 1.",
            ),
            (("--datasets", "few"), "--validation must be at least 2 for few"),
        ],
    )
    def test_it_is_named_with_what_is_allowed(self, prepared_dir, arguments, message):
        with pytest.raises(PlanError, match=re.escape(message)):
            trials_of(prepared_dir, *arguments)

    def test_two_classes_are_too_few(self, prepared_dir):
        with pytest.raises(decathlon.store.DataError, match="pair must have at least 3 classes to hold one out"):
            trials_of(prepared_dir, "--datasets", "pair")

    @pytest.mark.parametrize("text", ["std", "std-", "std--1", "std-x", "std-1.", "Std-1", "crossentropy", ""])
    def test_a_method_that_is_none(self, text):
        message = f"must be cross-entropy, classifier or std-W with a number W. Received: {text}"
        with pytest.raises(argparse.ArgumentTypeError, match=f"^{re.escape(message)}$"):
            method_named(text)


def test_the_list_says_what_the_presets_cover_and_what_is_prepared(tmp_path, prepare_random):
    def cells(data_dir):
        rows = list_rows(data_dir).splitlines()[2:]
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]

    methods = "cross-entropy std-1 std-5 classifier"
    quick = ["quick", "digits", "0", "15", "cross-entropy std-1 classifier", "prepared"]
    assert cells(tmp_path) == [quick, ["paper", "mnist", "0", "10", methods, "missing"]]
    prepare_random("mnist", tmp_path, shape=(28, 28, 1), classes=10)
    assert cells(tmp_path) == [quick, ["paper", "mnist", "0", "10", methods, "prepared"]]
