"""Augmentation layers of Keras and keras-cv: made reproducible, and told from what they are not."""

import keras
import numpy as np
import pytest
from scipy import stats

from decathlon import mixing_named
from decathlon.augmentation import Augmentation
from decathlon.batches import Batches
from decathlon.layers import _drawing_from
from decathlon.mixing import KerasLayer


def rng(seed=0):
    return np.random.default_rng(seed)


def raw_batch(count=8, side=16):
    """Returns the same random image many times, in [0, 255], and one-hot labels."""
    image = rng(6).integers(0, 256, (1, side, side, 3)).astype(np.float32)
    return image.repeat(count, axis=0), np.eye(count, dtype=np.float32)


@pytest.fixture(scope="module")
def rotation():
    return KerasLayer("keras.RandomRotation", factor=0.2)


class TestKerasLayer:
    def test_same_draws_give_the_same_images_and_others_other_ones(self, rotation):
        images, labels = raw_batch()
        (first, kept), (second, _), (again, _) = (rotation(images, labels, rng(seed)) for seed in (1, 2, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != second).any()
        assert len({one.tobytes() for one in first}) == 8
        np.testing.assert_array_equal(kept, labels)
        fresh, _ = KerasLayer("keras.RandomRotation", factor=0.2)(images, labels, rng(1))
        np.testing.assert_array_equal(fresh, first)

    def test_images_are_numpy_in_0_to_255_and_the_input_is_unchanged(self):
        images, labels = raw_batch()
        before = images.copy()
        bright, _ = KerasLayer("keras.RandomBrightness", factor=(0.5, 0.5))(images, labels, rng())
        assert (type(bright), bright.dtype) == (np.ndarray, np.float32)
        np.testing.assert_allclose(bright, np.minimum(images + 127.5, 255), atol=1e-3)
        np.testing.assert_array_equal(images, before)

    def test_layers_that_mix_labels_get_them(self):
        images, labels = np.eye(4, dtype=np.float32).reshape(4, 1, 2, 2) * 200, np.eye(4, dtype=np.float32)
        mixed, mixed_labels = KerasLayer("keras.MixUp", alpha=0.5)(images, labels, rng(1))
        np.testing.assert_allclose(mixed.reshape(4, 4), 200 * mixed_labels, atol=1e-3)
        assert (mixed_labels.max(axis=1) < 1).any()

    def test_layers_compute_in_float32_whatever_networks_compute_in(self, rotation, bfloat16):
        images, labels = raw_batch()
        layer = KerasLayer("keras.RandomRotation", factor=0.2)
        np.testing.assert_array_equal(layer(images, labels, rng(1))[0], rotation(images, labels, rng(1))[0])
        assert keras.config.dtype_policy().name == "mixed_bfloat16"

    def test_layers_that_change_the_shape_are_refused(self):
        message = r"`keras.CenterCrop` must keep the shape of images, \(16, 16, 3\). Received: \(8, 16, 3\)"
        with pytest.raises(ValueError, match=message):
            KerasLayer("keras.CenterCrop", height=8, width=16)(*raw_batch(), rng())

    def test_batches_depend_on_seed_epoch_and_index_alone(self, rotation):
        images, labels = raw_batch(24)[0].astype(np.uint8), np.zeros(24, int)
        options = {"batch_size": 8, "training": True, "augmentation": Augmentation()}
        places = [(epoch, index) for epoch in range(2) for index in range(3)]
        fresh = KerasLayer("keras.RandomRotation", factor=0.2)
        first = [Batches(images, labels, 1, **options, mixing=rotation).batch(*place)[0] for place in places]
        batches = Batches(images, labels, 1, **options, mixing=fresh)
        again = [batches.batch(*place)[0] for place in reversed(places)][::-1]
        np.testing.assert_array_equal(first, again)
        other = Batches(images, labels, 1, **options, mixing=rotation, seed=1)
        assert len({one.tobytes() for one in [*first, other[0][0]]}) == 7


@pytest.fixture(scope="module")
def cutout(keras_cv):
    return KerasLayer("keras_cv.RandomCutout", height_factor=0.5, width_factor=(0.1, 0.9))


class TestKerasCV:
    def test_same_draws_give_the_same_images_and_each_image_its_own(self, cutout):
        images, labels = raw_batch(16)
        (first, kept), (second, _), (again, _) = (cutout(images, labels, rng(seed)) for seed in (1, 2, 1))
        np.testing.assert_array_equal(first, again)
        assert (first != second).any()
        widths = (first == 0).all(axis=3).any(axis=1).sum(axis=1)
        assert len(set(widths)) > 4
        np.testing.assert_array_equal(kept, labels)

    def test_the_global_streams_are_neither_used_nor_changed(self, cutout):
        import tensorflow as tf

        images, labels = raw_batch(16)
        uniform, state = tf.random.uniform, tf.random.get_global_generator().state.numpy()
        first, _ = cutout(images, labels, rng(1))
        tf.random.uniform((3,))
        np.testing.assert_array_equal(cutout(images, labels, rng(1))[0], first)
        assert tf.random.uniform is uniform
        np.testing.assert_array_equal(tf.random.get_global_generator().state.numpy(), state)

    def test_streams_draw_the_distributions_of_the_global_ones(self, keras_cv):
        import tensorflow as tf

        with _drawing_from(tf.random.Generator.from_seed(0)):
            gamma = tf.random.gamma((2000,), alpha=tf.constant([1.0, 4.0])).numpy()
            uniform = tf.random.uniform((2000,), 2, 3, seed=None).numpy()
            normal = tf.random.normal((2000,), mean=1.0, stddev=2.0).numpy()
            orders = [tuple(tf.random.shuffle(tf.range(3), seed=None).numpy()) for _ in range(120)]
        assert gamma.shape == (2000, 2)
        for sample, distribution in (
            (gamma[:, 0], stats.gamma(1)),
            (gamma[:, 1], stats.gamma(4)),
            (uniform, stats.uniform(2, 1)),
            (normal, stats.norm(1, 2)),
        ):
            assert stats.kstest(sample, distribution.cdf).pvalue > 0.01
        assert min(orders.count(order) for order in set(orders)) > 5
        assert len(set(orders)) == 6

    @pytest.mark.parametrize("name", ["keras_cv.MixUp", "keras_cv.CutMix", "keras_cv.FourierMix"])
    def test_layers_that_mix_labels_are_reproducible(self, keras_cv, name):
        images, labels = raw_batch(4)
        layer = mixing_named(name)
        (first, mixed), (_, other), (again, same) = (layer(images, labels, rng(seed)) for seed in (1, 2, 1))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(mixed, same)
        assert (mixed != other).any()
        np.testing.assert_allclose(mixed.sum(axis=1), 1, atol=1e-5)
