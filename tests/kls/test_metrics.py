import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from kls import calibration
from kls.metrics import (
    BrierScore,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
    UncertaintyCalibrationError,
)

BACKEND = keras.backend.backend()

# name: class, its arguments, the array function, whether it has bins
CASES = {
    "ece": (ExpectedCalibrationError, {}, calibration.expected_calibration_error, True),
    "rmsce": (ExpectedCalibrationError, {"norm": 2}, calibration.expected_calibration_error, True),
    "ece_max": (ExpectedCalibrationError, {"norm": "max"}, calibration.expected_calibration_error, True),
    "mce": (MaximumCalibrationError, {}, calibration.maximum_calibration_error, True),
    "uce": (UncertaintyCalibrationError, {}, calibration.uncertainty_calibration_error, True),
    "nll": (NegativeLogLikelihood, {}, calibration.negative_log_likelihood, False),
    "brier": (BrierScore, {}, calibration.brier_score, False),
}
BINNED = [name for name, (_, _, _, binned) in CASES.items() if binned]
every_case = pytest.mark.parametrize("case", CASES)
one_of_each = pytest.mark.parametrize("case", ["ece", "nll", "brier"])  # one metric for each `update_state`


def metric_of(case, **arguments):
    kind, own, _, _ = CASES[case]
    return kind(**{"name": case, **own, **arguments})


def expected(case, labels, predictions, **arguments):
    """Returns what the array function gives on all data at once."""
    _, own, function, _ = CASES[case]
    return function(labels, predictions, **own, **arguments)


def streamed(metric, labels, predictions, weights=None, sizes=None):
    """Returns the metric's result after batches of the given sizes, by default one."""
    start = 0
    for size in sizes or [len(predictions)]:
        part = slice(start, start + size)
        metric.update_state(labels[part], predictions[part], None if weights is None else weights[part])
        start += size
    return float(metric.result())


def sample(n=9, k=3, seed=0, dtype="float32"):
    """Returns logits, their softmax and labels, of which somewhat more than chance are right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, k)).astype(dtype)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    labels = np.where(rng.random(n) < 0.4, logits.argmax(axis=1), rng.integers(k, size=n))
    return logits, p / p.sum(axis=1, keepdims=True), labels


def tiled(rows, dtype="float32"):
    """Returns nine rows, so that batches of few shapes occur: JAX compiles each operation for each shape."""
    rows = np.asarray(rows, dtype)
    return np.concatenate([rows] * (9 // len(rows)))


def compiled_results(metrics, *batches):
    """Returns the metrics' results after batches of labels and predictions, all of it in one compiled function."""

    def results(batches):
        found = []
        for metric in metrics:
            variables = [ops.zeros(v.shape, v.dtype) for v in metric.variables]
            for labels, predictions in batches:
                variables = metric.stateless_update_state(variables, labels, predictions)
            found.append(metric.stateless_result(variables))
        return found

    if BACKEND == "tensorflow":
        import tensorflow as tf

        return [float(value) for value in tf.function(results, jit_compile=True)(batches)]  # XLA, as on JAX
    import jax

    return [float(value) for value in jax.jit(results)(batches)]


def close(value):
    return pytest.approx(value, rel=2e-6, abs=1e-6)


class TestByHand:
    # four bins; confidences 0.9 and 0.8 (one right) share the last, 0.6 (right) and 0.4 (wrong) are alone
    PROBABILITIES = np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]], "float32")
    LABELS = np.array([0, 1, 1, 0])

    @pytest.mark.parametrize(
        ("case", "value"),
        [
            ("ece", 0.375),  # 2/4 |0.5 - 0.85| + 1/4 |1 - 0.6| + 1/4 |0 - 0.4|
            ("rmsce", 0.375832),  # sqrt(2/4 0.35^2 + 1/4 0.4^2 + 1/4 0.4^2)
            ("ece_max", 0.4),
            ("mce", 0.4),
            ("nll", 1.030686),  # -ln(0.9 0.1 0.6 0.3) / 4
            ("brier", 0.61375),  # (0.015 + 1.46 + 0.24 + 0.74) / 4
        ],
    )
    def test_without_weights(self, case, value):
        metric = metric_of(case, **({"bins": 4} if case in BINNED else {}))
        assert streamed(metric, self.LABELS, self.PROBABILITIES) == pytest.approx(value, abs=1e-6)

    @pytest.mark.parametrize(
        ("case", "value"),
        [
            ("ece", 0.25),  # 3/4 |2/3 - 2.6/3| + 1/4 |1 - 0.6|
            ("rmsce", 0.264575),  # sqrt(3/4 0.2^2 + 1/4 0.4^2)
            ("ece_max", 0.4),
            ("mce", 0.4),
            ("nll", 0.756033),  # -(2 ln 0.9 + ln 0.1 + ln 0.6) / 4
            ("brier", 0.4325),  # (2 0.015 + 1.46 + 0.24) / 4
        ],
    )
    def test_with_weights_of_two_one_one_and_none(self, case, value):
        metric = metric_of(case, **({"bins": 4} if case in BINNED else {}))
        weights = np.array([2.0, 1.0, 1.0, 0.0])
        assert streamed(metric, self.LABELS, self.PROBABILITIES, weights) == pytest.approx(value, abs=1e-6)

    def test_uncertainty(self):
        # normalised entropies 1/2, 0 and 1 in bins (0, 1/2] and (1/2, 1]; errors 1, 0 and 0
        rows = np.array([[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0.25] * 4], "float32")
        metric = UncertaintyCalibrationError(bins=2)
        assert streamed(metric, np.array([2, 0, 0]), rows) == pytest.approx(2 / 3 * 1 / 4 + 1 / 3 * 1, abs=1e-6)

    def test_names_are_short(self):
        kinds = [kind for kind, own, _, _ in CASES.values() if not own]
        assert [kind().name for kind in kinds] == ["ece", "mce", "uce", "nll", "brier"]


