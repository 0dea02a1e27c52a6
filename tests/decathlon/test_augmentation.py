"""Varying and hiding images: SciPy's shifts as the oracle, distributions of what is drawn, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from decathlon import batches as module
from decathlon.augmentation import Augmentation, Noise, augment
from decathlon.batches import Batches
from decathlon.wrappers import Denoising
from kls.layers import Pixels

from .helpers import all_variants, assert_same, contents


def find_variant(varied, variants):
    """Returns the keys of the variants that an image equals."""
    return [key for key, variant in variants.items() if np.array_equal(varied, variant)]


def test_augmentation_differs_between_epochs_batches_and_seeds(images):
    same = np.repeat(images[:1], 64, axis=0)
    drawn = {
        Batches(same, np.zeros(64, int), 1, 16, training=True, augmentation=Augmentation(), seed=seed)
        .batch(epoch, index)[0]
        .tobytes()
        for seed in range(3)
        for epoch in range(10)
        for index in range(4)
    }
    assert len(drawn) == 3 * 10 * 4


@pytest.mark.parametrize("blank", [None, np.uint8, np.float32])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_blank_image_fills_the_margin_of_a_shift_in_place(blank, dtype):
    """Bytes get the rounded one."""
    values = np.random.default_rng(0).uniform(0, 254, (20, 30, 3))
    blank = blank and values.astype(blank)
    white = np.full((64, 20, 30, 3), 255, dtype)
    options = {"training": True, "augmentation": Augmentation(shift=0.2), "blank": blank}
    images, _ = Batches(white, np.zeros(64, int), 1, 64, **options)[0]
    assert images.dtype == dtype
    outside = (images != 255).any(axis=3)
    expected = np.zeros((20, 30, 3)) if blank is None else blank
    expected = np.rint(expected) if dtype == np.uint8 else expected
    np.testing.assert_array_equal(images[outside], np.broadcast_to(expected, images.shape)[outside])
    assert outside[:, [0, -1]].any()
    assert outside[:, :, [0, -1]].any()
    assert not outside[:, 4:-4, 6:-6].any()


def test_outside_a_shifted_image_a_network_sees_its_mean(images, labels):
    mean = images.mean(axis=0, dtype=np.float32) / 255
    options = {"training": True, "augmentation": Augmentation(shift=0.2), "blank": np.rint(255 * mean).astype(np.uint8)}
    white = np.full_like(images, 255)
    (batch, _) = Batches(white, labels, 7, 60, **options)[0]
    seen = np.asarray(Pixels(mean)(batch))
    outside = (batch != 255).any(axis=3)
    assert outside.any()
    assert np.abs(seen[outside]).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("reflect", "mirror")])
@pytest.mark.parametrize("flip", [True, False])
def test_augmented_images_are_shifts_and_mirror_images_and_all_occur(images, fill, mode, flip):
    """Height 20 and width 30 at 10 %: up to 2 rows and 3 columns, in both directions."""
    image = images[0].astype(np.float32)
    variants = all_variants(image, 2, 3, mode)
    allowed = {key for key in variants if flip or not key[2]}
    augmentation = Augmentation(shift=0.1, flip=flip, fill=fill)
    varied = augment(np.repeat(image[None], 1500, axis=0), augmentation, np.random.default_rng(0))
    table = {variant.tobytes(): key for key, variant in variants.items()}
    assert len(table) == len(variants) == 5 * 7 * 2
    assert {table[np.ascontiguousarray(one).tobytes()] for one in varied} == allowed


def test_each_image_of_a_batch_is_varied_on_its_own(images):
    image = images[0]
    table = {variant.tobytes() for variant in all_variants(image, 2, 3, "constant").values()}
    same = np.repeat(images[:1], 64, axis=0)
    batches = Batches(same, np.zeros(64, int), 1, 64, training=True, augmentation=Augmentation())
    drawn = {one.tobytes() for one in batches[0][0]}
    assert len(drawn) > 20
    assert drawn <= table


@pytest.mark.parametrize("share", [0.1, 0.125, 0.2])
def test_largest_shift_is_the_share_rounded_down(share):
    for side in (1, 8, 10, 20, 28, 30, 32, 64, 70, 72, 96, 100, 224):
        image = np.zeros((400, 1, side, 1), np.float32)
        image[:, 0, side // 2] = 1
        varied = augment(image, Augmentation(shift=share, flip=False), np.random.default_rng(0))
        most = int(side * round(share * 1000)) // 1000
        assert (varied.reshape(400, side).argmax(axis=1) - side // 2).max() == most


def test_about_half_of_the_images_are_mirrored(images):
    image = images[0].astype(np.float32)
    varied = augment(np.repeat(image[None], 4000, axis=0), Augmentation(shift=0), np.random.default_rng(0))
    mirrored = (varied == image[:, ::-1]).all(axis=(1, 2, 3))
    kept = (varied == image).all(axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize("fill", ["zero", "reflect"])
def test_each_pixel_comes_from_the_place_drawn_for_it(images, fill):
    """The draws are part of a study's recipe: rows of all images, then columns, then which are mirrored."""
    blank = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    varied = augment(images, Augmentation(0.2, fill=fill), np.random.default_rng(7), blank)
    rng = np.random.default_rng(7)
    down, right = rng.integers(-4, 5, 60), rng.integers(-6, 7, 60)
    mirrored = rng.random(60) < 0.5
    image, row, column = np.indices((60, 20, 30))
    rows = row + down[image]
    columns = np.where(mirrored[image], 29 - column, column) + right[image]
    inside = (rows >= 0) & (rows < 20) & (columns >= 0) & (columns < 30)
    if fill == "reflect":
        rows, columns = 19 - abs(19 - abs(rows)), 29 - abs(29 - abs(columns))
    expected = images[image, rows.clip(0, 19), columns.clip(0, 29)]
    if fill == "zero":
        expected = np.where(inside[..., None], expected, blank)
    np.testing.assert_array_equal(varied, expected)


