import sys

import keras
import numpy as np
import pytest
from scipy.special import softmax

import kls
from kls.calibration import SCALERS, IsotonicScaling, TemperatureScaling
from kls.ood import scores

from .helpers import OUTPUTS, classifier, predicted


class Opaque(keras.Model):
    def __init__(self, activation=None):
        super().__init__()
        self.hidden, self.head = keras.layers.Dense(8, "tanh"), keras.layers.Dense(3, activation)

    def call(self, x):
        return self.head(self.hidden(x))


X = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")
Y = np.arange(90) % 3


class TestOutputs:
    @pytest.mark.parametrize("name", ["msp", "gen", "relative_mahalanobis", "knn", "vim", "ash"])
    def test_scores_are_those_of_the_library(self, guarded, model, digits, name):
        expected = scores.get(name).fit(model, digits[0])(model, digits[2][0])
        found = predicted(guarded(name), digits[2][0])
        assert {key: values.dtype.name for key, values in found.items()} == OUTPUTS
        rtol = 1e-4 if name == "relative_mahalanobis" else 2e-5  # the difference of two distances, in float32
        np.testing.assert_allclose(found["score"], expected, rtol=rtol, atol=1e-4)
        np.testing.assert_array_equal(found["in_distribution"], found["score"] >= guarded(name).report.threshold)

    @pytest.mark.parametrize("scaling", ["temperature", "vector"])
    def test_probabilities_are_those_of_the_scaler(self, model, digits, scaling):
        logits = [model.predict(images, verbose=0) for images, _ in digits]
        scaler = SCALERS[scaling]().fit(logits[1], digits[1][1])
        scaled = scaler.transform(logits[2])
        found = predicted(kls.guard(model, digits[1], scaling=scaler), digits[2][0])
        np.testing.assert_allclose(found["probabilities"], softmax(scaled, axis=1), atol=2e-4)
        np.testing.assert_array_equal(found["label"], scaled.argmax(axis=1))

    def test_the_scaler_is_fitted_to_the_calibration_images(self, guarded, model, digits):
        expected = TemperatureScaling().fit(model.predict(digits[1][0], verbose=0), digits[1][1]).temperature
        np.testing.assert_allclose(keras.ops.convert_to_numpy(guarded().scaling.weights[0]), expected, rtol=1e-4)

    def test_scores_are_of_the_model_as_trained_whatever_the_scaling(self, guarded, digits):
        found = [predicted(guarded(scaling=scaling), digits[2][0]) for scaling in ("temperature", "vector", None)]
        for other in found[1:]:
            np.testing.assert_array_equal(other["score"], found[0]["score"])
        np.testing.assert_allclose(found[2]["probabilities"].sum(axis=1), 1, atol=1e-6)

    def test_without_scaling_probabilities_are_the_models(self, guarded, model, digits):
        expected = softmax(model.predict(digits[2][0], verbose=0), axis=1)
        np.testing.assert_allclose(predicted(guarded(scaling=None), digits[2][0])["probabilities"], expected, atol=1e-6)

    @pytest.mark.parametrize("count", [1, 3, 130])
    def test_batches_of_any_size(self, guarded, digits, count):
        whole = predicted(guarded("knn"), digits[2][0])
        found = guarded("knn")(digits[2][0][:count])
        for name, values in found.items():
            np.testing.assert_allclose(keras.ops.convert_to_numpy(values), whole[name][:count], rtol=1e-4, atol=1e-5)


