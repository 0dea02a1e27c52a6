import itertools

import keras
import numpy as np
import pytest

from kls.utils.data import _made_ahead, feed

TENSORFLOW = keras.backend.backend() == "tensorflow"


class Counting(keras.utils.PyDataset):
    """Batches that say which they are."""

    epoch = 3

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.batch(self.epoch, index)

    def batch(self, epoch, index):
        size = 2 if index < 3 else 1
        return np.full((size, 2), epoch, "float32"), np.full(size, index, "int64")


class TwoTargets(Counting):
    """Batches that say which they are, with a target for each of two outputs."""

    def batch(self, epoch, index):
        images, labels = super().batch(epoch, index)
        return images, {"image": -images, "class": labels}


class Bytes(Counting):
    """The same batches in bytes."""

    def batch(self, epoch, index):
        images, labels = super().batch(epoch, index)
        return images.astype("uint8"), labels


def seen(dataset, count):
    return [(float(x[0, 0]), int(y[0]), len(y)) for x, y in itertools.islice(dataset, count)]


@pytest.mark.skipif(not TENSORFLOW, reason="other backends take the batches themselves")
class TestTensorFlow:
    def test_one_epoch_with_its_partial_batch(self):
        dataset = feed(Counting())
        assert seen(dataset, None) == [(3, 0, 2), (3, 1, 2), (3, 2, 2), (3, 3, 1)]
        assert int(dataset.cardinality()) == 4

    def test_endless_goes_on_with_the_next_epoch(self):
        assert seen(feed(Counting(), endless=True), 9)[4:] == [(4, 0, 2), (4, 1, 2), (4, 2, 2), (4, 3, 1), (5, 0, 2)]

    def test_targets_may_be_a_dictionary(self):
        dataset = feed(TwoTargets())
        _, specification = dataset.element_spec
        assert {name: (target.dtype.name, target.shape.rank) for name, target in specification.items()} == {
            "image": ("float32", 2),
            "class": ("int64", 1),
        }
        for index, (x, y) in enumerate(dataset):
            np.testing.assert_array_equal(y["image"], -x)
            assert set(y["class"].numpy()) == {index}

    def test_bytes_stay_bytes(self):
        assert feed(Bytes()).element_spec[0].dtype.name == "uint8"
        assert seen(feed(Bytes()), None) == seen(feed(Counting()), None)

    def test_autotuning_and_sharding_are_off(self):
        import tensorflow as tf

        options = feed(Counting()).options()
        assert options.autotune.enabled is False
        assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF


@pytest.mark.skipif(TENSORFLOW, reason="TensorFlow takes a tf.data.Dataset")
def test_other_backends_evaluate_the_batches_as_they_are():
    batches = Counting()
    assert feed(batches) is batches


@pytest.mark.skipif(TENSORFLOW, reason="TensorFlow takes a tf.data.Dataset")
def test_other_backends_train_on_bytes_as_they_are():
    images, _ = next(feed(Bytes(), endless=True))
    assert images.dtype == "uint8"


def test_a_model_of_floats_makes_of_bytes_what_it_makes_of_floats():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mean_squared_error")
    of_bytes, of_floats = (model.evaluate(feed(batches), verbose=0) for batches in (Bytes(), Counting()))
    assert of_bytes == of_floats > 0


class TestMakingAhead:
    def test_batches_come_in_order_and_at_most_one_is_made_ahead(self):
        made = []
        batches = _made_ahead(lambda *place: made.append(place) or place, itertools.product(range(2), range(3)))
        assert next(batches) == (0, 0)
        assert len(made) <= 2
        assert list(batches) == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
        assert len(made) == 6

    def test_an_error_reaches_who_asks_for_the_batch(self):
        def make(place):
            if place == 2:
                raise OSError("the disk is gone")
            return place

        batches = _made_ahead(make, ((place,) for place in itertools.count()))
        assert [next(batches), next(batches)] == [0, 1]
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)


def test_fit_sees_every_batch_of_the_first_epoch_and_the_next():
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[0.5], [0.5]])])  # the prediction is the epoch, the label is the index of the batch
    model.compile(keras.optimizers.SGD(0.0), "mean_absolute_error")
    history = model.fit(feed(Counting(), endless=True), steps_per_epoch=4, epochs=2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(
        history["loss"], [(2 * 3 + 2 * 2 + 2 * 1 + 0) / 7, (2 * 4 + 2 * 3 + 2 * 2 + 1) / 7], rtol=1e-6
    )


def test_two_outputs_fit_and_evaluate_on_a_dictionary_of_targets():
    inputs = keras.layers.Input((2,))
    outputs = {name: keras.layers.Dense(1, use_bias=False, name=name)(inputs) for name in ("class", "image")}
    model = keras.Model(inputs, outputs)
    half = np.array([[0.5], [0.5]])
    model.set_weights([half, half])  # both predictions are the epoch; the targets are the index and minus the epoch
    losses = {"class": "mean_absolute_error", "image": "mean_squared_error"}
    model.compile(keras.optimizers.SGD(0.0), losses, metrics=losses)
    history = model.fit(
        feed(TwoTargets(), endless=True),
        steps_per_epoch=4,
        validation_data=feed(TwoTargets()),
        shuffle=False,
        verbose=0,
    ).history
    expected = {"class_mean_absolute_error": (2 * 3 + 2 * 2 + 2 * 1 + 0) / 7, "image_mean_squared_error": 6**2}
    expected["loss"] = sum(expected.values())
    for prefix in ("", "val_"):
        assert {name: history[f"{prefix}{name}"][0] for name in expected} == pytest.approx(expected)
