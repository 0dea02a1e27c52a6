import warnings

import numpy as np
import pytest
from keras import ops
from scipy.special import softmax

from kls.calibration import SCALERS, summarize

from .helpers import simulated

every_scaler = pytest.mark.parametrize("name", SCALERS)


@pytest.fixture(scope="module")
def fitted():
    """Returns every scaler, fitted to the same 120 samples of three classes."""
    return {name: scaler().fit(*simulated()) for name, scaler in SCALERS.items()}


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
        for form in (labels[:, None].astype("float32"), np.eye(3)[labels].astype(bool)):
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


class TestNotebook:
    @every_scaler
    def test_shows_in_a_line_whether_it_is_fitted(self, fitted, name):
        kind = type(fitted[name]).__name__
        assert repr(SCALERS[name]()) == f"{kind}(fitted=no)"
        shown = repr(fitted[name])
        assert len(shown) < 80
        assert "=no" not in shown
        assert f"<b>{kind}</b><table>" in fitted[name]._repr_html_()


class TestFailures:
    @every_scaler
    def test_transform_before_fit_is_refused(self, name):
        with pytest.raises(ValueError, match=rf"{SCALERS[name].__name__} is not fitted yet: call `fit"):
            SCALERS[name]().transform([[1.0, 2.0]])