class TestAgainstTheArrayFunction:
    @every_case
    @settings(max_examples=4)
    @given(
        sizes=st.lists(st.sampled_from([1, 9]), min_size=1, max_size=5),
        k=st.sampled_from([3] if BACKEND == "jax" else [2, 3, 7]),
        seed=st.integers(0, 10_000),
        form=st.sampled_from(["row", "column", "one-hot"]),
        weighing=st.sampled_from([None, "row", "column"]),
        from_logits=st.booleans(),
    )
    def test_any_split_into_batches_is_all_data_at_once(self, case, sizes, k, seed, form, weighing, from_logits):
        n = sum(sizes)
        logits, p, labels = sample(n, k, seed)
        predictions = logits if from_logits else p
        weights = np.random.default_rng(seed).uniform(0, 3, n)
        value = expected(
            case, labels, predictions, from_logits=from_logits, sample_weight=weights if weighing else None
        )
        labels = {"row": labels, "column": labels[:, None], "one-hot": np.eye(k)[labels]}[form]
        weights = {None: None, "row": weights, "column": weights[:, None]}[weighing]
        metric = metric_of(case, from_logits=from_logits)
        assert streamed(metric, labels, predictions, weights, sizes) == close(value)

    @every_case
    def test_an_empty_batch_adds_nothing(self, case):
        _, p, labels = sample(18)
        found = streamed(metric_of(case), labels, p, np.ones(18), sizes=[0, 9, 0, 9])
        assert found == close(expected(case, labels, p))

    @one_of_each
    def test_lists_booleans_and_float_labels_are_taken(self, case):
        _, p, labels = sample()
        value = close(expected(case, labels, p))
        for other in (labels.tolist(), labels.astype("float32"), labels.astype("uint8"), np.eye(3, dtype=bool)[labels]):
            assert streamed(metric_of(case), other, p.tolist() if isinstance(other, list) else p) == value

    @one_of_each
    def test_of_a_mixed_distribution_the_likeliest_class_counts(self, case):
        _, p, labels = sample()
        mixed = 0.7 * np.eye(3)[labels] + 0.3 * np.eye(3)[(labels + 1) % 3]
        assert streamed(metric_of(case), mixed, p) == close(expected(case, labels, p))

    @one_of_each
    def test_as_many_samples_as_classes(self, case):
        _, p, labels = sample(3)
        for form in (labels, labels[:, None], np.eye(3)[labels]):
            assert streamed(metric_of(case), form, p) == close(expected(case, labels, p))

    @pytest.mark.parametrize("case", BINNED)
    def test_one_bin(self, case):
        _, p, labels = sample(18)
        metric = metric_of(case, bins=1)
        assert streamed(metric, labels, p, sizes=[9, 9]) == close(expected(case, labels, p, bins=1))

    @pytest.mark.parametrize("value", [0.0, 1e-30])
    def test_nothing_is_clipped(self, value):
        p = np.array([[1, value, 0]], "float32")
        assert streamed(NegativeLogLikelihood(), np.array([1]), p) == close(expected("nll", [1], p))

    @every_case
    def test_logits_of_minus_infinity_are_probabilities_of_zero(self, case):
        logits = tiled([[1, -np.inf, 2], [-np.inf, 0, -np.inf], [0.5, 0.5, -np.inf]])
        labels = tiled([2, 1, 0], int)
        metric = metric_of(case, from_logits=True)
        assert streamed(metric, labels, logits) == close(expected(case, labels, logits, from_logits=True))

    @every_case
    def test_huge_logits(self, case):
        logits = tiled([[1e4, -1e4, 0], [3e38, -3e38, 0], [0, 88, 89]])
        labels = tiled([0, 0, 1], int)
        metric = metric_of(case, from_logits=True)
        assert streamed(metric, labels, logits) == close(expected(case, labels, logits, from_logits=True))

    @pytest.mark.parametrize("case", [*BINNED])
    def test_of_logits_whose_softmax_is_equal_the_larger_is_predicted(self, case):
        logits, labels = tiled([[0, 1e-9, -3]]), tiled([1], int)
        metric = metric_of(case, from_logits=True)
        assert streamed(metric, labels, logits) == close(expected(case, labels, logits, from_logits=True))


