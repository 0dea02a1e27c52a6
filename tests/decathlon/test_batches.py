"""Seeded batches: order, streams, arithmetic and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decathlon import batches as module
from decathlon.augmentation import Augmentation
from decathlon.batches import Batches
from decathlon.mixing import RICAP, CutMix, CutOut, Mixing, MixUp
from kls.utils.data import feed

from .helpers import assert_same, contents, numbered


def test_batches_do_not_depend_on_the_order_of_access(training):
    batches = training()
    backwards = [batches[i] for i in reversed(range(len(batches)))]
    assert_same(contents(training()), backwards[::-1])


def test_epochs_and_seeds_differ_in_order():
    sets = [Batches(*numbered(60), 60, 60, training=True, seed=seed) for seed in (3, 4)]
    orders = {tuple(batches.batch(epoch, 0)[1]) for batches in sets for epoch in range(20)}
    assert len(orders) == 40


@pytest.mark.parametrize("start", [1, 4])
def test_starting_at_an_epoch_equals_getting_there(training, start):
    travelled, started = training(), training(epoch=start)
    for _ in range(start):
        contents(travelled)
        travelled.on_epoch_end()
    for _ in range(2):
        assert_same(contents(travelled), contents(started))
        travelled.on_epoch_end()
        started.on_epoch_end()


def test_evaluation_keeps_the_order_and_ignores_augmentation(images, labels):
    batches = Batches(images, labels, 7, 8, augmentation=Augmentation())
    first = contents(batches)
    batches.on_epoch_end()
    assert_same(first, contents(batches))
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in first]), images)
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in first]), labels)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_size_of_set_and_batch_is_cut_right(data):
    count = data.draw(st.integers(1, 90), "images")
    batch_size = data.draw(st.integers(1, count), "batch_size")
    epoch = data.draw(st.integers(0, 1000), "epoch")
    images, labels = numbered(count)
    training = Batches(images, labels, count, batch_size, training=True, epoch=epoch)
    evaluation = Batches(images, labels, count, batch_size)
    assert len(training) == training.num_batches == count // batch_size
    assert len(evaluation) == (count + batch_size - 1) // batch_size
    drawn = contents(training)
    assert {len(batch) for _, batch in drawn} == {batch_size}
    assert [len(batch) for _, batch in contents(evaluation)][-1] == count - (len(evaluation) - 1) * batch_size
    seen = np.concatenate([batch for _, batch in drawn])
    assert len(set(seen)) == len(seen) == len(drawn) * batch_size
    for batch_images, batch_labels in drawn + contents(evaluation):
        expected = np.broadcast_to(batch_labels[:, None, None, None], batch_images.shape)
        np.testing.assert_array_equal(batch_images, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_bytes_stay_bytes_floats_come_as_float32_and_labels_int64(dtype):
    stored = np.array([0, 51, 255], dtype).reshape(3, 1, 1, 1)
    images, labels = Batches(stored, np.array([0, 1, 1], np.uint8), 2, 3)[0]
    assert images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert labels.dtype == np.int64
    assert (type(images), type(labels)) == (np.ndarray, np.ndarray)
    assert images.ravel().tolist() == [0, 51, 255]
    assert labels.tolist() == [0, 1, 1]


class TestFeatures:
    @pytest.mark.parametrize("shape", [(5,), (7, 5), (2, 3, 2, 2)])
    def test_float_features_of_any_shape_and_values_pass_as_float32(self, labels, shape):
        features = np.random.default_rng(0).normal(0, 1e6, (60, *shape))
        batches = Batches(features, np.arange(60), 60, 8, training=True)
        for batch, rows in contents(batches):
            assert batch.dtype == np.float32
            np.testing.assert_array_equal(batch, features[rows].astype(np.float32))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
    def test_features_that_are_not_finite_in_float32_are_refused(self, labels, value):
        features = np.zeros((60, 5))
        features[59, 2] = value
        with pytest.raises(ValueError, match=r"^`images` must be finite\. Received: float64 in \["):
            Batches(features, labels, 7, 8)

    @pytest.mark.parametrize(
        "option",
        [{"augmentation": Augmentation()}, {"mixing": MixUp()}, {"blank": np.zeros(5, np.uint8)}],
        ids=lambda option: next(iter(option)),
    )
    def test_what_is_for_images_alone_is_refused(self, labels, option):
        (name,) = option
        message = rf"^`{name}` is for images of shape \(N, H, W, C\)\. Received: `images` of shape \(60, 5\)$"
        with pytest.raises(ValueError, match=message):
            Batches(np.ones((60, 5)), labels, 7, 8, **option)


def test_memory_mapped_arrays_give_the_same_batches(images, labels, tmp_path):
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels")]
    for options in ({"training": True, "augmentation": Augmentation()}, {}):
        expected = contents(Batches(images, labels, 7, 8, **options))
        found = contents(Batches(*mapped, 7, 8, **options))
        assert_same(expected, found)
        assert all(type(part) is np.ndarray and part.flags.writeable for batch in found for part in batch)


def test_batches_leave_the_images_alone(images, labels):
    before = images.copy()
    contents(Batches(images, labels, 7, 8, training=True, augmentation=Augmentation(), mixing=CutOut(3)))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(60, -1), "`labels` must be in 0..6. Received: -1 for all, a split without labels"),
        (np.r_[np.zeros(59, int), 7], r"`labels` must be in 0..6. Received: 1 others, the first labels\[59\]=7"),
        (np.r_[np.zeros(9, int), [-1] * 51], r"in 0..6. Received: 51 others, the first labels\[9\]=-1"),
        (np.zeros(60), r"`labels` must be integers, or distributions of shape \(60, 7\). Received: dtype float64"),
        (np.zeros(60, bool), "`labels` must be integers, .* Received: dtype bool"),
        (np.zeros(59, int), "must be of the same length, at least 1. Received: 60 and 59"),
        (np.zeros(0, int), "must be of the same length, at least 1. Received: 60 and 0"),
        (np.zeros((60, 1), int), r"`labels` must be of shape \(60,\). Received: shape \(60, 1\)"),
        (np.full((60, 6), 1 / 6), r"`labels` must be of shape \(60, 7\). Received: shape \(60, 6\)"),
        (
            np.full((60, 7), 0.5),
            r"must be distributions: not negative, of sum 1. Received: 60 others, .*labels\[0\]=\[0.5",
        ),
        (np.full((60, 7), np.nan), r"must be distributions: .* Received: 60 others, the first labels\[0\]=\[nan"),
        (
            np.r_[np.eye(7)[np.zeros(59, int)], [[2, -1, 0, 0, 0, 0, 0]]],
            r"Received: 1 others, the first labels\[59\]=\[ 2",
        ),
        (np.r_[np.eye(7)[np.zeros(59, int)], [[np.inf, 0, 0, 0, 0, 0, 0]]], r"Received: 1 others, .*\[59\]=\[inf"),
        (np.full((60, 7), 1.002 / 7), "must be distributions: not negative, of sum 1. Received: 60 others"),
    ],
)
def test_bad_labels_are_refused_by_name_and_value(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Batches(images, labels, 7, 8)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.full((60, 2, 2, 1), 0.5, np.float32), r"float32 in \[0, 1\]: multiply them by 255"),
        (np.ones((60, 2, 2, 1)), r"float64 in \[0, 1\]: multiply them by 255"),
        (np.full((60, 2, 2, 1), -0.5, np.float32), r"float32 in \[-0.5, -0.5\]"),
        (np.full((60, 2, 2, 1), 256.0), r"float64 in \[256, 256\]"),
        (np.full((60, 2, 2, 1), np.nan, np.float32), r"float32 in \[nan, nan\]"),
        (np.full((60, 2, 2, 1), np.inf, np.float16), r"float16 in \[inf, inf\]"),
        (np.ones((60, 2, 2, 1), np.int8), "int8"),
        (np.ones((60, 2, 2, 1), np.int64), "int64"),
        (np.ones((60, 2, 2, 1), bool), "bool"),
    ],
)
def test_images_of_another_type_or_scale_are_refused(images, found):
    with pytest.raises(ValueError, match=rf"^`images` must be uint8, or floats in 0\.\.255\. Received: {found}$"):
        Batches(images, np.zeros(60, int), 7, 8)


@pytest.mark.parametrize("place", [0, 1999])
def test_first_and_last_of_many_images_tell_their_scale(place):
    images = np.full((2000, 1, 1, 1), 0.5, np.float32)
    images[place] = 9
    Batches(images, np.zeros(2000, int), 1, 8)
    images[place] = np.nan
    with pytest.raises(ValueError, match=r"float32 in \[nan, nan\]"):
        Batches(images, np.zeros(2000, int), 1, 8)


def test_of_a_large_float_array_a_thousand_images_are_read():
    images = np.full((5000, 1, 1, 1), 9, np.float32).view(Watched)
    images.read = []
    Batches(images, np.zeros(5000, int), 1, 8)
    assert len(images.read) == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": np.ones((60, 0, 2, 1), np.uint8)}, r"`images` must be images .* uint8 of shape \(60, 0, 2, 1\)"),
        ({"images": np.ones((60, 5), np.int64)}, r"`images` must be images .* int64 of shape \(60, 5\)"),
        ({"images": np.ones(60)}, r"`images` must be images .* float64 of shape \(60,\)"),
        ({"blank": np.zeros((20, 30, 1), np.uint8)}, r"`blank` must be real numbers of shape \(20, 30, 3\)"),
        ({"blank": np.full((20, 30, 3), 0.5)}, r"`blank` must be uint8, .* float64 in \[0, 1\]: multiply them by 255"),
        ({"blank": np.full((20, 30, 3), 256.0)}, r"`blank` must be uint8, or floats in 0\.\.255\. .* in \[256, 256\]"),
    ],
)
def test_arguments_of_another_type_are_refused_when_made(images, labels, options, message):
    with pytest.raises(ValueError, match=message):
        Batches(**{"images": images, "labels": labels, "classes": 7, "batch_size": 8, **options})


@pytest.mark.parametrize(("batch_size", "training"), [(61, True), (0, True), (0, False), (-1, False)])
def test_batch_size_out_of_range_is_refused(images, labels, batch_size, training):
    allowed = "in 1..60" if training else "of at least 1"
    message = f"`batch_size` must be a whole number {allowed}. Received: batch_size={batch_size}"
    with pytest.raises(ValueError, match=message):
        Batches(images, labels, 7, batch_size, training=training)


def test_evaluation_takes_a_batch_larger_than_the_set(images, labels):
    batches = Batches(images, labels, 7, 1000)
    assert len(batches) == 1
    assert len(batches[0][1]) == 60


class Kept(Mixing):
    """Leaves images and labels as they are and keeps what it was called with."""

    def __init__(self, comes_first=False):
        self.comes_first = comes_first
        self.calls = []

    def mix(self, images, labels, rng, blank):
        self.calls.append((images.copy(), labels.copy(), rng.random()))
        return images, labels


@pytest.fixture(scope="module")
def distributions():
    return np.random.default_rng(2).dirichlet(np.ones(7), 60)


class TestMixing:
    def test_streams_keep_their_numbers(self):
        names = ("ORDER", "AUGMENTATION", "OUTLIER_ORDER", "OUTLIER_OFFSET", "OUTLIER_AUGMENTATION", "MIXING", "NOISE")
        assert [getattr(module, name) for name in names] == list(range(7))

    @pytest.mark.parametrize("comes_first", [False, True])
    def test_mixing_keeps_order_and_augmentation_and_one_hot_encodes(self, training, comes_first):
        plain, kept = contents(training()), contents(training(mixing=Kept(comes_first)))
        for (images, labels), (kept_images, kept_labels) in zip(plain, kept, strict=True):
            np.testing.assert_array_equal(images, kept_images)
            assert kept_labels.dtype == np.float32
            np.testing.assert_array_equal(kept_labels, np.eye(7)[labels])

    def test_mixings_come_last_or_first_as_they_say(self, images, training):
        last, first = Kept(), Kept(comes_first=True)
        expected, labels = training()[2]
        training(mixing=last)[2]
        training(mixing=first)[2]
        np.testing.assert_array_equal(last.calls[0][0], expected)
        stored, stored_labels, _ = first.calls[0]
        rows = [(images == one).all(axis=(1, 2, 3)).argmax() for one in stored]
        np.testing.assert_array_equal(images[rows], stored)
        np.testing.assert_array_equal(np.array(rows) % 7, labels)
        np.testing.assert_array_equal(stored_labels, np.eye(7)[labels])

    def test_each_seed_epoch_and_batch_has_its_own_repeatable_draws(self, training):
        kept = Kept()
        for _ in range(2):
            for seed in range(3):
                for epoch in range(3):
                    [training(mixing=kept, seed=seed).batch(epoch, index) for index in range(7)]
        draws = [draw for *_, draw in kept.calls]
        assert draws[:63] == draws[63:]
        assert len(set(draws)) == 63

    @pytest.mark.parametrize("mixing", [MixUp(), CutMix(), RICAP(), CutOut(4)], ids=str)
    def test_a_batch_is_the_unmixed_one_mixed_by_its_own_generator(self, training, mixing):
        first = contents(training(mixing=mixing, epoch=2))
        batches = training(mixing=mixing)
        again = [batches.batch(2, index) for index in reversed(range(7))][::-1]
        assert_same(first, again)
        for index, (mixed, labels) in enumerate(first):
            images, indices = training(epoch=2)[index]
            draws = np.random.default_rng([module.MIXING, 3, 2, index])
            assert_same([(mixed, labels)], [mixing(images, np.eye(7, dtype=np.float32)[indices], draws)])
            assert mixed.dtype == (np.float32 if mixing == MixUp() else np.uint8)
            assert labels.dtype == np.float32

    @pytest.mark.parametrize("mixing", [MixUp(), CutMix(), RICAP(), CutOut(7)], ids=str)
    def test_mixed_pixels_normalised_are_normalised_images_mixed(self, training, mixing):
        """The old order of operations. RICAP moves pixels, so that they must all have the same mean."""
        rng = np.random.default_rng(1)
        mean = rng.random((1, 1, 3) if isinstance(mixing, RICAP) else (20, 30, 3), np.float32)
        blank = np.broadcast_to(255 * mean, (20, 30, 3))
        for index, (mixed, labels) in enumerate(contents(training(mixing=mixing, blank=blank))):
            images, indices = training(blank=blank)[index]
            normalised = images / np.float32(255) - mean
            draws = np.random.default_rng([module.MIXING, 3, 0, index])
            expected, expected_labels = mixing(normalised, np.eye(7, dtype=np.float32)[indices], draws)
            rounding = 0.5 / 255 if isinstance(mixing, CutOut) else 0  # of the blank image
            np.testing.assert_allclose(mixed / np.float32(255) - mean, expected, atol=rounding + 1e-6)
            np.testing.assert_array_equal(labels, expected_labels)

    def test_evaluation_is_not_mixed(self, images, labels):
        assert_same(contents(Batches(images, labels, 7, 8, mixing=MixUp())), contents(Batches(images, labels, 7, 8)))
        assert Batches(images, labels, 7, 8, mixing=MixUp())[0][1].dtype == np.int64

    def test_mixed_batches_feed_a_model(self, training):
        batches = training(mixing=CutMix())
        fed = itertools.islice(iter(feed(batches, endless=True)), 14)
        expected = [batches.batch(epoch, index) for epoch in (0, 1) for index in range(7)]
        assert_same([tuple(map(np.asarray, batch)) for batch in fed], expected)


class TestDistributions:
    @pytest.mark.parametrize("options", [{"training": True, "augmentation": Augmentation()}, {}], ids=str)
    def test_distributions_come_as_float32_beside_their_images(self, images, distributions, options):
        rows = np.arange(60)
        drawn = contents(Batches(images, distributions, 7, 8, **options))
        numbered = contents(Batches(images, rows, 60, 8, **options))
        for (batch, labels), (expected, numbers) in zip(drawn, numbered, strict=True):
            np.testing.assert_array_equal(batch, expected)
            assert (type(labels), labels.dtype) == (np.ndarray, np.float32)
            np.testing.assert_array_equal(labels, distributions[numbers].astype(np.float32))

    def test_rows_may_sum_to_one_within_a_thousandth(self, images):
        labels = np.full((60, 7), 1.0009 / 7, np.float16)
        assert Batches(images, labels, 7, 8)[0][1].dtype == np.float32

    def test_mixed_distributions_stay_distributions(self, images, distributions):
        batches = Batches(images, distributions, 7, 8, training=True, mixing=RICAP())
        for _, labels in contents(batches):
            assert labels.dtype == np.float32
            np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)


class Watched(np.ndarray):
    """An array that notes how many rows are read at a time."""

    read = ()

    def __getitem__(self, rows):
        part = np.asarray(super().__getitem__(rows))
        self.read = (*self.read, len(part))
        return part


class TestAppended:
    @pytest.mark.parametrize("options", [{"training": True, "augmentation": Augmentation()}, {}], ids=str)
    @pytest.mark.parametrize("soft", [False, True])
    def test_rows_follow_the_distribution_of_their_own_image(self, images, labels, distributions, options, soft):
        logits = np.random.default_rng(3).standard_normal((60, 2, 7))
        given = distributions if soft else labels
        drawn = contents(Batches(images, given, 7, 8, **options, appended=logits))
        for (batch, packed), (expected, rows) in zip(
            drawn, contents(Batches(images, np.arange(60), 60, 8, **options)), strict=True
        ):
            np.testing.assert_array_equal(batch, expected)
            assert (type(packed), packed.dtype, packed.shape) == (np.ndarray, np.float32, (len(rows), 21))
            expected = distributions[rows] if soft else np.eye(7)[labels[rows]]
            np.testing.assert_array_equal(packed[:, :7], expected.astype(np.float32))
            np.testing.assert_array_equal(packed[:, 7:14], logits[rows, 0].astype(np.float32))
            np.testing.assert_array_equal(packed[:, 14:], logits[rows, 1].astype(np.float32))

    def test_one_number_per_image_may_be_appended(self, images, labels):
        numbers = np.arange(60, dtype=np.float32)
        for appended in (numbers, numbers[:, None]):
            packed = np.concatenate([batch for _, batch in contents(Batches(images, labels, 7, 8, appended=appended))])
            np.testing.assert_array_equal(packed[:, 7], numbers)

    def test_only_the_rows_of_a_batch_are_read(self, training):
        watched = np.zeros((60, 3)).view(Watched)
        batches = training(appended=watched)
        batches[4]
        assert watched.read == (8,)

    def test_memory_mapped_rows_give_the_same_batches(self, training, tmp_path):
        np.save(tmp_path / "logits.npy", np.random.default_rng(3).standard_normal((60, 1, 7), np.float32))
        logits = np.load(tmp_path / "logits.npy")
        mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
        assert_same(contents(training(appended=mapped)), contents(training(appended=logits)))

    @pytest.mark.parametrize("mixing", [MixUp(), CutOut(3)], ids=str)
    def test_mixed_images_have_nothing_appended(self, training, mixing):
        message = f"`appended` belongs to unmixed images: `mixing` must be None. Received: mixing={mixing}"
        with pytest.raises(ValueError, match=message):
            training(appended=np.zeros((60, 2)), mixing=mixing)

    @pytest.mark.parametrize(
        ("appended", "message"),
        [
            (np.zeros((59, 2)), r"must be floats of shape \(60, ...\). Received: float64 of shape \(59, 2\)"),
            (np.zeros((60, 2), int), r"must be floats of shape \(60, ...\). Received: int64 of shape \(60, 2\)"),
        ],
    )
    def test_what_cannot_be_appended_is_refused_by_name_and_value(self, training, appended, message):
        with pytest.raises(ValueError, match=f"`appended` {message}"):
            training(appended=appended)
