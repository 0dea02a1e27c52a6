"""Seeded batches: order, augmentation, arithmetic and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from decathlon import batches as module
from decathlon.batches import (
    RICAP,
    Augmentation,
    Batches,
    CutMix,
    CutOut,
    Denoising,
    MixUp,
    Noise,
    WithOutliers,
    augment,
)
from decathlon.mixing import Mixing
from kls.feeding import feed


@pytest.fixture(scope="module")
def images():
    """Random images without a zero, so that a zero can only be fill."""
    return np.random.default_rng(0).integers(1, 256, size=(60, 20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.arange(60) % 7


@pytest.fixture(scope="module")
def training(images, labels):
    """Returns a function that makes training batches of eight, augmented by default."""

    def make(**options):
        options = {"batch_size": 8, "training": True, "augmentation": Augmentation(), "seed": 3, **options}
        return Batches(images, labels, 7, **options)

    return make


def contents(batches):
    return [batches[i] for i in range(len(batches))]


def assert_same(left, right):
    assert len(left) == len(right)
    for (left_images, left_labels), (right_images, right_labels) in zip(left, right, strict=True):
        np.testing.assert_array_equal(left_images, right_images)
        np.testing.assert_array_equal(left_labels, right_labels)


def numbered(count):
    """Returns images that are filled with their own number, labelled with it."""
    numbers = np.arange(count)
    return np.broadcast_to(numbers.astype(np.uint8)[:, None, None, None], (count, 4, 5, 1)).copy(), numbers


def all_variants(image, most_y, most_x, mode):
    """Returns what shifting and mirroring may make of an image, by SciPy, as {(dy, dx, mirrored): image}."""
    shifted = {
        (dy, dx): ndimage.shift(image, (dy, dx, 0), order=0, mode=mode)
        for dy in range(-most_y, most_y + 1)
        for dx in range(-most_x, most_x + 1)
    }
    return {
        (*shift, mirrored): moved[:, ::-1] if mirrored else moved
        for shift, moved in shifted.items()
        for mirrored in (False, True)
    }


def find_variant(varied, variants):
    """Returns the keys of the variants that an image equals."""
    return [key for key, variant in variants.items() if np.array_equal(varied, variant)]


def test_same_seed_gives_identical_batches_on_a_fresh_object(training):
    assert_same(contents(training()), contents(training()))


def test_batches_do_not_depend_on_the_order_in_which_they_are_asked_for(training):
    batches = training()
    backwards = [batches[i] for i in reversed(range(len(batches)))]
    assert_same(contents(training()), backwards[::-1])


def test_another_seed_gives_another_order(training):
    assert any(
        not np.array_equal(left, right)
        for (_, left), (_, right) in zip(contents(training(seed=3)), contents(training(seed=4)), strict=True)
    )


def test_epochs_differ_in_order():
    images, labels = numbered(60)
    batches = Batches(images, labels, 60, 60, training=True)
    orders = [tuple(batches.batch(epoch, 0)[1]) for epoch in range(20)]
    assert len(set(orders)) == 20


def test_augmentation_is_never_the_same_in_another_epoch_batch_or_seed(images):
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


def test_batch_of_a_named_epoch_equals_that_of_an_object_that_begins_there(training):
    images, labels = training().batch(5, 2)
    assert_same([(images, labels)], [training(epoch=5)[2]])


def test_evaluation_keeps_order_in_every_epoch_and_ignores_augmentation(images, labels):
    batches = Batches(images, labels, 7, 8, augmentation=Augmentation())
    first = contents(batches)
    batches.on_epoch_end()
    assert_same(first, contents(batches))
    np.testing.assert_array_equal(np.concatenate([batch for batch, _ in first]), images.astype(np.float32) / 255)
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
        expected = np.broadcast_to((batch_labels / 255)[:, None, None, None], batch_images.shape)
        np.testing.assert_allclose(batch_images, expected, rtol=1e-6)


def test_every_image_comes_exactly_once_per_epoch_when_batches_divide_them():
    images, labels = numbered(60)
    batches = Batches(images, labels, 60, 12, training=True)
    for _ in range(3):
        assert sorted(np.concatenate([batch for _, batch in contents(batches)])) == list(range(60))
        batches.on_epoch_end()


def test_images_are_float32_in_0_to_1_and_labels_int64():
    images = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)
    scaled, labels = Batches(images, np.array([0, 1, 1], np.uint8), 2, 3)[0]
    assert (scaled.dtype, labels.dtype) == (np.float32, np.int64)
    assert (type(scaled), type(labels)) == (np.ndarray, np.ndarray)
    np.testing.assert_array_equal(scaled.ravel(), np.array([0, 0.2, 1], np.float32))
    assert labels.tolist() == [0, 1, 1]


def test_mean_is_subtracted_per_pixel(images, labels):
    mean = np.random.default_rng(1).random((20, 30, 3), np.float32)
    batch, _ = Batches(images, labels, 7, 60, mean=mean)[0]
    np.testing.assert_allclose(batch, images / 255 - mean, atol=1e-6)


def test_fill_lies_at_the_mean(images, labels):
    mean = np.full((20, 30, 3), 0.5, np.float32)
    image = np.full((64, 20, 30, 3), 255, np.uint8)
    augmentation = Augmentation(shift=0.2)
    batches = Batches(image, np.zeros(64, int), 1, 64, training=True, mean=mean, augmentation=augmentation)
    assert np.unique(batches[0][0]).tolist() == [0.0, 0.5]


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


def test_single_bright_pixel_moves_by_whole_pixels_within_the_limit():
    image = np.zeros((1, 25, 39, 1), np.float32)
    image[0, 12, 19] = 1
    augmentation = Augmentation(shift=0.1, flip=False)
    varied = augment(np.repeat(image, 2000, axis=0), augmentation, np.random.default_rng(0))
    at = np.argwhere(varied[..., 0])
    assert len(at) == 2000
    assert set(at[:, 1] - 12) == set(range(-2, 3))
    assert set(at[:, 2] - 19) == set(range(-3, 4))


def test_each_image_of_a_batch_is_varied_on_its_own(images):
    image = images[0].astype(np.float32)
    table = {variant.tobytes() for variant in all_variants(image / 255, 2, 3, "constant").values()}
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
    st.integers(0, 2**32),
)
def test_any_augmentation_of_any_shape_is_one_of_the_variants(height, width, channels, shift, flip, fill, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, size=(height, width, channels)).astype(np.float32)
    mode = {"zero": "constant", "reflect": "mirror"}[fill]
    variants = all_variants(image, int(shift * height), int(shift * width), mode)
    varied = augment(np.repeat(image[None], 5, axis=0), Augmentation(shift, flip, fill), rng)
    assert varied.shape == (5, height, width, channels)
    for one in varied:
        assert any(flip or not key[2] for key in find_variant(one, variants))


def assert_finished_by_jax(batches):
    """Asserts that JAX makes the same bits of a batch's parts, which are much smaller than its images."""
    jax = pytest.importorskip("jax")
    assert batches.is_finishable
    finish = jax.jit(batches.finish, static_argnames="xp")
    for index in range(len(batches)):
        parts, labels = batches.unfinished(3, index)
        images, expected_labels = batches.batch(3, index)
        assert sum(part.nbytes for part in parts) < images.nbytes / 3
        found = finish(*parts, mean=batches.mean, xp=jax.numpy)
        assert found.dtype == images.dtype
        np.testing.assert_array_equal(found, images)
        np.testing.assert_array_equal(labels, expected_labels)