class TestEdges:
    @pytest.mark.parametrize("bins", [10, 15])
    def test_a_confidence_on_an_edge_is_in_the_bin_below(self, bins):
        # with each edge comes a wrong prediction well inside the bin below it, and inside the one above it
        edges = [np.float32(j / bins) for j in range(2, bins + 1)]
        for edge in edges:
            for nudge in (edge, np.nextafter(edge, np.float32(0)), np.nextafter(edge, np.float32(1))):
                confidences = np.array([nudge, edge - 0.5 / bins, min(edge + 0.5 / bins, 1)], "float32")
                p = np.stack([confidences, *[(1 - confidences) / 30] * 30], axis=1)  # the first class is likeliest
                metric = ExpectedCalibrationError(bins=bins)
                metric.update_state(np.array([0, 1, 1]), p)
                value = expected("ece", [0, 1, 1], p, bins=bins)
                assert float(metric.result()) == pytest.approx(value, abs=1e-6), (edge, nudge)

    def test_a_fifth_with_fifteen_bins_by_hand(self):
        p = np.full((3, 5), 0.2, "float32")
        p[1] = [0.19, 0.2025, 0.2025, 0.2025, 0.2025]
        metric = ExpectedCalibrationError()  # twice 0.2 in bin 3 and once right, 0.2025 in bin 4 and wrong
        found = streamed(metric, np.array([0, 0, 1]), p)
        assert found == pytest.approx(2 / 3 * (0.5 - 0.2) + 1 / 3 * 0.2025, abs=1e-6)

    @pytest.mark.parametrize("k", [5, 15])
    def test_equal_logits(self, k):
        # 1/K is an edge; by its side one prediction that is wrong, a little less and a little more confident
        logits = np.zeros((3, k), "float32")
        logits[:, 0] = [0, -0.02, 0.02]
        labels = np.array([0, 1, 1])
        for case in BINNED:
            metric = metric_of(case, from_logits=True)
            value = expected(case, labels, logits, from_logits=True)
            assert streamed(metric, labels, logits) == close(value)

    def test_compiled(self):
        logits, _, labels = sample(9, 5)
        logits[:4] = 0
        logits[1, 0] = 0.02
        found = compiled_results([metric_of(case, from_logits=True) for case in CASES], (labels, logits))
        value = {case: close(expected(case, labels, logits, from_logits=True)) for case in CASES}
        assert dict(zip(CASES, found, strict=True)) == value

    @pytest.mark.skipif(BACKEND == "jax", reason="XLA's logarithm is off by more than its last digit")
    def test_entropies_on_an_edge(self):
        # uniform over m of K classes: log m / log K, which is an edge where K is a power of m
        rows = []
        for k, m in [(64, 1), (64, 2), (64, 4), (64, 8), (64, 16), (64, 64)]:
            rows.append([1 / m] * m + [0] * (k - m))
        p, labels = np.array(rows, "float32"), np.array([0, 1, 0, 9, 0, 1])
        for bins in (2, 3, 6, 12, 15):
            metric = UncertaintyCalibrationError(bins=bins)
            assert streamed(metric, labels, p) == close(expected("uce", labels, p, bins=bins))