class TestThreshold:
    @pytest.mark.parametrize(("tpr", "kept"), [(0.95, 380), (0.9501, 381), (1.0, 400), (0.001, 1)])
    def test_is_the_highest_that_keeps_the_share(self, model, digits, tpr, kept):
        found = kls.guard(model, digits[1], score="max_logit", tpr=tpr).report
        largest = np.sort(model.predict(digits[1][0], batch_size=128, verbose=0).max(axis=1))
        assert found.threshold == pytest.approx(largest[-kept], rel=1e-6)
        assert found.kept_of == (kept, 400)

    def test_ood_images_are_counted_and_choose_nothing(self, guarded, model, digits, noise):
        with_ood, without = guarded(), kls.guard(model, digits[1])
        assert with_ood.report.threshold == without.report.threshold
        stopped = ~predicted(with_ood, noise)["in_distribution"]
        assert with_ood.report.stopped_of == {"noise": (stopped.sum(), 200)}
        assert without.report.stopped_of == {}


class TestModels:
    @pytest.mark.parametrize("activation", [None, "softmax"])
    def test_logits_or_probabilities_of_one_network_are_one_guard(self, model, digits, activation):
        twin = classifier(activation)
        twin.set_weights(model.get_weights())
        found = predicted(kls.guard(twin, digits[1]), digits[2][0])
        expected = predicted(kls.guard(model, digits[1]), digits[2][0])
        np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=1e-5)
        np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-5)

    @pytest.mark.parametrize(("activation", "score"), [(None, "energy"), ("softmax", "msp"), ("softmax", "entropy")])
    def test_a_subclassed_model_by_scores_of_its_outputs(self, activation, score):
        model = Opaque(activation)
        outputs = model.predict(X, verbose=0)
        logits = np.log(outputs) if activation else outputs
        found = predicted(kls.guard(model, (X, Y), score=score), X)
        np.testing.assert_allclose(found["score"], scores.get(score)(logits), rtol=1e-4, atol=1e-5)
        scaled = TemperatureScaling().fit(logits, Y).transform(logits)
        np.testing.assert_allclose(found["probabilities"], softmax(scaled, axis=1), atol=1e-5)

    def test_a_functional_model_with_one_nested_at_its_end(self, model, digits):
        inputs = keras.Input((8, 8, 1))
        outer = keras.Model(inputs, model(keras.layers.Identity()(inputs)))
        found = predicted(kls.guard(outer, digits[1], score="vim", training_data=digits[0]), digits[2][0])
        expected = scores.ViM().fit(model, digits[0])(model, digits[2][0])
        np.testing.assert_allclose(found["score"], expected, rtol=1e-4, atol=1e-5)

    def test_features_of_a_named_layer(self, model, digits):
        name = next(layer.name for layer in model.layers if layer.name.startswith("flatten"))
        score = scores.KNN(k=3, features=name)
        found = predicted(kls.guard(model, digits[1], score=score, training_data=digits[0]), digits[2][0])
        expected = scores.KNN(k=3, features=name).fit(model, digits[0])(model, digits[2][0])
        np.testing.assert_allclose(found["score"], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.usefixtures("bfloat16")
    def test_under_a_mixed_policy_scores_are_computed_in_float32(self):
        network = [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(3)]
        model = keras.Sequential(network)
        guarded = kls.guard(model, (X, Y), score="mahalanobis", training_data=(X, Y))
        found = predicted(guarded, X)
        assert {weight.dtype for weight in guarded.scoring.weights + guarded.decision.weights} == {"float32"}
        assert {name: values.dtype.name for name, values in found.items()} == OUTPUTS
        expected = scores.Mahalanobis().fit(model, (X, Y))(model, X)
        np.testing.assert_allclose(found["score"], expected, rtol=1e-3, atol=1e-3)


class TestWhatIsKept:
    def test_the_bank_of_neighbours_is_bounded_and_drawn_by_the_seed(self, model, digits):
        made = [
            kls.guard(model, digits[1], score="knn", training_data=digits[0], bank=100, seed=seed) for seed in (0, 0, 1)
        ]
        banks = [keras.ops.convert_to_numpy(guarded.scoring.weights[0]) for guarded in made]
        assert banks[0].shape == (100, 24)
        np.testing.assert_array_equal(banks[0], banks[1])
        assert not np.array_equal(banks[0], banks[2])
        everything = scores.KNN().fit(model, digits[0]).state()["references"]
        assert {row.tobytes() for row in banks[0]} <= {row.tobytes() for row in everything}

    def test_a_fitted_score_and_scaler_are_taken_and_stay_as_they_are(self, model, digits):
        score = scores.KNN(k=5).fit(model, digits[0])
        scaler = TemperatureScaling().fit(model.predict(digits[2][0], verbose=0), digits[2][1])
        guarded = kls.guard(model, digits[1], scaling=scaler, score=score, bank=50)
        assert guarded.report.scaling == repr(scaler)
        assert guarded.scoring.weights[0].shape == (50, 24)
        assert score.state()["references"].shape == (900, 24)

    def test_calibration_scores_beyond_a_bound_are_a_sample(self, model, digits, monkeypatch):
        monkeypatch.setattr(sys.modules["kls.guarding.guard"], "KEPT_SCORES", 60)
        guarded = kls.guard(model, digits[1])
        kept = keras.ops.convert_to_numpy(guarded.decision.reference)
        assert kept.shape == (60,)
        everything = predicted(guarded, digits[1][0])["score"]
        assert all(np.isclose(everything, value, rtol=1e-6).any() for value in kept)


class TestRefusals:
    def test_a_score_without_its_training_data_before_any_pass(self, model):
        with pytest.raises(ValueError, match=r"`training_data` must be given for the score KNN\(k=50\)"):
            kls.guard(model, "no data at all", score="knn")

    @pytest.mark.parametrize("score", ["odin", scores.ODIN(), scores.Reconstruction()])
    def test_scores_that_need_the_images(self, model, digits, score):
        with pytest.raises(ValueError, match=r"`score` must be one of msp, .*kl_matching.*no other is a formula"):
            kls.guard(model, digits[1], score=score)

    @pytest.mark.parametrize("scaling", ["isotonic", "histogram", IsotonicScaling()])
    def test_scalers_that_are_no_formula(self, model, digits, scaling):
        with pytest.raises(ValueError, match=r"`scaling` must be one of temperature, vector, matrix, dirichlet"):
            kls.guard(model, digits[1], scaling=scaling)

    def test_calibration_without_labels(self, model, digits):
        with pytest.raises(ValueError, match="`calibration` must have labels"):
            kls.guard(model, digits[1][0])

    def test_logits_of_a_model_that_hides_them(self):
        with pytest.raises(ValueError, match="Energy needs logits, but the model returns probabilities"):
            kls.guard(Opaque("softmax"), (X, Y))

    def test_features_of_a_model_that_hides_them(self):
        with pytest.raises(ValueError, match="KNN needs features"):
            kls.guard(Opaque(), (X, Y), score="knn", training_data=X)

    def test_a_score_fitted_to_another_model(self, model, digits):
        other = scores.KLMatching().fit(Opaque(), X)
        with pytest.raises(ValueError, match=r"KLMatching must get 3 classes, to which it was fitted\. Received: 10"):
            kls.guard(model, digits[1], score=other)

    def test_fewer_neighbours_kept_than_counted(self, model, digits):
        with pytest.raises(ValueError, match="`k` must be at most 40, the number of training samples kept"):
            kls.guard(model, digits[1], score="knn", training_data=digits[0], bank=40)

    def test_wrong_ood_data_are_named(self, model, digits):
        with pytest.raises(ValueError, match="ood far: "):
            kls.guard(model, digits[1], ood={"far": np.zeros((3, 5, 5, 1))})

    def test_images_on_another_scale_are_warned_of(self, digits):
        model = keras.Sequential(
            [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.BatchNormalization(), keras.layers.Dense(10)]
        )
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        images, labels = digits[0]
        model.fit(images / 255, labels, epochs=4, verbose=0)
        with pytest.warns(UserWarning, match="another scale than what the network was trained on"):
            kls.guard(model, digits[1])