FINISHED = [
    {"augmentation": fill and Augmentation(shift=0.2, fill=fill), "mean": mean}
    for fill in (None, "zero", "reflect")
    for mean in (None, np.random.default_rng(1).random((20, 30, 3), np.float32))
]


@pytest.mark.parametrize("options", FINISHED)
def test_jax_finishes_a_batch_to_the_same_bits(options, training):
    assert_finished_by_jax(training(**options))


def test_a_mixed_batch_is_not_finished_elsewhere(training):
    assert not training(mixing=MixUp()).is_finishable


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
    mean = np.full((20, 30, 3), 0.5, np.float32)
    contents(Batches(images, labels, 7, 8, training=True, mean=mean, augmentation=Augmentation()))
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
        (np.full((59, 7), 1 / 7), "must be of the same length, at least 1. Received: 60 and 59"),
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
        (np.ones((60, 2, 2, 1), complex), "complex128"),
        (np.ones((60, 2, 2, 1), object), "object"),
        (np.full((60, 2, 2, 1), "a"), "<U1"),
    ],
)
def test_images_of_another_type_or_scale_are_refused(images, found):
    with pytest.raises(ValueError, match=rf"^`images` must be uint8, or floats in 0\.\.255\. Received: {found}$"):
        Batches(images, np.zeros(60, int), 7, 8)
    if images.dtype != np.uint8:
        familiar = Batches(np.ones((9, 2, 2, 1), np.uint8), np.zeros(9, int), 7, 8, training=True)
        with pytest.raises(ValueError, match=rf"^`images` must be uint8, or floats .* Received: {found}$"):
            WithOutliers(familiar, images, 4)


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_up_to_255_make_the_batches_of_bytes(images, labels, dtype):
    mean = np.full((20, 30, 3), 0.25, np.float32)
    found, _ = Batches(images.astype(dtype), labels, 7, 60, mean=mean)[0]
    expected, _ = Batches(images, labels, 7, 60, mean=mean)[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1.5}, r"`classes` must be a whole number of at least 1\. Received: classes=1\.5"),
        ({"classes": "7"}, r"`classes` must be .* Received: classes='7'"),
        ({"batch_size": 2.0}, r"`batch_size` must be .* Received: batch_size=2\.0"),
        ({"batch_size": None}, r"`batch_size` must be .* Received: batch_size=None"),
        ({"seed": -1}, r"`seed` must be a whole number of at least 0\. Received: seed=-1"),
        ({"seed": None}, r"`seed` must be .* Received: seed=None"),
        ({"epoch": 0.5}, r"`epoch` must be .* Received: epoch=0\.5"),
        ({"training": "no"}, r"`training` must be True or False\. Received: training='no'"),
        ({"augmentation": True}, r"`augmentation` must be an `Augmentation` or None\. Received: augmentation=True"),
        ({"mixing": "mixup"}, r"`mixing` must be a `Mixing` or None\. Received: mixing='mixup'"),
        ({"images": [[1]]}, r"`images` must be a NumPy array without a mask\. Received: images=\[\[1\]\]"),
        ({"images": np.ones((60, 2, 2), np.uint8)}, r"`images` must be of shape \(N, H, W, C\)\. .* \(60, 2, 2\)"),
        ({"images": np.ones((60, 0, 2, 1), np.uint8)}, r"`images` must be of shape .* \(60, 0, 2, 1\)"),
        ({"labels": [[0]] * 60}, r"`labels` must be a NumPy array without a mask\. Received: labels=\[\[0\]"),
        ({"labels": np.ma.masked_array(np.zeros(60, int), True)}, "`labels` must be a NumPy array without a mask"),
        ({"appended": [1.0] * 60}, "`appended` must be a NumPy array without a mask"),
        ({"mean": 0.5}, r"`mean` must be a NumPy array .* Received: mean=0\.5"),
        ({"mean": np.zeros((20, 30, 1), np.float32)}, r"`mean` must be float32 of shape \(20, 30, 3\)"),
        ({"mean": np.zeros((20, 30, 3))}, "`mean` must be float32 .* Received: float64"),
        ({"mean": np.full((20, 30, 3), 127, np.float32)}, r"`mean` must lie in \[0, 1\]\. .* \[127, 127\]"),
    ],
)
def test_arguments_of_another_type_are_refused_when_made(images, labels, options, message):
    with pytest.raises(ValueError, match=message):
        Batches(**{"images": images, "labels": labels, "classes": 7, "batch_size": 8, **options})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda batches: WithOutliers("batches", np.ones((9, 2, 2, 1), np.uint8), 4), "`familiar` must be `Batches`"),
        (lambda batches: WithOutliers(batches, [[1]], 4), "`images` must be a NumPy array"),
        (lambda batches: WithOutliers(batches, batches.images, 1.5), "`batch_size` must be a whole number"),
        (lambda batches: Denoising([1], Noise()), "`batches` must be `Batches`"),
        (lambda batches: Denoising(batches, 0.3), "`noise` must be a `Noise` or None"),
        (lambda batches: Noise("0.3"), r"`deviation` must be a number in \[0, inf\)\. Received: deviation='0.3'"),
        (lambda batches: Augmentation("0.1"), r"`shift` must be a number in \[0, 0.5\)\. Received: shift='0.1'"),
        (lambda batches: Augmentation(flip="no"), "`flip` must be True or False. Received: flip='no'"),
    ],
)
def test_what_wraps_or_varies_batches_refuses_other_types(training, make, message):
    with pytest.raises(ValueError, match=message):
        make(training())


