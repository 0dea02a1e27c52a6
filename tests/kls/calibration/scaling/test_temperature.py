import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from scipy.optimize import brentq, minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from kls.calibration import TemperatureLayer, TemperatureScaling

from .helpers import nll, simulated


class TestTemperature:
    def test_by_hand(self):
        # two of three right at a logit of 4: 1 / (1 + exp(-4 / T)) = 2/3
        scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
        assert scaling.temperature == pytest.approx(4 / np.log(2), rel=1e-9)
        np.testing.assert_allclose(softmax(scaling.transform([[4.0, 0.0]]), axis=1), [[2 / 3, 1 / 3]], rtol=1e-9)

    @settings(max_examples=15)
    @given(
        seed=st.integers(0, 10_000),
        k=st.sampled_from([2, 3, 10, 50]),
        scale=st.floats(0.3, 20),
        temperature=st.floats(0.3, 5),
    )
    def test_is_the_optimum_that_scipy_finds_for_scikit_learns_log_loss(self, seed, k, scale, temperature):
        logits, labels = simulated(100, k, temperature, scale, seed)

        def loss(log_temperature):
            p = softmax(logits / np.exp(log_temperature), axis=1)
            return log_loss(np.eye(k)[labels], p)

        best = minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-10})
        found = TemperatureScaling().fit(logits, labels).temperature
        assert loss(np.log(found)) <= best.fun + 1e-12
        if 0.02 < np.exp(best.x) < 50:
            assert found == pytest.approx(np.exp(best.x), rel=1e-6)

    @settings(max_examples=50)
    @given(st.data())
    def test_never_raises_the_likelihood_nor_changes_the_argmax(self, data):
        shape = data.draw(st.tuples(st.integers(1, 8), st.integers(2, 5)))
        logits = data.draw(arrays(np.int64, shape, elements=st.integers(-80, 80))) / 4
        labels = data.draw(arrays(np.int64, shape[:1], elements=st.integers(0, shape[1] - 1)))
        scaling = TemperatureScaling().fit(logits, labels)
        scaled = scaling.transform(logits)
        assert 0.01 * (1 - 1e-12) <= scaling.temperature <= 100 * (1 + 1e-12)
        assert nll(scaled, labels) <= nll(logits, labels) + 1e-12
        np.testing.assert_array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))

    @pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
    def test_recovers_a_known_temperature_within_sampling_error(self, temperature):
        logits, labels = simulated(20_000, 5, temperature, 2.0, seed=7)
        p = softmax(logits / temperature, axis=1)
        information = ((p * logits**2).sum(axis=1) - (p * logits).sum(axis=1) ** 2).sum()  # about 1/T
        found = TemperatureScaling().fit(logits, labels).temperature
        assert abs(1 / found - 1 / temperature) < 4 / np.sqrt(information)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_memory_is_at_most_twice_the_logits(self, dtype):
        logits, labels = simulated(10_000, 200)
        logits = logits.astype(dtype)
        tracemalloc.start()
        scaling = TemperatureScaling().fit(logits, labels)
        fitting = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        scaled = scaling.transform(logits)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert fitting < 2 * logits.nbytes
        assert peak < scaled.nbytes + 0.1 * logits.nbytes

    @pytest.mark.parametrize(("n", "k"), [(1, 2), (50, 3), (3001, 100)])
    def test_pieces_of_the_logits_give_the_temperature_of_the_whole(self, n, k):
        logits, labels = simulated(n, k)
        shifted = logits - logits.max(axis=1, keepdims=True)

        def slope(inverse):
            expected = (softmax(shifted * inverse, axis=1) * shifted).sum(axis=1).mean()
            return expected - shifted[np.arange(n), labels].mean()

        ends = slope(0.01) > 0, slope(100.0) <= 0
        inverse = 0.01 if ends[0] else 100.0 if ends[1] else brentq(slope, 0.01, 100.0, xtol=1e-12, rtol=1e-12)
        assert TemperatureScaling().fit(logits, labels).temperature == pytest.approx(1 / inverse, rel=1e-12)

    @pytest.mark.parametrize(
        ("labels", "temperature", "is_at_bound"), [([0, 1], 0.01, True), ([1, 0], 100, True), ([0, 0], None, False)]
    )
    def test_says_when_the_best_lies_beyond_the_range(self, labels, temperature, is_at_bound):
        scaling = TemperatureScaling().fit([[3, 0], [0, 1]], labels)
        assert scaling.is_at_bound == is_at_bound
        assert temperature in (scaling.temperature, None)
        assert ("end of the range searched" in repr(scaling)) == is_at_bound

    def test_a_constant_in_each_row_does_not_matter_and_a_factor_does(self):
        logits, labels = simulated()
        found = TemperatureScaling().fit(logits, labels).temperature
        shifted = logits + np.random.default_rng(0).normal(scale=100, size=(120, 1))
        assert TemperatureScaling().fit(shifted, labels).temperature == pytest.approx(found, rel=1e-9)
        assert TemperatureScaling().fit(3 * logits, labels).temperature == pytest.approx(3 * found, rel=1e-9)

    def test_repeated_samples_do_not_matter(self):
        logits, labels = simulated(50)
        twice = TemperatureScaling().fit(np.repeat(logits, 2, axis=0), np.repeat(labels, 2)).temperature
        assert twice == pytest.approx(TemperatureScaling().fit(logits, labels).temperature, rel=1e-9)

    @pytest.mark.parametrize(
        ("logits", "labels", "temperature"),
        [
            ([[3, 0, 0], [0, 1, 0]], [0, 1], 0.01),  # all right
            ([[3, 0], [0, 1]], [1, 0], 100),  # all wrong
            ([[3, 1, 0], [0, 3, 2]], [2, 0], 100),  # the least likely class each time
            ([[3, 0], [1, 1]], [0, 1], 0.01),  # right, and a row that no temperature changes
            ([[500, 0], [0, 900]], [0, 1], 0.01),
            ([[1e5, 0], [0, 1e5]], [1, 0], 100),
            ([[1e-300, 0]], [0], 0.01),
            ([[7, 7], [-2, -2]], [0, 1], 1),  # nothing to scale
            ([[0, 0, 0]], [2], 1),
            ([[1, 2]], [1], 0.01),
            ([[1, 2]], [0], 100),
        ],
    )
    def test_corners(self, logits, labels, temperature):
        scaling = TemperatureScaling().fit(np.array(logits, float), labels)
        assert scaling.temperature == pytest.approx(temperature, rel=1e-12)
        assert type(scaling.temperature) is float

    def test_all_wrong_by_a_little_is_not_the_largest(self):
        # the true class is the second of seven: the best temperature takes from the five others
        logits, labels = np.array([[10, 9.9, 0, 0, 0, 0, 0]]), [1]
        best = minimize_scalar(lambda t: nll(logits / t, labels), bounds=(0.01, 100), method="bounded")
        assert TemperatureScaling().fit(logits, labels).temperature == pytest.approx(best.x, rel=1e-3)

    def test_the_largest_float32_logits(self):
        top = np.finfo(np.float32).max
        logits = np.array([[top, -top, 0], [0, top, 1]], "float32")
        assert TemperatureScaling().fit(logits, [0, 1]).temperature == pytest.approx(0.01)
        assert TemperatureScaling().fit(logits, [1, 0]).temperature == pytest.approx(100)

    def test_shows_the_temperature(self):
        scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
        assert repr(scaling) == "TemperatureScaling(temperature=5.771)"

    def test_as_layer_before_fit_is_refused(self):
        with pytest.raises(ValueError, match="TemperatureScaling is not fitted yet"):
            TemperatureScaling().as_layer()


