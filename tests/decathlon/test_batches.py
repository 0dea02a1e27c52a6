"""Seeded batches: order, augmentation, arithmetic and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from decathlon.batches import Augmentation, Batches, augment


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
        (np.full(60, -1), "`labels` are all -1: this split has no labels to train or to evaluate on."),
        (np.r_[np.zeros(59, int), 7], r"`labels` must be in 0..6. Received: 1 others, the first labels\[59\]=7"),
        (np.r_[np.zeros(9, int), [-1] * 51], r"in 0..6. Received: 51 others, the first labels\[9\]=-1"),
        (np.zeros(60), "`labels` must be integers. Received: dtype float64"),
        (np.zeros(60, bool), "`labels` must be integers. Received: dtype bool"),
        (np.zeros(59, int), "must be of the same length, at least 1. Received: 60 and 59"),
        (np.zeros(0, int), "must be of the same length, at least 1. Received: 60 and 0"),
        (np.zeros((60, 1), int), r"`labels` must be of shape \(60,\). Received: shape \(60, 1\)"),
    ],
)
def test_bad_labels_are_refused_by_name_and_value(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Batches(images, labels, 7, 8)


def test_empty_set_is_refused(images):
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0 and 0"):
        Batches(images[:0], np.zeros(0, int), 7, 8)


@pytest.mark.parametrize(("batch_size", "training"), [(61, True), (0, True), (0, False), (-1, False)])
def test_batch_size_out_of_range_is_refused(images, labels, batch_size, training):
    message = f"`batch_size` must be in 1..60, the number of images. Received: batch_size={batch_size}"
    with pytest.raises(ValueError, match=message):
        Batches(images, labels, 7, batch_size, training=training)


def test_evaluation_takes_a_batch_larger_than_the_set(images, labels):
    batches = Batches(images, labels, 7, 1000)
    assert len(batches) == 1
    assert len(batches[0][1]) == 60


@pytest.mark.parametrize("index", [-1, 7])
def test_index_out_of_range_is_refused(training, index):
    with pytest.raises(IndexError, match=f"`index` must be in 0..6. Received: index={index}"):
        training()[index]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 0.5}, r"`shift` must be in \[0, 0.5\). Received: shift=0.5"),
        ({"shift": -0.1}, r"`shift` must be in \[0, 0.5\). Received: shift=-0.1"),
        ({"shift": float("nan")}, "`shift` must be in .* Received: shift=nan"),
        ({"fill": "edge"}, "`fill` must be one of zero, reflect. Received: fill='edge'"),
    ],
)
def test_bad_augmentation_is_refused_by_name_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