def test_empty_set_is_refused(images):
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0 and 0"):
        Batches(images[:0], np.zeros(0, int), 7, 8)


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


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range_is_refused(training, index):
    with pytest.raises(IndexError, match=f"`index` must be a whole number in 0..6. Received: index={index}"):
        training()[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 0.5}, r"`shift` must be a number in \[0, 0.5\). Received: shift=0.5"),
        ({"shift": -0.1}, r"`shift` must be a number in \[0, 0.5\). Received: shift=-0.1"),
        ({"shift": float("nan")}, "`shift` must be a number in .* Received: shift=nan"),
        ({"fill": "edge"}, "`fill` must be one of zero, reflect. Received: fill='edge'"),
    ],
)
def test_bad_augmentation_is_refused_by_name_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


class Kept(Mixing):
    """Leaves images and labels as they are and keeps what it was called with."""

    def __init__(self, takes_raw_images=False):
        self.takes_raw_images = takes_raw_images
        self.calls = []

    def mix(self, images, labels, rng):
        self.calls.append((images.copy(), labels.copy(), rng.random()))
        return images, labels


@pytest.fixture(scope="module")
def distributions():
    return np.random.default_rng(2).dirichlet(np.ones(7), 60)


class TestMixing:
    def test_streams_keep_their_numbers(self):
        names = ("ORDER", "AUGMENTATION", "OUTLIER_ORDER", "OUTLIER_OFFSET", "OUTLIER_AUGMENTATION", "MIXING", "NOISE")
        assert [getattr(module, name) for name in names] == list(range(7))

    @pytest.mark.parametrize("raw", [False, True])
    def test_order_and_augmentation_are_those_without_mixing_and_labels_become_distributions(self, training, raw):
        mean = np.full((20, 30, 3), 0.25, np.float32)
        plain, kept = contents(training(mean=mean)), contents(training(mean=mean, mixing=Kept(raw)))
        for (images, labels), (kept_images, kept_labels) in zip(plain, kept, strict=True):
            np.testing.assert_array_equal(images, kept_images)
            assert kept_labels.dtype == np.float32
            np.testing.assert_array_equal(kept_labels, np.eye(7)[labels])

    def test_mixings_come_last_and_raw_ones_first(self, images, training):
        last, first = Kept(), Kept(takes_raw_images=True)
        mean = np.full((20, 30, 3), 0.25, np.float32)
        expected, labels = training(mean=mean)[2]
        training(mean=mean, mixing=last)[2]
        training(mean=mean, mixing=first)[2]
        np.testing.assert_array_equal(last.calls[0][0], expected)
        raw, raw_labels, _ = first.calls[0]
        assert raw.dtype == np.float32
        rows = [(images == one).all(axis=(1, 2, 3)).argmax() for one in raw]
        np.testing.assert_array_equal(images[rows], raw)
        np.testing.assert_array_equal(np.array(rows) % 7, labels)
        np.testing.assert_array_equal(raw_labels, np.eye(7)[labels])

    def test_each_batch_of_each_epoch_and_seed_draws_anew_and_always_the_same(self, training):
        kept = Kept()
        for _ in range(2):
            for seed in range(3):
                for epoch in range(3):
                    [training(mixing=kept, seed=seed).batch(epoch, index) for index in range(7)]
        draws = [draw for *_, draw in kept.calls]
        assert draws[:63] == draws[63:]
        assert len(set(draws)) == 63

    @pytest.mark.parametrize("mixing", [MixUp(), CutMix(), RICAP(), CutOut(4)], ids=str)
    def test_a_batch_is_the_unmixed_one_mixed_and_depends_on_seed_epoch_and_index_alone(self, training, mixing):
        first = contents(training(mixing=mixing, epoch=2))
        batches = training(mixing=mixing)
        again = [batches.batch(2, index) for index in reversed(range(7))][::-1]
        assert_same(first, again)
        for index, (mixed, labels) in enumerate(first):
            images, indices = training(epoch=2)[index]
            draws = np.random.default_rng([module.MIXING, 3, 2, index])
            assert_same([(mixed, labels)], [mixing(images, np.eye(7, dtype=np.float32)[indices], draws)])
            assert (mixed.dtype, labels.dtype) == (np.float32, np.float32)

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
    def test_distributions_come_as_float32_beside_the_images_of_their_indices(self, images, distributions, options):
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