@pytest.fixture(scope="module")
def temperature():
    return TemperatureScaling().fit(*simulated())


class TestLayer:
    def test_on_logits_is_transform(self, temperature):
        logits = simulated(20, seed=1)[0].astype("float32")
        layer = temperature.as_layer(name="calibration")
        assert layer.name == "calibration"
        np.testing.assert_allclose(ops.convert_to_numpy(layer(logits)), temperature.transform(logits), rtol=1e-6)

    def test_on_probabilities_is_the_softmax_of_transform(self, temperature):
        p = softmax(simulated(20, seed=1)[0], axis=1).astype("float32")
        found = ops.convert_to_numpy(temperature.as_layer(from_logits=False)(p))
        np.testing.assert_allclose(found, softmax(temperature.transform(np.log(p)), axis=1), rtol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)

    @pytest.mark.parametrize("temperature", [0.5, 3.0, 20.0])
    def test_on_tiny_probabilities_nothing_is_clipped(self, temperature):
        p = np.array([[1, 1e-9, 1e-30], [1, 1e-12, 1e-15]], "float32")
        found = ops.convert_to_numpy(TemperatureLayer(temperature, from_logits=False)(p))
        np.testing.assert_allclose(found, softmax(np.log(p.astype(float)) / temperature, axis=1), rtol=1e-4, atol=1e-30)

    def test_a_probability_of_zero_is_no_nan(self):
        found = ops.convert_to_numpy(TemperatureLayer(2.0, from_logits=False)(np.array([[1, 0, 0]], "float32")))
        np.testing.assert_allclose(found.sum(), 1, atol=1e-6)
        assert found[0, 0] > 0.99

    @pytest.mark.parametrize("from_logits", [True, False])
    def test_a_saved_model_keeps_it(self, temperature, from_logits, tmp_path):
        activation = None if from_logits else "softmax"
        base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation=activation)])
        model = keras.Sequential([base, temperature.as_layer(from_logits)])
        assert model.output_shape == (None, 3)
        assert model.count_params() == base.count_params()
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        layer = again.layers[-1]
        assert type(layer) is TemperatureLayer
        assert (layer.temperature, layer.from_logits) == (temperature.temperature, from_logits)
        x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
        outputs = ops.convert_to_numpy(base(x))
        expected = temperature.transform(outputs if from_logits else np.log(outputs))
        expected = expected if from_logits else softmax(expected, axis=1)
        np.testing.assert_allclose(ops.convert_to_numpy(again(x)), expected, rtol=1e-5)

    def test_config_round_trip(self):
        layer = TemperatureLayer(1.25, from_logits=False, name="mine", dtype="float64")
        again = TemperatureLayer.from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        assert (again.temperature, again.from_logits, again.name) == (1.25, False, "mine")

    @pytest.mark.parametrize("policy", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_half_precision(self, temperature, policy, from_logits):
        logits = simulated(20, seed=1)[0].astype("float32")
        inputs = logits if from_logits else softmax(logits, axis=1)
        layer = TemperatureLayer(temperature.temperature, from_logits, dtype=policy)
        found = ops.convert_to_numpy(ops.cast(layer(inputs), "float32"))
        p = softmax(found, axis=1) if from_logits else found
        np.testing.assert_allclose(p, softmax(temperature.transform(logits), axis=1), atol=0.02)

    @pytest.mark.usefixtures("bfloat16")
    @pytest.mark.parametrize("from_logits", [True, False])
    def test_under_a_mixed_policy_outputs_in_float32_stay_so(self, temperature, from_logits):
        # a classifier under a mixed policy ends in float32, as those of `kls.models` do
        base = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(3, activation=None if from_logits else "softmax", dtype="float32")]
        )
        x = np.random.default_rng(0).integers(-8, 9, size=(50, 4)).astype("float32") / 4  # as they are in bfloat16
        outputs = ops.convert_to_numpy(base(x))
        found = keras.Sequential([base, temperature.as_layer(from_logits)])(x)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        expected = temperature.transform(outputs if from_logits else np.log(outputs))
        expected = expected if from_logits else softmax(expected, axis=1)
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)
