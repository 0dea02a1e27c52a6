"""Batches made from others: what is added to them, and that the rest stays theirs."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decathlon.augmentation import Augmentation, Noise
from decathlon.batches import Batches
from decathlon.mixing import MixUp
from decathlon.wrappers import Denoising, WithOutliers
from kls.utils.data import feed

from .helpers import all_variants, assert_same, contents, numbered

FIRST_OUTLIER = 100  # outliers are filled with this and above, ID images with less


def with_outliers(count=60, outliers=60, batch_size=12, outlier_batch_size=12, **options):
    """Returns batches of images that are filled with their own number, outliers from `FIRST_OUTLIER` on."""
    batches = Batches(*numbered(count), count, batch_size, training=True, **options)
    return WithOutliers(batches, numbered(outliers)[0] + np.uint8(FIRST_OUTLIER), outlier_batch_size)


def outlier_numbers(batches, epoch):
    """Returns which outliers an epoch holds, in order."""
    drawn = [batches.batch(epoch, index) for index in range(len(batches))]
    values = np.concatenate([images[labels == -1, 0, 0, 0] for images, labels in drawn])
    return values.astype(int) - FIRST_OUTLIER


def assert_equal(found, expected):
    """Compares batches array by array, whatever their targets are."""
    for batches in zip(found, expected, strict=True):
        for left, right in zip(*map(keras.tree.flatten, batches), strict=True):
            np.testing.assert_array_equal(np.asarray(left), right)


@pytest.fixture(params=["outliers", "noise"])
def wrapped(request, training, images):
    """Returns a function that wraps training batches."""

    def wrap(**options):
        batches = training(**options)
        return Denoising(batches, Noise()) if request.param == "noise" else WithOutliers(batches, images, 5)

    return wrap


class TestWrapper:
    def test_the_epoch_is_that_of_the_batches(self, wrapped):
        batches = wrapped(epoch=3)
        assert len(batches) == batches.num_batches == len(batches.batches)
        assert batches.epoch == 3
        batches.epoch = 7
        assert batches.batches.epoch == 7
        assert_equal([batches[2]], [wrapped(epoch=7)[2]])
        batches.on_epoch_end()
        assert batches.epoch == batches.batches.epoch == 8

    def test_a_batch_depends_on_seed_epoch_and_index_alone(self, wrapped):
        expected = contents(wrapped(epoch=4))
        travelled = wrapped()
        for _ in range(4):
            travelled[1]
            travelled.on_epoch_end()
        assert_equal([travelled[index] for index in reversed(range(7))], expected[::-1])
        assert_equal([wrapped().batch(4, index) for index in range(7)], expected)

    def test_feeds_a_model_epoch_after_epoch(self, wrapped):
        batches = wrapped(epoch=1)
        fed = itertools.islice(iter(feed(batches, endless=True)), 14)
        assert_equal(fed, [batches.batch(epoch, index) for epoch in (1, 2) for index in range(7)])

    @pytest.mark.parametrize("index", [-1, 7])
    def test_index_out_of_range_is_refused(self, wrapped, index):
        with pytest.raises(IndexError, match=f"`index` must be a whole number in 0..6. Received: index={index}"):
            wrapped()[index]


class TestWithOutliers:
    def test_id_images_are_exactly_those_of_the_batches_alone(self, images, labels, training):
        alone, mixed = training(epoch=2), WithOutliers(training(epoch=2), images[:9], 5)
        assert len(mixed) == mixed.num_batches == len(alone)
        for _ in range(2):
            parts = [(batch[labels >= 0], labels[labels >= 0]) for batch, labels in contents(mixed)]
            assert_same(parts, contents(alone))
            alone.on_epoch_end()
            mixed.on_epoch_end()

    def test_every_label_tells_what_its_image_is(self):
        batches = with_outliers(outlier_batch_size=24)
        for images, labels in contents(batches):
            assert (images.shape, labels.shape) == ((36, 4, 5, 1), (36,))
            assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
            values = images[:, 0, 0, 0].astype(int)
            np.testing.assert_array_equal(labels, np.where(values < FIRST_OUTLIER, values, -1))
            assert (labels == -1).sum() == 24

    def test_each_epoch_reads_one_order_from_its_own_offset_and_wraps(self):
        batches = with_outliers()
        order = outlier_numbers(batches, 0)
        assert sorted(order) == list(range(60))
        offsets = []
        for epoch in range(30):
            read = outlier_numbers(batches, epoch)
            offsets.append(order.tolist().index(read[0]))
            np.testing.assert_array_equal(read, np.roll(order, -offsets[-1]))
        assert len(set(offsets)) > 15

    def test_the_order_is_shuffled_and_another_for_another_seed(self):
        def cycle(seed):
            read = outlier_numbers(with_outliers(seed=seed), 0)
            return np.roll(read, -read.argmin())

        assert (np.diff(cycle(0)) == 1).sum() < 10
        assert (cycle(0) != cycle(1)).any()

    def test_all_offsets_come(self):
        batches = with_outliers(count=4, outliers=5, batch_size=4, outlier_batch_size=1)
        first = [outlier_numbers(batches, epoch)[0] for epoch in range(500)]
        counts = np.bincount(first, minlength=5)
        assert ((counts > 60) & (counts < 140)).all()

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 12), st.integers(0, 99), st.integers(0, 9))
    def test_every_outlier_is_used_equally_often(self, outliers, batch_size, batches_per_epoch, epoch, seed):
        batches = with_outliers(4 * batches_per_epoch, outliers, 4, batch_size, seed=seed)
        used = np.bincount(outlier_numbers(batches, epoch), minlength=outliers)
        assert used.sum() == batches_per_epoch * batch_size
        assert used.max() - used.min() <= 1
        if used.sum() % outliers == 0:
            assert used.min() == used.max()

    @pytest.mark.parametrize("shares", [1, 2, 4, 8])
    def test_replicas_that_share_a_batch_get_the_same_mixture(self, shares):
        images = np.zeros((128, 2, 2, 1), np.uint8)
        batches = Batches(images, np.zeros(128, int), 1, 128, training=True)
        _, labels = WithOutliers(batches, images, 256)[0]
        assert [(share == -1).sum() for share in np.split(labels, shares)] == [256 // shares] * shares

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 60), st.integers(1, 60))
    def test_the_head_of_a_batch_is_mixed_as_all_of_it(self, count, outliers):
        batches = with_outliers(count, 60, count, outliers)
        heads = np.cumsum(batches[0][1] == -1)
        expected = np.arange(1, count + outliers + 1) * outliers / (count + outliers)
        assert np.abs(heads - expected).max() <= 1

    @pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("reflect", "mirror")])
    def test_outliers_are_augmented_as_the_id_images_are(self, images, fill, mode):
        options = {"augmentation": Augmentation(0.1, fill=fill), "blank": images[10]}
        batches = Batches(images[:8], np.zeros(8, int), 1, 8, training=True, **options)
        batches = WithOutliers(batches, np.repeat(images[9:10], 3, axis=0), 64)
        variants = all_variants(images[9], 2, 3, mode).values()
        table = {np.where(variant == 0, images[10], variant).tobytes() for variant in variants}
        drawn = []
        for epoch in range(3):
            batch, labels = batches.batch(epoch, 0)
            drawn.append([one.tobytes() for one in batch[labels == -1]])
            assert set(drawn[-1]) <= table
            assert len(set(drawn[-1])) > 20
        assert len({tuple(one) for one in drawn}) == 3

    def test_outliers_are_varied_otherwise_than_the_id_images_beside_them(self, images):
        same = np.repeat(images[:1], 64, axis=0)
        batches = Batches(same, np.zeros(64, int), 1, 64, training=True, augmentation=Augmentation())
        batch, labels = WithOutliers(batches, same, 64)[0]
        assert (batch[labels == 0] != batch[labels == -1]).any(axis=(1, 2, 3)).sum() > 50

    def test_without_augmentation_outliers_come_as_they_are(self, images):
        batches = Batches(images[:6], np.zeros(6, int), 1, 6, training=True)
        batch, labels = WithOutliers(batches, images[10:20], 10)[0]
        assert {one.tobytes() for one in batch[labels == -1]} == {one.tobytes() for one in images[10:20]}

    @pytest.mark.parametrize("bytes_first", [True, False])
    def test_bytes_and_floats_together_come_as_float32(self, images, labels, bytes_first):
        floats = images.astype(np.float64)
        first, second = (images, floats) if bytes_first else (floats, images)
        options = {"training": True, "augmentation": Augmentation(), "blank": np.full((20, 30, 3), 9.5)}
        batch, _ = WithOutliers(Batches(first, labels, 7, 8, **options), second, 4)[0]
        assert batch.dtype == np.float32
        assert set(np.unique(batch % 1)) <= {0, 0.5}

    def test_memory_mapped_outliers_give_the_same_batches(self, images, labels, tmp_path):
        np.save(tmp_path / "outliers.npy", images)
        batches = Batches(images, labels, 7, 8, training=True)
        mapped = np.load(tmp_path / "outliers.npy", mmap_mode="r")
        found, expected = (contents(WithOutliers(batches, outliers, 70)) for outliers in (mapped, images))
        assert_same(found, expected)
        assert type(found[0][0]) is np.ndarray

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({"mixing": MixUp(0.2)}, r"labels of shape \(60,\), mixing=mixup:0.2, appended=None"),
            ({"appended": np.zeros((60, 2))}, r"labels of shape \(60,\), mixing=None, appended=\(60, 2\)"),
        ],
    )
    def test_id_labels_that_are_distributions_are_refused(self, training, images, options, found):
        with pytest.raises(ValueError, match=f"`batches` must have class indices as labels, .* Received: {found}"):
            WithOutliers(training(**options), images, 4)

    def test_soft_id_labels_are_refused(self, images, labels):
        batches = Batches(images, np.eye(7)[labels], 7, 8, training=True)
        with pytest.raises(ValueError, match=r"`batches` .* Received: labels of shape \(60, 7\), mixing=None"):
            WithOutliers(batches, images, 4)

    @pytest.mark.parametrize("shape", [(5, 20, 30, 1), (5, 30, 20, 3), (0, 20, 30, 3), (20, 30, 3)])
    def test_outliers_of_another_shape_or_none_are_refused(self, training, shape):
        message = rf"`images` must hold outliers of shape \(20, 30, 3\). Received: shape \({shape[0]}, "
        with pytest.raises(ValueError, match=message):
            WithOutliers(training(), np.zeros(shape, np.uint8), 4)

    def test_outliers_may_be_features(self, labels):
        batches = Batches(np.zeros((60, 5)), labels, 7, 8, training=True)
        batch, marks = WithOutliers(batches, np.full((9, 5), -2.0), 4)[0]
        np.testing.assert_array_equal(batch, np.where(marks == -1, -2, 0)[:, None].repeat(5, axis=1))


class TestDenoising:
    def test_targets_are_exactly_the_batches_alone_scaled(self, training):
        alone, denoising = training(epoch=2), Denoising(training(epoch=2), Noise())
        assert len(denoising) == denoising.num_batches == len(alone)
        for _ in range(2):
            targets = [(target["image"], target["class"]) for _, target in contents(denoising)]
            assert all(
                noised.dtype == image.dtype == np.float32
                for noised, (image, _) in zip((noised for noised, _ in contents(denoising)), targets, strict=True)
            )
            assert_same(targets, [(images / np.float32(255), labels) for images, labels in contents(alone)])
            alone.on_epoch_end()
            denoising.on_epoch_end()

    def test_without_noise_the_input_is_the_clean_image(self, images, labels):
        batches = Batches(images, labels, 7, 8)
        clean = contents(Denoising(batches, None))
        assert_same([(inputs, targets["class"]) for inputs, targets in clean], contents(batches))
        scaled = [(batch / np.float32(255), labels) for batch, labels in contents(batches)]
        assert_same([(targets["image"], targets["class"]) for _, targets in clean], scaled)

    def test_noise_is_never_the_same_in_another_epoch_batch_or_seed(self):
        same = np.zeros((12, 16, 16, 1), np.uint8)
        drawn = {
            Denoising(Batches(same, np.zeros(12, int), 1, 4, training=True, seed=seed), Noise())
            .batch(epoch, index)[0]
            .tobytes()
            for seed in range(3)
            for epoch in range(3)
            for index in range(3)
        }
        assert len(drawn) == 27

    def test_evaluation_images_are_noised_alike_in_every_epoch(self, images, labels):
        batches = Denoising(Batches(images, labels, 7, 16), Noise())
        first = contents(batches)
        batches.on_epoch_end()
        for (noised, _), (again, _) in zip(first, contents(batches), strict=True):
            np.testing.assert_array_equal(noised, again)
        assert [len(noised) for noised, _ in first] == [16, 16, 16, 12]

    def test_labels_of_mixed_images_stay_distributions(self, training):
        _, targets = Denoising(training(mixing=MixUp()), Noise())[3]
        expected, labels = training(mixing=MixUp())[3]
        assert_same([(targets["image"], targets["class"])], [(expected / np.float32(255), labels)])

    def test_noise_sides_are_at_most_those_of_the_image(self, training):
        assert Denoising(training(), Noise(sides=(20, 20)))[0][0].shape == (8, 20, 30, 3)
        message = r"`noise` must have sides of at most 20 pixels, for images of 20x30. Received: sides=\(4, 21\)"
        with pytest.raises(ValueError, match=message):
            Denoising(training(), Noise(sides=(4, 21)))

    def test_features_are_not_denoised(self, labels):
        message = r"`batches` must hold images of shape .* Received: features of shape \(60, 5\)"
        with pytest.raises(ValueError, match=message):
            Denoising(Batches(np.ones((60, 5)), labels, 7, 8), None)
