import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from benchmarks.ldl.human import gamma_of_entropy, mean_entropy, read_distributions
from kls.study.plan import PlanError
from kls.targets import smooth


@pytest.fixture
def counts():
    """Of the 96 training images of `stripes`, three classes."""
    return np.random.default_rng(0).integers(0, 50, size=(96, 3)) + 1


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_counts_become_distributions(kind, counts, stripes, tmp_path):
    path = tmp_path / f"counts.{kind}"
    np.savez(path, counts=counts) if kind == "npz" else np.save(path, counts)
    distributions = read_distributions(path, stripes)
    assert distributions.dtype == np.float32
    np.testing.assert_allclose(distributions * counts.sum(axis=1, keepdims=True), counts, rtol=1e-6)
    np.save(tmp_path / "doubled.npy", 2 * counts)
    np.testing.assert_array_equal(read_distributions(tmp_path / "doubled.npy", stripes), distributions)


def test_what_is_wrong_with_a_file_is_said(counts, stripes, tmp_path):
    def refused(array, message, **arrays):
        np.savez(tmp_path / "labels.npz", **(arrays or {"counts": array}))
        with pytest.raises(PlanError, match=message):
            read_distributions(tmp_path / "labels.npz", stripes)

    refused(counts[:-1], r"of shape \(96, 3\), a row per training image of stripes .* Received: shape \(95, 3\)")
    refused(counts.T, r"Received: shape \(3, 96\)")
    refused(np.where(np.arange(96)[:, None] == 7, 0, counts), r"positive in each row. Received: 1 other rows, .* row 7")
    refused(-counts, "Received: 96 other rows, the first row 0")
    refused(np.full((96, 3), np.nan), "Received: 96 other rows")
    refused(None, "with `counts`", votes=counts)
    refused(np.full((96, 3), "many"), "with `counts`")
    (tmp_path / "labels.npz").write_text("0,1,2")
    with pytest.raises(PlanError, match="with `counts`"):
        read_distributions(tmp_path / "labels.npz", stripes)
    with pytest.raises(PlanError, match="No such file"):
        read_distributions(tmp_path / "absent.npz", stripes)


def test_entropy_is_that_of_scipy(counts):
    distributions = counts / counts.sum(axis=1, keepdims=True)
    assert mean_entropy(distributions) == pytest.approx(entropy(distributions, axis=1).mean())
    assert mean_entropy(np.eye(3)) == 0


@given(classes=st.integers(2, 1000), share=st.floats(0, 0.999))
def test_smoothed_labels_have_the_entropy_asked_for(classes, share):
    gamma = gamma_of_entropy(share * np.log(classes), classes)
    assert 1 / classes <= gamma <= 1
    label = [gamma, *[(1 - gamma) / (classes - 1)] * (classes - 1)]
    assert entropy(label) == pytest.approx(share * np.log(classes), abs=1e-6)


def test_the_labels_are_those_that_the_loss_learns():
    label = np.asarray(smooth([2], classes=10, gamma=gamma_of_entropy(0.17, 10)))
    assert entropy(label[0]) == pytest.approx(0.17, abs=1e-5)


@pytest.mark.parametrize("entropy", [-0.1, np.log(10), 3.0])
def test_an_entropy_that_no_label_has_is_refused(entropy):
    with pytest.raises(ValueError, match=r"`entropy` must be in \[0, log 10\)"):
        gamma_of_entropy(entropy, 10)
