import keras
import numpy as np
import pytest

import kls

from .helpers import predicted


@pytest.mark.parametrize("name", ["relative_mahalanobis", "knn", "vim", "kl_matching"])
def test_saved_and_loaded_it_gives_the_same_bits(guarded, digits, noise, name, tmp_path):
    guarded(name).save(tmp_path / "guarded.keras")
    again = keras.models.load_model(tmp_path / "guarded.keras", safe_mode=True)
    expected, found = (predicted(model, digits[2][0]) for model in (guarded(name), again))
    for key, values in expected.items():
        np.testing.assert_array_equal(found[key], values)
    assert again.report == guarded(name).report
    assert str(again.report) == str(guarded(name).report)
    assert again.check(noise) == guarded(name).check(noise)


@pytest.mark.parametrize("scaling", ["vector", None])
def test_saved_twice_its_scaler_is_the_same(guarded, digits, scaling, tmp_path):
    again = guarded(scaling=scaling)
    for name in ("once.keras", "twice.keras"):
        again.save(tmp_path / name)
        again = keras.models.load_model(tmp_path / name)
    expected, found = (predicted(model, digits[2][0]) for model in (guarded(scaling=scaling), again))
    np.testing.assert_array_equal(found["probabilities"], expected["probabilities"])


def test_a_loaded_model_of_probabilities_is_still_taken_for_one(tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class Hidden(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3), initializer="random_normal")

        def call(self, x):
            return keras.ops.softmax(x @ self.kernel)

    images = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), Hidden()])
    guarded = kls.guard(model, (images, np.arange(60) % 3), score="msp")
    guarded.save(tmp_path / "guarded.keras")
    again = keras.models.load_model(tmp_path / "guarded.keras")
    np.testing.assert_array_equal(predicted(again, images)["score"], predicted(guarded, images)["score"])
    np.testing.assert_allclose(predicted(guarded, images)["score"], model.predict(images, verbose=0).max(axis=1), 1e-5)


def test_is_loaded_without_the_code_of_its_training(tmp_path):
    class Loss(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return y_pred[:, 0]

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("adam", Loss())
    images, labels = np.random.default_rng(0).normal(size=(30, 4)).astype("float32"), np.arange(30) % 3
    model.fit(images, labels, verbose=0)
    guarded = kls.guard(model, (images, labels))
    guarded.save(tmp_path / "guarded.keras")
    again = keras.models.load_model(tmp_path / "guarded.keras")
    np.testing.assert_array_equal(predicted(again, images)["score"], predicted(guarded, images)["score"])


def test_nothing_that_was_fitted_is_trained(guarded, model):
    fitted = guarded("vim", "matrix")
    assert {id(weight) for weight in fitted.trainable_weights} == {id(weight) for weight in model.trainable_weights}
    names = sorted(weight.name for weight in fitted.non_trainable_weights)
    assert names == sorted(["mean", "weights", "bias", "origin", "residual", "alpha", "threshold", "reference"])


def test_of_equal_logits_the_first_is_the_label():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
    model.set_weights([np.eye(3)])
    images = np.array([[1, 5, 5], [2, 2, 2], [0, 0, 1], [-1, -3, -2]], "float32")
    guarded = kls.guard(model, (images, np.array([1, 0, 2, 0])))
    assert predicted(guarded, images)["label"].tolist() == images.argmax(axis=1).tolist() == [1, 0, 2, 0]


def test_check_takes_batches_and_labels_too(guarded, digits):
    images, labels = digits[2]
    batches = kls.utils.data.batches_of  # what the data may be
    assert guarded().check(digits[2]) == guarded().check(images)
    assert guarded().check(images).n == sum(len(part) for part, _ in batches(digits[2])) == len(labels)


@pytest.mark.parametrize("shape", [(2, 10, 8, 1), (2, 8, 8, 3)])
def test_images_of_another_shape_are_refused_by_it(guarded, shape):
    with pytest.raises(
        ValueError, match=r"images: `data` must hold images of shape \(None, 8, 8, 1\). Received: shape"
    ):
        guarded()(np.zeros(shape, np.float32))


def test_check_names_images_of_another_shape(guarded):
    with pytest.raises(ValueError, match=r"x: `data` must hold images of shape \(None, 8, 8, 1\)"):
        guarded().check(np.zeros((4, 9, 9, 1), np.uint8))
