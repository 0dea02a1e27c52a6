import tracemalloc
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from kls.calibration import (
    SCALERS,
    DirichletScaling,
    HistogramBinning,
    IsotonicScaling,
    MatrixScaling,
    TemperatureLayer,
    TemperatureScaling,
    VectorScaling,
    summarize,
)

every_scaler = pytest.mark.parametrize("name", SCALERS)
LINEAR = {
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "free matrix": lambda: MatrixScaling(0, 0),
    "strict matrix": lambda: MatrixScaling(2.0, 0.5),
    "dirichlet": DirichletScaling,
}


def simulated(n=120, k=3, temperature=2.0, scale=3.0, seed=0):
    """Returns logits and labels that are drawn from `softmax(logits / temperature)`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, k))
    return logits, (logits / temperature + rng.gumbel(size=(n, k))).argmax(axis=1)


def nll(logits, labels):
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


def one_hot(labels, k):
    return np.eye(k)[labels]


@pytest.fixture(scope="module")
def fitted():
    """Returns every scaler, fitted to the same 120 samples of three classes."""
    return {name: scaler().fit(*simulated()) for name, scaler in SCALERS.items()}


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
            return log_loss(one_hot(labels, k), p)

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


class TestLinear:
    @pytest.mark.parametrize("scale", [3, 20])
    @pytest.mark.parametrize("name", LINEAR)
    def test_the_gradient_vanishes_at_the_optimum(self, name, scale):
        logits, labels = simulated(120, 4, 2 * scale / 3, scale)
        scaling = LINEAR[name]().fit(logits, labels)
        inputs = log_softmax(logits, axis=1) if name == "dirichlet" else logits
        k, vector = 4, scaling.weights.ndim == 1

        def objective(parameters):
            weights = np.diag(parameters[:k]) if vector else parameters[:-k].reshape(k, k)
            value = nll(inputs @ weights.T + parameters[-k:], labels)
            if not vector:
                others = weights[~np.eye(k, dtype=bool)]
                value += scaling.off_diagonal / (k * (k - 1)) * (others**2).sum()
                value += scaling.intercept / k * (parameters[-k:] ** 2).sum()
            return value

        at = np.concatenate([scaling.weights.ravel(), scaling.bias])
        step = 1e-5 * np.eye(len(at))
        gradient = [(objective(at + e) - objective(at - e)) / 2e-5 for e in step]
        assert np.abs(gradient).max() < 1e-4 * max(1, scale)

    @pytest.mark.parametrize("k", [2, 3, 10])
    @pytest.mark.parametrize("name", ["vector", "free matrix"])
    def test_fits_at_least_as_well_as_a_temperature(self, name, k):
        logits, labels = simulated(300, k)
        by_temperature = nll(TemperatureScaling().fit(logits, labels).transform(logits), labels)
        found = nll(LINEAR[name]().fit(logits, labels).transform(logits), labels)
        assert found <= by_temperature + 1e-7 <= nll(logits, labels) + 1e-7

    @pytest.mark.parametrize("name", LINEAR)
    def test_fits_at_least_as_well_as_the_identity(self, name):
        logits, labels = simulated(100, 4, temperature=1.0)  # the penalties of the identity are zero
        assert nll(LINEAR[name]().fit(logits, labels).transform(logits), labels) <= nll(logits, labels)

    @pytest.mark.parametrize(("k", "scale"), [(2, 3.0), (3, 0.3), (3, 3.0), (6, 3.0), (3, 30.0)])
    def test_a_matrix_without_penalty_is_multinomial_logistic_regression(self, k, scale):
        logits, labels = simulated(300, k, 2 * scale / 3, scale)
        regression = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(logits / scale, labels)
        found = softmax(MatrixScaling(0, 0).fit(logits, labels).transform(logits), axis=1)
        np.testing.assert_allclose(found, regression.predict_proba(logits / scale), atol=1e-3)

    def test_two_classes_are_binary_logistic_regression(self):
        logits, labels = simulated(300, 2)
        regression = LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(logits, labels)
        scaling = VectorScaling().fit(logits, labels)
        np.testing.assert_allclose(
            [-scaling.weights[0], scaling.weights[1], scaling.bias[1] - scaling.bias[0]],
            [*regression.coef_[0], regression.intercept_[0]],
            atol=1e-3,
        )

    @pytest.mark.parametrize("name", ["vector", "free matrix"])
    @pytest.mark.parametrize("factor", [1e-3, 1e3])
    def test_the_unit_of_the_logits_does_not_matter_without_a_penalty(self, name, factor):
        logits, labels = simulated(200, 5)
        value = nll(LINEAR[name]().fit(logits, labels).transform(logits), labels)
        found = LINEAR[name]().fit(factor * logits, labels).transform(factor * logits)
        assert nll(found, labels) == pytest.approx(value, abs=1e-4)

    @pytest.mark.parametrize("off_diagonal", [1e4, 1e6])
    def test_a_large_penalty_off_the_diagonal_leaves_vector_scaling(self, off_diagonal):
        logits, labels = simulated(300, 3)
        scaling = MatrixScaling(off_diagonal, 0).fit(logits, labels)
        vector = VectorScaling().fit(logits, labels)
        assert np.abs(scaling.weights - np.diag(np.diag(scaling.weights))).max() < 1e-3
        np.testing.assert_allclose(np.diag(scaling.weights), vector.weights, atol=5e-3)
        assert nll(scaling.transform(logits), labels) == pytest.approx(nll(vector.transform(logits), labels), abs=1e-4)

    def test_a_large_penalty_on_the_intercept_leaves_none(self):
        scaling = MatrixScaling(0, 1e4).fit(*simulated())
        assert np.abs(scaling.bias).max() < 1e-3

    def test_recovers_a_known_matrix(self):
        rng = np.random.default_rng(5)
        logits = rng.normal(scale=2, size=(20_000, 3))
        weights, bias = np.array([[0.5, 0.2, 0.0], [0.0, 0.8, 0.0], [0.1, 0.0, 0.3]]), np.array([0.5, 0.0, -0.5])
        labels = (logits @ weights.T + bias + rng.gumbel(size=(20_000, 3))).argmax(axis=1)
        found = softmax(MatrixScaling(0, 0).fit(logits, labels).transform(logits), axis=1)
        np.testing.assert_allclose(found, softmax(logits @ weights.T + bias, axis=1), atol=0.05)

    def test_row_i_of_the_matrix_makes_logit_i(self):
        scaling = MatrixScaling().fit(*simulated())
        by_hand = [[sum(w * z for w, z in zip(row, [1.0, -2.0, 0.5], strict=True)) for row in scaling.weights]]
        np.testing.assert_allclose(scaling.transform([[1.0, -2.0, 0.5]]), by_hand + scaling.bias, rtol=1e-12)

    def test_dirichlet_is_matrix_scaling_of_log_probabilities(self):
        logits, labels = simulated()
        matrix, dirichlet = MatrixScaling(0.1, 0.2), DirichletScaling(0.1, 0.2).fit(logits, labels)
        expected = matrix.fit(log_softmax(logits, axis=1), labels).transform(log_softmax(logits, axis=1))
        np.testing.assert_allclose(dirichlet.transform(logits), expected, atol=1e-9)

    def test_dirichlet_does_not_see_a_constant_added_to_the_logits(self):
        logits, labels = simulated()
        shifted = logits + np.random.default_rng(0).normal(scale=10, size=(120, 1))
        one, other = DirichletScaling().fit(logits, labels), DirichletScaling().fit(shifted, labels)
        np.testing.assert_allclose(one.transform(shifted), one.transform(logits), atol=1e-9)
        np.testing.assert_allclose(
            softmax(other.transform(logits), axis=1), softmax(one.transform(logits), axis=1), atol=1e-3
        )


class TestIsotonic:
    def test_by_hand(self):
        # p of class 1: 0.1, 0.2, 0.3 with outcomes 0, 1, 0 are pooled but for the first: 0, 1/2, 1/2; then 0.9 with 1
        p = np.array([0.1, 0.2, 0.3, 0.9])
        logits = np.log(np.stack([1 - p, p], axis=1))
        scaling = IsotonicScaling().fit(logits, [0, 1, 0, 1])
        found = softmax(scaling.transform(logits), axis=1)[:, 1]
        np.testing.assert_allclose(found, [0, 0.5, 0.5, 1], atol=1e-12)
        between = np.log([[0.4, 0.6], [0.95, 0.05], [0.01, 0.99]])  # half-way, and beyond the ends
        np.testing.assert_allclose(softmax(scaling.transform(between), axis=1)[:, 1], [0.75, 0, 1], atol=1e-9)

    def test_is_scikit_learn_one_class_against_the_rest(self):
        logits, labels = simulated(200, 4)
        other, _ = simulated(50, 4, seed=9)
        p, p_other = softmax(logits, axis=1), softmax(other, axis=1)
        columns = []
        for k in range(4):
            regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, k], labels == k)
            columns.append(regression.predict(p_other[:, k]))
        expected = np.stack(columns, axis=1)
        expected /= expected.sum(axis=1, keepdims=True)
        found = softmax(IsotonicScaling().fit(logits, labels).transform(other), axis=1)
        np.testing.assert_allclose(found, expected, atol=1e-12)

    @settings(max_examples=20)
    @given(st.integers(0, 1000))
    def test_of_two_classes_is_monotone(self, seed):
        logits, labels = simulated(30, 2, seed=seed)
        grid = np.stack([np.zeros(200), np.linspace(-15, 15, 200)], axis=1)
        found = softmax(IsotonicScaling().fit(logits, labels).transform(grid), axis=1)[:, 1]
        assert (np.diff(found) >= -1e-12).all()

    def test_where_no_class_is_left_each_gets_its_share(self):
        # each class is never seen below a probability of 0.6, so that all four regressions are 0 at 1/4
        p = np.array([[0.6, 0.4, 0, 0], [0, 0.6, 0.4, 0], [0, 0, 0.6, 0.4], [0.4, 0, 0, 0.6]])
        scaling = IsotonicScaling().fit(np.log(np.maximum(p, 1e-30)), [0, 1, 2, 3])
        np.testing.assert_allclose(softmax(scaling.transform(np.zeros((2, 4))), axis=1), 0.25, atol=1e-12)


class TestHistogram:
    def test_by_hand(self):
        # of class 0: two of three right in (1/2, 1], one of one in (0, 1/2]; of class 1 one of three, none of one
        p = np.array([[0.6, 0.4], [0.7, 0.3], [0.8, 0.2], [0.1, 0.9]])
        scaling = HistogramBinning(2).fit(np.log(p), [0, 0, 1, 0])
        np.testing.assert_allclose(scaling.shares, [[1, 2 / 3], [1 / 3, 0]])
        found = softmax(scaling.transform(np.log([[0.9, 0.1], [0.2, 0.8]])), axis=1)
        np.testing.assert_allclose(found, [[2 / 3, 1 / 3], [1, 0]], atol=1e-12)

    def test_bins_are_closed_above_and_an_empty_one_keeps_its_centre(self):
        scaling = HistogramBinning(4).fit([[0.0, 0.0]], [1])  # 1/2 is in (1/4, 1/2]
        np.testing.assert_allclose(scaling.shares, [[0.125, 0, 0.625, 0.875], [0.125, 1, 0.625, 0.875]])

    @pytest.mark.parametrize("bins", [1, 7, 15])
    def test_against_counting_one_by_one(self, bins):
        logits, labels = simulated(100, 3, seed=2)
        other = simulated(40, 3, seed=3)[0]
        scaling = HistogramBinning(bins).fit(logits, labels)
        p, p_other = softmax(logits, axis=1), softmax(other, axis=1)
        expected = np.empty((40, 3))
        for n in range(40):
            for k in range(3):
                place = np.ceil(p_other[n, k] * bins)
                members = np.ceil(p[:, k] * bins) == place
                expected[n, k] = (labels[members] == k).mean() if members.any() else (place - 0.5) / bins
        expected = np.where(expected.sum(axis=1, keepdims=True) > 0, expected, 1)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(scaling.transform(other), axis=1), expected, atol=1e-12)

    def test_where_no_class_is_left_each_gets_its_share(self):
        # a confidence of 0.6 and one of 0.4 were always another class's
        p = np.array([[0.6, 0.4, 0], [0, 0.6, 0.4], [0.4, 0, 0.6]])
        scaling = HistogramBinning(4).fit(np.log(np.maximum(p, 1e-30)), [2, 0, 1])
        np.testing.assert_allclose(
            softmax(scaling.transform(np.log([[0.55, 0.4, 0.05]])), axis=1)[0, :2], 0, atol=1e-12
        )
        np.testing.assert_allclose(softmax(scaling.transform(np.log([[0.4, 0.3, 0.3]])), axis=1), 1 / 3, atol=1e-12)


class TestEveryScaler:
    @every_scaler
    def test_transform_gives_logits_for_any_number_of_samples(self, name, fitted):
        for n in (1, 7, 200):
            found = fitted[name].transform(simulated(n, seed=n)[0])
            assert found.shape == (n, 3)
            assert found.dtype == np.float64
            p = softmax(found, axis=1)
            np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
            assert ((p >= 0) & (p <= 1)).all()

    @every_scaler
    def test_rows_are_transformed_one_by_one(self, name, fitted):
        logits, _ = simulated(20, seed=3)
        together = fitted[name].transform(logits)
        alone = np.concatenate([fitted[name].transform(row[None]) for row in logits])
        np.testing.assert_allclose(together, alone, rtol=1e-12)

    @every_scaler
    def test_fit_returns_the_scaler_and_replaces_what_was_fitted(self, name, fitted):
        scaler = SCALERS[name]()
        assert scaler.fit(*simulated(50, 4)) is scaler
        assert scaler.fit(*simulated()) is scaler
        logits, _ = simulated(20, seed=3)
        np.testing.assert_array_equal(scaler.transform(logits), fitted[name].transform(logits))

    @every_scaler
    def test_the_form_of_labels_and_logits_does_not_matter(self, name, fitted):
        logits, labels = simulated()
        expected = fitted[name].transform(logits[:9])
        for form in (labels[:, None].astype("float32"), one_hot(labels, 3).astype(bool)):
            np.testing.assert_array_equal(SCALERS[name]().fit(logits, form).transform(logits[:9]), expected)
        as_lists = SCALERS[name]().fit(logits.tolist(), labels.tolist()).transform(logits[:9].tolist())
        np.testing.assert_array_equal(as_lists, expected)
        tensor = SCALERS[name]().fit(ops.convert_to_tensor(logits.astype("float32")), labels)
        exact = SCALERS[name]().fit(logits.astype("float32").astype("float64"), labels)
        np.testing.assert_array_equal(tensor.transform(logits), exact.transform(logits))

    @every_scaler
    def test_no_input_is_modified(self, name):
        logits, labels = simulated(60)
        kept = logits.copy(), labels.copy()
        for array in (logits, labels):
            array.flags.writeable = False
        scaler = SCALERS[name]().fit(logits, labels)
        scaler.transform(logits)
        np.testing.assert_array_equal(logits, kept[0])
        np.testing.assert_array_equal(labels, kept[1])
        writeable = logits.copy()
        result = scaler.transform(writeable)
        result += 1
        np.testing.assert_array_equal(writeable, logits)

    @pytest.mark.parametrize("k", [2, 5, 50])
    @every_scaler
    def test_few_samples_of_many_classes(self, name, k):
        logits, labels = simulated(40, k)
        if k == 50:
            assert len(np.unique(labels)) < k
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = SCALERS[name]().fit(logits, labels).transform(logits)
            p = softmax(found, axis=1)
        np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-12)
        assert all(
            np.isfinite(value) or key == "nll" for key, value in summarize(labels, found, from_logits=True).items()
        )

    @every_scaler
    def test_one_sample(self, name):
        for label in (2, 0):
            p = softmax(SCALERS[name]().fit([[1.0, 2.0, 3.0]], [label]).transform([[1.0, 2.0, 3.0]]), axis=1)
            assert np.isfinite(p).all()
            np.testing.assert_allclose(p.sum(), 1, atol=1e-12)
            assert p[0, label] > 0.3

    @every_scaler
    def test_rows_of_equal_logits(self, name):
        scaler = SCALERS[name]().fit(np.full((4, 3), 7.0), [0, 1, 2, 2])
        p = softmax(scaler.transform(np.full((1, 3), 7.0)), axis=1)
        share = np.array([[1 / 4, 1 / 4, 1 / 2]])
        expected = np.full((1, 3), 1 / 3) if name == "temperature" else share
        np.testing.assert_allclose(p, expected, atol=0.02)

    @every_scaler
    def test_a_logit_of_minus_infinity_never_gives_nan(self, name, fitted):
        for row in ([1.0, -np.inf, 3.0], [-np.inf, 2.0, -np.inf]):
            try:
                p = softmax(fitted[name].transform([row]), axis=1)
            except ValueError as error:
                assert "logits" in str(error)  # noqa: PT017
                continue
            np.testing.assert_allclose(p.sum(), 1, atol=1e-12)
            if name in ("temperature", "vector"):
                np.testing.assert_array_equal(p == 0, np.isinf([row]))

    def test_a_negative_weight_does_not_make_minus_infinity_certain(self):
        logits, labels = simulated()
        scaling = VectorScaling().fit(logits * [1, -1, 1], labels)
        assert scaling.weights[1] < 0
        try:
            p = softmax(scaling.transform([[1.0, -np.inf, 3.0]]), axis=1)
        except ValueError as error:
            assert "logits" in str(error)  # noqa: PT017
            return
        assert np.isfinite(p).all()

    @pytest.mark.parametrize("wrong", [np.nan, np.inf])
    @every_scaler
    def test_nan_or_infinity_gives_an_error_or_nan(self, name, fitted, wrong):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            try:
                p = softmax(fitted[name].transform([[1.0, wrong, 3.0]]), axis=1)
            except ValueError:
                return
        assert np.isnan(p).any()


class TestNotebook:
    @every_scaler
    def test_shows_in_a_line_whether_it_is_fitted(self, fitted, name):
        kind = type(fitted[name]).__name__
        assert repr(SCALERS[name]()) == f"{kind}(fitted=no)"
        shown = repr(fitted[name])
        assert len(shown) < 80
        assert "=no" not in shown
        assert f"<b>{kind}</b><table>" in fitted[name]._repr_html_()

    def test_shows_the_temperature(self):
        scaling = TemperatureScaling().fit([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], [0, 0, 1])
        assert repr(scaling) == "TemperatureScaling(temperature=5.771)"


class TestFailures:
    @every_scaler
    def test_transform_before_fit_is_refused(self, name):
        with pytest.raises(ValueError, match=rf"{SCALERS[name].__name__} is not fitted yet: call `fit"):
            SCALERS[name]().transform([[1.0, 2.0]])

    def test_as_layer_before_fit_is_refused(self):
        with pytest.raises(ValueError, match="TemperatureScaling is not fitted yet"):
            TemperatureScaling().as_layer()

    @pytest.mark.parametrize("name", [name for name in SCALERS if name != "temperature"])
    def test_transform_refuses_another_number_of_classes(self, name, fitted):
        for k in (2, 4):
            with pytest.raises(ValueError, match=r"`logits`"):
                fitted[name].transform(np.zeros((3, k)))


@pytest.fixture(scope="module")
def temperature(fitted):
    return fitted["temperature"]


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