class TestState:
    @every_case
    def test_is_of_constant_size_and_only_read_by_result(self, case):
        _, p, labels = sample(19)
        metric = metric_of(case)
        shapes = [tuple(v.shape) for v in metric.variables]
        assert sum(np.prod(shape, dtype=int) for shape in shapes) <= 45
        for part in (slice(9), slice(9, 18), slice(18, 19)):
            metric.update_state(labels[part], p[part])
            value = float(metric.result())
        assert value == float(metric.result()) == close(expected(case, labels, p))
        assert [tuple(v.shape) for v in metric.variables] == shapes

    @every_case
    def test_reset_forgets_everything(self, case):
        _, p, labels = sample()
        metric = metric_of(case)
        assert float(metric.result()) == 0
        metric.update_state(labels, p * np.nan, np.arange(9.0))
        metric.reset_state()
        assert all((ops.convert_to_numpy(v) == 0).all() for v in metric.variables)
        assert streamed(metric, labels, p) == close(expected(case, labels, p))

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_a_dtype_that_cannot_count_is_refused_or_counts(self, dtype):
        try:
            metric = ExpectedCalibrationError(dtype=dtype)
        except ValueError as error:
            assert dtype in str(error)  # noqa: PT017
            return
        certain = np.tile(np.array([1, 0], "float32"), (4096, 1))
        sizes = [4096] + [1] * 8
        p, labels = np.concatenate([certain, certain[:8]]), np.array([0] * 4096 + [1] * 8)
        found = streamed(metric, labels, p, np.array([1.0] * 4096 + [1.0] * 8), sizes)
        assert found == pytest.approx(8 / 4104, rel=0.05)


class TestWeights:
    @every_case
    def test_only_their_ratios_matter(self, case):
        _, p, labels = sample()
        weights = np.random.default_rng(2).uniform(0.5, 2, 9) * 1e-9
        value = expected(case, labels, p, sample_weight=weights)
        assert streamed(metric_of(case), labels, p, weights) == pytest.approx(value, rel=1e-5)

    @every_case
    def test_a_weight_of_zero_leaves_a_sample_out(self, case):
        p = tiled([[0.5, 0.4, 0.1], [0.3, 0.7, 0], [1, 0, 0]])
        found = streamed(metric_of(case), tiled([0, 0, 1], int), p, tiled([1, 1, 0]))
        assert found == close(expected(case, [0, 0], p[:2]))

    @every_case
    def test_a_weight_that_is_nan_gives_nan(self, case):
        _, p, labels = sample()
        assert np.isnan(streamed(metric_of(case), labels, p, tiled([1, np.nan, 1])))


class TestNan:
    @pytest.mark.parametrize("column", [1, 2])
    @every_case
    def test_one_probability_among_many_batches(self, case, column):
        _, p, labels = sample(18)
        labels[11] = 1
        p[11, column] = np.nan
        assert np.isnan(streamed(metric_of(case), labels, p, sizes=[9, 9]))

    @every_case
    def test_one_logit(self, case):
        logits, _, labels = sample(18)
        labels[11] = 1
        logits[11, 2] = np.nan
        assert np.isnan(streamed(metric_of(case, from_logits=True), labels, logits, sizes=[9, 9]))

    @one_of_each
    def test_an_infinite_logit(self, case):
        logits, _, labels = sample(18)
        logits[11, labels[11]] = np.inf
        assert np.isnan(streamed(metric_of(case, from_logits=True), labels, logits, sizes=[9, 9]))

    def test_compiled(self):
        _, p, labels = sample()
        p[2, 0] = np.nan
        labels[2] = 0
        assert np.isnan(compiled_results([metric_of(case) for case in CASES], (labels, p))).all()


class TestDtypes:
    @every_case
    def test_float64_is_exact(self, case):
        logits, p, labels = sample(18, dtype="float64")
        weights = np.random.default_rng(0).uniform(0, 3, 18)
        for from_logits, predictions in ((False, p), (True, logits)):
            metric = metric_of(case, from_logits=from_logits, dtype="float64")
            assert {keras.backend.standardize_dtype(v.dtype) for v in metric.variables} == {"float64"}
            value = expected(case, labels, predictions, from_logits=from_logits, sample_weight=weights)
            found = streamed(metric, labels, predictions, weights, sizes=[9, 9])
            assert found == pytest.approx(value, rel=1e-12, abs=1e-14)

    @pytest.mark.usefixtures("float64")
    @every_case
    def test_float64_by_default(self, case):
        _, p, labels = sample(dtype="float64")
        assert metric_of(case).dtype == "float64"
        assert streamed(metric_of(case), labels, p) == pytest.approx(expected(case, labels, p), rel=1e-12)

    @every_case
    def test_half_precision_predictions(self, case):
        _, p, labels = sample()
        half = ops.cast(p, "bfloat16")
        exact = ops.convert_to_numpy(ops.cast(half, "float32"))
        assert streamed(metric_of(case), labels, half) == close(expected(case, labels, exact))


class TestSerialisation:
    @every_case
    def test_config_round_trip(self, case):
        arguments = {"from_logits": True, **({"bins": 7} if case in BINNED else {})}
        metric = metric_of(case, name="mine", dtype="float64", **arguments)
        again = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert type(again) is type(metric)
        assert again.get_config() == metric.get_config()
        assert (again.name, again.dtype) == ("mine", "float64")
        copy = type(metric).from_config(metric.get_config())
        assert copy.get_config() == metric.get_config()
