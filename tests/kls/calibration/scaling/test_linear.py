import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from kls.calibration import DirichletScaling, MatrixScaling, TemperatureScaling, VectorScaling

from .helpers import nll, simulated

LINEAR = {
    "vector": VectorScaling,
    "matrix": MatrixScaling,
    "free matrix": lambda: MatrixScaling(0, 0),
    "strict matrix": lambda: MatrixScaling(2.0, 0.5),
    "dirichlet": DirichletScaling,
}


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