def test_without_shift_and_flip_images_stay_as_they_are(training, images, labels):
    still = training(augmentation=Augmentation(shift=0, flip=False))
    assert_same(contents(still), contents(training(augmentation=None)))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 3]),
    st.floats(0, 0.49),
    st.booleans(),
    st.sampled_from(["zero", "reflect"]),
    st.sampled_from([np.uint8, np.int64, np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_any_augmentation_of_any_images_is_one_of_the_variants(height, width, channels, shift, flip, fill, dtype, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, size=(height, width, channels)).astype(dtype)
    mode = {"zero": "constant", "reflect": "mirror"}[fill]
    variants = all_variants(image, int(shift * height), int(shift * width), mode)
    varied = augment(np.repeat(image[None], 5, axis=0), Augmentation(shift, flip, fill), rng)
    assert (varied.shape, varied.dtype) == ((5, height, width, channels), dtype)
    for one in varied:
        assert any(flip or not key[2] for key in find_variant(one, variants))


@pytest.mark.parametrize("fill", ["zero", "reflect"])
def test_augmentation_commutes_with_subtracting_a_mean_of_one_color(images, labels, fill):
    """The old order of operations: scaled, minus the mean, then moved."""
    color = np.array([0.25, 0.5, 0.75], np.float32)
    blank = np.broadcast_to(255 * color, (20, 30, 3))
    augmentation = Augmentation(shift=0.2, fill=fill)
    options = {"training": True, "augmentation": augmentation, "blank": blank}
    batch, drawn = Batches(images.astype(np.float32), np.arange(60), 60, 60, **options)[0]
    rng = np.random.default_rng([module.AUGMENTATION, 0, 0, 0])
    expected = augment(images[drawn] / np.float32(255) - color, augmentation, rng)
    np.testing.assert_allclose(batch / 255 - color, expected, atol=1e-6)


def squares(noised, images):
    """Returns `(top, left, side, fill)` of what hides a part of each image; it must be one square of one grey."""
    found = []
    for one, image in zip(noised, images, strict=True):
        rows, columns = np.nonzero((one != image).any(axis=2))
        top, left = rows.min(), columns.min()
        height, width = np.array([rows.max(), columns.max()]) + 1 - (top, left)
        assert height == width
        assert len(rows) == height * width
        (fill,) = np.unique(one[top : top + height, left : left + width])
        found.append((top, left, height, fill))
    return np.array(found)


class TestNoise:
    @settings(deadline=None, max_examples=20)
    @given(st.data())
    def test_one_square_of_one_grey_hides_a_part_of_each_image(self, data):
        height, width = data.draw(st.integers(1, 12), "height"), data.draw(st.integers(1, 12), "width")
        largest = data.draw(st.integers(1, min(height, width)), "largest")
        sides = (data.draw(st.integers(1, largest), "smallest"), largest)
        channels = data.draw(st.sampled_from([1, 3]), "channels")
        images = np.random.default_rng(0).integers(0, 256, (9, height, width, channels), np.uint8)
        batches = Batches(images, np.zeros(9, int), 1, 9, seed=data.draw(st.integers(0, 99), "seed"))
        noised, _ = Denoising(batches, Noise(0, sides))[0]
        found = squares(noised, images)
        assert (found[:, 2] >= sides[0]).all()
        assert (found[:, 2] <= sides[1]).all()
        assert (found[:, 3] >= 0).all()
        assert (found[:, 3] < 255).all()

    def test_sides_places_and_greys_are_uniform(self):
        batches = Batches(np.zeros((6000, 6, 7, 1), np.uint8), np.zeros(6000, int), 1, 6000)
        noised, _ = Denoising(batches, Noise(0, (3, 5)))[0]
        found = squares(noised, batches.images)
        top, left, side = found[:, :3].astype(int).T
        assert stats.chisquare(np.bincount(side)[3:]).pvalue > 1e-3
        for each in (3, 4, 5):
            places = np.zeros((6 - each + 1, 7 - each + 1))
            np.add.at(places, (top[side == each], left[side == each]), 1)
            assert stats.chisquare(places.ravel()).pvalue > 1e-3
        assert stats.kstest(found[:, 3], stats.uniform(0, 255).cdf).pvalue > 1e-3
        assert abs(stats.spearmanr(found[:, 2], found[:, 3]).statistic) < 0.05

    def test_gaussian_noise_lies_over_all_and_is_not_clipped(self, images, labels):
        batches = Batches(images, labels, 7, 60)
        noised, hidden = (Denoising(batches, Noise(deviation))[0][0] for deviation in (0.3, 0))
        noise = (noised - hidden) / (0.3 * 255)
        assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
        inside = (hidden != images).any(axis=3)
        assert stats.kstest(noise[inside].ravel(), "norm").pvalue > 1e-3
        assert noised.min() < 0
        assert noised.max() > 255

    def test_noised_pixels_scaled_are_scaled_images_under_the_same_draws(self, images):
        """The old order of operations: Gaussian noise, then the image outside the square, then the square's grey."""
        found = Noise(0.3, (4, 9))(images, np.random.default_rng(1))
        rng = np.random.default_rng(1)
        side = rng.integers(4, 10, size=(60, 1))
        starts = [rng.integers(0, extent - side + 1) for extent in (20, 30)]
        fill, noise = rng.random(60, np.float32), rng.standard_normal(images.shape, np.float32)
        expected = images / np.float32(255)
        for image, size, top, left, grey in zip(
            expected, side[:, 0], *(start[:, 0] for start in starts), fill, strict=True
        ):
            image[top : top + size, left : left + size] = grey
        np.testing.assert_allclose(found / 255, expected + np.float32(0.3) * noise, atol=1e-6)

    @pytest.mark.parametrize("sides", [(0, 3), (5, 4), (3.0, 4), (True, 4), (3,), (3, 4, 5), 3, "34"])
    def test_bad_sides_are_refused_by_name_and_value(self, sides):
        with pytest.raises(ValueError, match=r"`sides` must be .* Received: sides=") as caught:
            Noise(sides=sides)
        assert str(caught.value).endswith(f"sides={sides!r}")
