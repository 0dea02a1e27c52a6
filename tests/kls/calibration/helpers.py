"""What the tests of several metrics call: predictions drawn and drawn up, and how numbers are compared."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

some = settings(max_examples=30)
FIVE_LABELS = [0, 0, 2, 1, 1]
FIVE = [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2], [0.3, 0.4, 0.3]]


def close(found, expected, name=""):
    """Compares to rounding; the debiased error is the root of a difference, so that 1e-17 becomes 3e-9."""
    atol = 1e-7 if "debiased" in name else 1e-12
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=atol, err_msg=name)


def sample(n=200, k=5, seed=0, dtype="float64"):
    """Returns labels, logits and probabilities of a classifier that is right now and then."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2, size=(n, k))
    labels = np.where(rng.random(n) < 0.5, logits.argmax(axis=1), rng.integers(k, size=n))
    powers = np.exp(logits)
    return labels, logits.astype(dtype), (powers / powers.sum(axis=1, keepdims=True)).astype(dtype)


@st.composite
def labels_and(draw, scores):
    """Draws labels and scores of 1 to 12 samples and 2 to 4 classes."""
    n, k = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    return draw(arrays(np.int64, n, elements=st.integers(0, k - 1))), draw(arrays(np.int64, (n, k), elements=scores))


def to_probabilities(drawn):
    """Turns small whole numbers into probabilities with many ties, zeros and confidences on the edges of bins."""
    labels, counts = drawn
    counts[counts.sum(axis=1) == 0, 0] = 1
    return labels, counts / counts.sum(axis=1, keepdims=True)


predictions = labels_and(st.integers(0, 6)).map(to_probabilities)
logit_predictions = labels_and(st.integers(-40, 40)).map(lambda drawn: (drawn[0], drawn[1] / 4))
