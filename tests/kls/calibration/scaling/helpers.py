"""What the tests of the scalers call."""

import numpy as np
from scipy.special import log_softmax


def simulated(n=120, k=3, temperature=2.0, scale=3.0, seed=0):
    """Returns logits and labels that are drawn from `softmax(logits / temperature)`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(n, k))
    return logits, (logits / temperature + rng.gumbel(size=(n, k))).argmax(axis=1)


def nll(logits, labels):
    return -log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()