FIRST_OUTLIER = 100  # outliers are filled with this and above, familiar images with less


def with_outliers(familiar=60, outliers=60, batch_size=12, outlier_batch_size=12, **options):
    """Returns batches of images that are filled with their own number, outliers from `FIRST_OUTLIER` on."""
    batches = Batches(*numbered(familiar), familiar, batch_size, training=True, **options)
    return WithOutliers(batches, numbered(outliers)[0] + np.uint8(FIRST_OUTLIER), outlier_batch_size)


def outlier_numbers(batches, epoch):
    """Returns which outliers an epoch holds, in order."""
    drawn = [batches.batch(epoch, index) for index in range(len(batches))]
    values = np.concatenate([images[labels == -1, 0, 0, 0] for images, labels in drawn])
    return np.rint(values * 255).astype(int) - FIRST_OUTLIER


class TestWithOutliers:
    def test_familiar_images_are_exactly_those_of_the_batches_alone(self, images, labels, training):
        options = {"mean": np.full((20, 30, 3), 0.25, np.float32), "epoch": 2}
        alone, mixed = training(**options), WithOutliers(training(**options), images[:9], 5)
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
            assert (images.dtype, labels.dtype) == (np.float32, np.int64)
            values = np.rint(images[:, 0, 0, 0] * 255)
            np.testing.assert_array_equal(labels, np.where(values < FIRST_OUTLIER, values, -1))
            assert (labels == -1).sum() == 24

    def test_a_batch_depends_on_seed_epoch_and_index_alone(self):
        expected = contents(with_outliers(seed=3, epoch=4))
        travelled = with_outliers(seed=3)
        for _ in range(4):
            travelled[1]
            travelled.on_epoch_end()
        backwards = [travelled[index] for index in reversed(range(len(travelled)))]
        assert_same(backwards[::-1], expected)
        assert_same([with_outliers(seed=3).batch(4, index) for index in range(5)], expected)

    def test_each_epoch_reads_one_order_from_an_offset_of_its_own_and_wraps_around(self):
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
        batches = with_outliers(familiar=4, outliers=5, batch_size=4, outlier_batch_size=1)
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
        familiar = Batches(images, np.zeros(128, int), 1, 128, training=True)
        _, labels = WithOutliers(familiar, images, 256)[0]
        assert [(share == -1).sum() for share in np.split(labels, shares)] == [256 // shares] * shares

    @settings(deadline=None, max_examples=60)
    @given(st.integers(1, 60), st.integers(1, 60))
    def test_the_head_of_a_batch_is_mixed_as_all_of_it(self, familiar, outliers):
        batches = with_outliers(familiar, 60, familiar, outliers)
        heads = np.cumsum(batches[0][1] == -1)
        expected = np.arange(1, familiar + outliers + 1) * outliers / (familiar + outliers)
        assert np.abs(heads - expected).max() <= 1

    @pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("reflect", "mirror")])
    def test_outliers_are_normalised_and_augmented_as_familiar_images(self, images, fill, mode):
        mean = np.random.default_rng(1).random((20, 30, 3), np.float32)
        options = {"mean": mean, "augmentation": Augmentation(0.1, fill=fill)}
        familiar = Batches(images[:8], np.zeros(8, int), 1, 8, training=True, **options)
        batches = WithOutliers(familiar, np.repeat(images[9:10], 3, axis=0), 64)
        variants = all_variants(images[9] / np.float32(255) - mean, 2, 3, mode)
        table = {np.ascontiguousarray(variant).tobytes() for variant in variants.values()}
        drawn = []
        for epoch in range(3):
            batch, labels = batches.batch(epoch, 0)
            drawn.append([one.tobytes() for one in batch[labels == -1]])
            assert set(drawn[-1]) <= table
            assert len(set(drawn[-1])) > 20
        assert len({tuple(one) for one in drawn}) == 3

    @pytest.mark.parametrize("options", FINISHED)
    def test_jax_finishes_a_batch_to_the_same_bits(self, options, images, training):
        assert_finished_by_jax(WithOutliers(training(**options), images[:9], 5))

    def test_outliers_are_varied_otherwise_than_the_familiar_images_beside_them(self, images):
        same = np.repeat(images[:1], 64, axis=0)
        familiar = Batches(same, np.zeros(64, int), 1, 64, training=True, augmentation=Augmentation())
        batch, labels = WithOutliers(familiar, same, 64)[0]
        assert (batch[labels == 0] != batch[labels == -1]).any(axis=(1, 2, 3)).sum() > 50

    def test_without_augmentation_and_mean_outliers_are_scaled_alone(self, images):
        familiar = Batches(images[:6], np.zeros(6, int), 1, 6, training=True)
        batch, labels = WithOutliers(familiar, images[10:20], 10)[0]
        found = {one.tobytes() for one in batch[labels == -1]}
        assert found == {one.tobytes() for one in images[10:20] / np.float32(255)}

    def test_the_epoch_is_that_of_the_familiar_batches(self):
        batches = with_outliers(epoch=3)
        assert batches.epoch == 3
        batches.epoch = 7
        assert batches.familiar.epoch == 7
        assert_same(contents(batches), contents(with_outliers(epoch=7)))
        batches.on_epoch_end()
        assert batches.epoch == batches.familiar.epoch == 8

    def test_feeds_a_model_epoch_after_epoch(self):
        batches = with_outliers(outlier_batch_size=20, epoch=1)
        fed = itertools.islice(iter(feed(batches, endless=True)), 2 * len(batches))
        expected = [batches.batch(epoch, index) for epoch in (1, 2) for index in range(len(batches))]
        assert_same([tuple(map(np.asarray, batch)) for batch in fed], expected)

    def test_memory_mapped_outliers_give_the_same_batches(self, images, labels, tmp_path):
        np.save(tmp_path / "outliers.npy", images)
        familiar = Batches(images, labels, 7, 8, training=True)
        mapped = np.load(tmp_path / "outliers.npy", mmap_mode="r")
        found, expected = (contents(WithOutliers(familiar, outliers, 70)) for outliers in (mapped, images))
        assert_same(found, expected)
        assert type(found[0][0]) is np.ndarray

    @pytest.mark.parametrize(
        ("options", "found"),
        [
            ({"mixing": MixUp(0.2)}, r"labels of shape \(60,\), mixing=mixup:0.2, appended=None"),
            ({"appended": np.zeros((60, 2))}, r"labels of shape \(60,\), mixing=None, appended=\(60, 2\)"),
        ],
    )
    def test_familiar_labels_that_are_distributions_are_refused(self, training, images, options, found):
        with pytest.raises(ValueError, match=f"`familiar` must have class indices as labels, .* Received: {found}"):
            WithOutliers(training(**options), images, 4)

    def test_soft_familiar_labels_are_refused(self, images, distributions):
        familiar = Batches(images, distributions, 7, 8, training=True)
        with pytest.raises(ValueError, match=r"`familiar` .* Received: labels of shape \(60, 7\), mixing=None"):
            WithOutliers(familiar, images, 4)

    @pytest.mark.parametrize("shape", [(5, 20, 30, 1), (5, 30, 20, 3), (0, 20, 30, 3), (20, 30, 3)])
    def test_outliers_of_another_shape_or_none_are_refused(self, training, shape):
        message = rf"`images` must hold outliers of shape \(20, 30, 3\). Received: shape \({shape[0]}, "
        with pytest.raises(ValueError, match=message):
            WithOutliers(training(), np.zeros(shape, np.uint8), 4)

    @pytest.mark.parametrize("batch_size", [0, -1])
    def test_no_outliers_per_batch_are_refused(self, training, images, batch_size):
        message = f"`batch_size` must be a whole number of at least 1. Received: batch_size={batch_size}"
        with pytest.raises(ValueError, match=message):
            WithOutliers(training(), images, batch_size)

    @pytest.mark.parametrize("index", [-1, 7])
    def test_index_out_of_range_is_refused(self, training, images, index):
        with pytest.raises(IndexError, match=f"`index` must be a whole number in 0..6. Received: index={index}"):
            WithOutliers(training(), images, 4)[index]


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


