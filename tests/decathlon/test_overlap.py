import numpy as np
import pytest
from PIL import Image

import decathlon
from decathlon.overlap import FAMILIES, overlap
from decathlon.sources.npz import open_npz


def random_images(count, seed, shape=(8, 8, 1)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.fixture
def make(tmp_path):
    """Returns a function that prepares images as a dataset of two classes."""

    def prepare(name, train, test, prepared_dir="data"):
        arrays = {"x_train": train, "x_test": test, "y_train": np.arange(len(train)) % 2}
        np.savez(tmp_path / "set.npz", **arrays, y_test=np.arange(len(test)) % 2)
        return decathlon.prepare(name, open_npz(tmp_path / "set.npz"), data_dir=tmp_path / prepared_dir)

    return prepare


@pytest.fixture
def base(make):
    return make("base", random_images(50, 0), random_images(20, 1))


def test_disjoint_sets_do_not_overlap(make, base):
    other = make("other", random_images(30, 2), random_images(40, 3))
    assert overlap(base, other, "train") is None
    assert overlap(base, other, "test") is None


def test_a_set_of_the_same_name_is_the_same(make, base):
    renewed = make("base", random_images(9, 2), random_images(9, 3), prepared_dir="elsewhere")
    assert overlap(base, renewed, "test") == "it is the same dataset"


def test_the_same_arrays_under_another_name_are_the_same(make, base):
    other = make("other", random_images(50, 0), random_images(20, 1))
    assert overlap(base, other, "test") == "it is the same dataset"


@pytest.mark.parametrize(
    ("names", "collection"),
    [
        (("svhn", "svhn_cropped"), "svhn"),
        (("cifar100", "cifar100_full"), "cifar100"),
        (("tiny_imagenet", "imagenet12"), "imagenet12"),
        (("tiny_imagenet", "imagenet_resized"), "imagenet12"),
        (("imagenet12", "imagenet_resized"), "imagenet12"),
    ],
)
def test_versions_of_one_collection_overlap_without_a_shared_image(make, names, collection):
    first, second = (make(name, random_images(9, i), random_images(9, 10 + i)) for i, name in enumerate(names))
    assert overlap(first, second, "train") == f"both are versions of {collection}"
    assert overlap(second, first, "test") == f"both are versions of {collection}"


@pytest.mark.parametrize("names", [("cifar10", "cifar100_full"), ("svhn_cropped", "mnist"), ("cifar10", "imagenet12")])
def test_collections_of_their_own_do_not_overlap(make, names):
    first, second = (make(name, random_images(9, i), random_images(9, 10 + i)) for i, name in enumerate(names))
    assert overlap(first, second, "train") is None


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_of_any_id_split_are_known(make, base, split):
    images = random_images(100, 2)
    images[[7, 80]] = base.split(split)[0][:2]
    other = make("other", random_images(9, 3), images)
    assert overlap(base, other, "test") == "2 of its 100 test images are among those of base"


def test_only_the_named_split_counts(make, base):
    other = make("other", base.split("train")[0][::-1], random_images(9, 3))
    assert overlap(base, other, "train") == "50 of its 50 train images are among those of base"
    assert overlap(base, other, "test") is None


@pytest.mark.parametrize(
    ("shared", "count", "allowed"), [(1, 100, True), (1, 99, False), (3, 300, True), (4, 300, False)]
)
def test_up_to_one_percent_may_be_shared(make, shared, count, allowed):
    base = make("base", random_images(280, 0), random_images(20, 1))
    images = random_images(count, 2)
    images[:shared] = base.split("train")[0][:shared]
    other = make("other", random_images(9, 3), images)
    expected = None if allowed else f"{shared} of its {count} test images are among those of base"
    assert overlap(base, other, "test") == expected


def test_a_id_set_that_a_larger_one_swallows_is_found(make):
    base = make("base", random_images(5, 0), random_images(4, 1))
    images = np.concatenate([random_images(1000, 2), base.split("train")[0]])
    other = make("other", random_images(9, 3), images)
    assert overlap(base, other, "test") == "5 of its 1,005 test images are among those of base"


def test_a_single_pixel_makes_another_image(make, base):
    images = np.array(base.split("test")[0])
    images[:, 3, 3] ^= 1
    assert overlap(base, make("other", images, images), "test") is None


def test_images_in_colour_are_known_to_a_grey_set(make, base):
    images = np.repeat(base.split("test")[0], 3, axis=3)
    other = make("other", random_images(9, 2, (8, 8, 3)), images)
    assert overlap(base, other, "test") == "20 of its 20 test images are among those of base"
    assert overlap(base, other, "train") is None


def test_images_of_another_size_are_brought_to_the_id_one(make):
    large = random_images(10, 2, (16, 16, 3))
    small = np.stack([np.asarray(Image.fromarray(one).resize((8, 8), Image.Resampling.BILINEAR)) for one in large])
    base = make("base", np.concatenate([random_images(5, 0, (8, 8, 3)), small]), random_images(5, 1, (8, 8, 3)))
    other = make("other", random_images(9, 3, (16, 16, 3)), large)
    assert overlap(base, other, "test") == "10 of its 10 test images are among those of base"
    assert overlap(base, other, "train") is None


class TestPhotos:
    """Half of them shows a flower."""

    @pytest.fixture
    def flowers(self, tmp_path):
        def prepare(name, *class_names):
            arrays = {f"x_{part}": random_images(6, i) for i, part in enumerate(("train", "test"))}
            arrays |= {f"y_{part}": np.arange(6) % len(class_names) for part in ("train", "test")}
            np.savez(tmp_path / "set.npz", **arrays, class_names=class_names)
            return decathlon.prepare(name, open_npz(tmp_path / "set.npz"), data_dir=tmp_path / "data")

        return prepare

    @pytest.fixture
    def photos(self, tmp_path):
        return decathlon.open("photos", 8, tmp_path / "photos")

    @pytest.mark.parametrize(
        ("name", "class_names", "found"),
        [
            ("vgg-flowers", ("0", "1"), "vgg-flowers"),
            ("garden", ("oak", "Sunflowers"), "Sunflowers"),
            ("plants", ("oak_tree", "wild_rose", "tulip"), "wild_rose"),
        ],
    )
    def test_they_are_refused_beside_flowers(self, flowers, photos, name, class_names, found):
        reason = f"half of photos shows a flower, scikit-learn's flower.jpg, and so do images of {found}"
        assert overlap(flowers(name, *class_names), photos, "validation") == reason

    @pytest.mark.parametrize("class_names", [("cat", "dog"), ("cauliflower", "flour", "prose")])
    def test_beside_anything_else_they_are_taken(self, flowers, photos, class_names):
        assert overlap(flowers("food", *class_names), photos, "validation") is None

    def test_other_sets_are_taken_beside_flowers(self, flowers, make):
        other = make("other", random_images(9, 8), random_images(9, 9))
        assert overlap(flowers("vgg-flowers", "0", "1"), other, "test") is None


def test_families_name_data_sets_of_the_catalogue():
    assert set().union(*FAMILIES) <= set(decathlon.CATALOG)