class TestDenoising:
    def test_targets_are_exactly_the_batches_alone(self, training):
        options = {"mean": np.full((20, 30, 3), 0.25, np.float32), "epoch": 2}
        alone, denoising = training(**options), Denoising(training(**options), Noise())
        assert len(denoising) == denoising.num_batches == len(alone)
        for _ in range(2):
            targets = [(target["image"], target["class"]) for _, target in contents(denoising)]
            assert all(noised.dtype == np.float32 for noised, _ in contents(denoising))
            assert_same(targets, contents(alone))
            alone.on_epoch_end()
            denoising.on_epoch_end()

    def test_without_noise_the_input_is_the_clean_image(self, images, labels):
        batches = Batches(images, labels, 7, 8)
        clean = contents(Denoising(batches, None))
        assert_same([(inputs, targets["class"]) for inputs, targets in clean], contents(batches))
        assert_same([(targets["image"], targets["class"]) for _, targets in clean], contents(batches))

    @settings(deadline=None, max_examples=20)
    @given(st.data())
    def test_one_square_of_one_grey_hides_a_part_of_each_image(self, data):
        height, width = data.draw(st.integers(1, 12), "height"), data.draw(st.integers(1, 12), "width")
        largest = data.draw(st.integers(1, min(height, width)), "largest")
        sides = (data.draw(st.integers(1, largest), "smallest"), largest)
        channels = data.draw(st.sampled_from([1, 3]), "channels")
        images = np.random.default_rng(0).integers(0, 256, (9, height, width, channels), np.uint8)
        batches = Batches(images, np.zeros(9, int), 1, 9, seed=data.draw(st.integers(0, 99), "seed"))
        noised, targets = Denoising(batches, Noise(0, sides))[0]
        found = squares(noised, targets["image"])
        assert (found[:, 2] >= sides[0]).all()
        assert (found[:, 2] <= sides[1]).all()
        assert (found[:, 3] >= 0).all()
        assert (found[:, 3] < 1).all()

    def test_sides_places_and_greys_are_uniform(self):
        batches = Batches(np.zeros((6000, 6, 7, 1), np.uint8), np.zeros(6000, int), 1, 6000)
        noised, targets = Denoising(batches, Noise(0, (3, 5)))[0]
        found = squares(noised, targets["image"])
        top, left, side = found[:, :3].astype(int).T
        assert stats.chisquare(np.bincount(side)[3:]).pvalue > 1e-3
        for each in (3, 4, 5):
            places = np.zeros((6 - each + 1, 7 - each + 1))
            np.add.at(places, (top[side == each], left[side == each]), 1)
            assert stats.chisquare(places.ravel()).pvalue > 1e-3
        assert stats.kstest(found[:, 3], "uniform").pvalue > 1e-3
        assert abs(stats.spearmanr(found[:, 2], found[:, 3]).statistic) < 0.05

    def test_gaussian_noise_lies_over_all_and_is_not_clipped(self, images, labels):
        batches = Batches(images, labels, 7, 60)
        noised, hidden = (Denoising(batches, Noise(deviation))[0][0] for deviation in (0.3, 0))
        noise = (noised - hidden) / 0.3
        assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
        inside = (hidden != images / np.float32(255)).any(axis=3)
        assert stats.kstest(noise[inside].ravel(), "norm").pvalue > 1e-3
        assert noised.min() < 0
        assert noised.max() > 1

    def test_the_square_is_minus_the_mean_as_the_images_are(self, images, labels):
        mean = np.random.default_rng(1).random((20, 30, 3), np.float32)
        noised, targets = Denoising(Batches(images, labels, 7, 60, mean=mean), Noise(0, (10, 14)))[0]
        hidden = noised != targets["image"]
        shown = noised + mean
        greys = [one[where] for one, where in zip(shown, hidden, strict=True)]
        assert max(np.ptp(grey) for grey in greys) < 1e-6
        assert len({round(float(grey[0]), 5) for grey in greys}) > 50

    def test_what_hides_an_image_depends_on_seed_epoch_and_index_alone(self, training):
        expected = contents(Denoising(training(epoch=4), Noise()))
        travelled = Denoising(training(), Noise())
        for _ in range(4):
            travelled[1]
            travelled.on_epoch_end()
        backwards = [travelled[index] for index in reversed(range(7))][::-1]
        named = [Denoising(training(), Noise()).batch(4, index) for index in range(7)]
        for found in (backwards, named):
            for (noised, _), (again, _) in zip(expected, found, strict=True):
                np.testing.assert_array_equal(noised, again)

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
        assert_same([(targets["image"], targets["class"])], [(expected, labels)])

    def test_the_epoch_is_that_of_the_batches(self, training):
        denoising = Denoising(training(epoch=3), Noise())
        denoising.epoch = 7
        assert denoising.batches.epoch == 7
        denoising.on_epoch_end()
        assert denoising.epoch == denoising.batches.epoch == 8

    def test_feeds_a_model_epoch_after_epoch(self, training):
        batches = Denoising(training(epoch=1), Noise())
        fed = itertools.islice(iter(feed(batches, endless=True)), 2 * len(batches))
        expected = [batches.batch(epoch, index) for epoch in (1, 2) for index in range(len(batches))]
        for (noised, targets), (images, clean) in zip(fed, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(noised), images)
            assert_same(
                [(np.asarray(targets["image"]), np.asarray(targets["class"]))], [(clean["image"], clean["class"])]
            )

    def test_sides_up_to_those_of_the_image_are_taken_and_larger_ones_refused(self, training):
        assert Denoising(training(), Noise(sides=(20, 20)))[0][0].shape == (8, 20, 30, 3)
        message = r"`noise` must have sides of at most 20 pixels, for images of 20x30. Received: sides=\(4, 21\)"
        with pytest.raises(ValueError, match=message):
            Denoising(training(), Noise(sides=(4, 21)))

    @pytest.mark.parametrize("deviation", [-0.1, float("nan"), float("inf")])
    def test_bad_deviation_is_refused_by_name_and_value(self, deviation):
        message = rf"`deviation` must be a number in \[0, inf\). Received: deviation={deviation}"
        with pytest.raises(ValueError, match=message):
            Noise(deviation)

    @pytest.mark.parametrize("sides", [(0, 3), (5, 4), (3.0, 4), (True, 4), (3,), (3, 4, 5), 3, "34"])
    def test_bad_sides_are_refused_by_name_and_value(self, sides):
        with pytest.raises(ValueError, match=r"`sides` must be .* Received: sides=") as caught:
            Noise(sides=sides)
        assert str(caught.value).endswith(f"sides={sides!r}")

    @pytest.mark.parametrize("index", [-1, 7])
    def test_index_out_of_range_is_refused(self, training, index):
        with pytest.raises(IndexError, match=f"`index` must be a whole number in 0..6. Received: index={index}"):
            Denoising(training(), Noise())[index]
