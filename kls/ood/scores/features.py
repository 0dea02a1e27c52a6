"""Scores of features: the input of the model's last layer, or those of another layer."""

import copy

import numpy as np

from kls.calibration.namespaces import ARRAYS
from kls.calibration.samples import as_indices
from kls.ood.scores.base import Score
from kls.ood.scores.logits import energy_of
from kls.utils.arrays import check_bool, check_number, check_whole, shown

TINY = np.finfo(np.float32).tiny


class _FeatureScore(Score):
    """A score of features that can be named."""

    uses_features = True
    uses_training_data = True

    def __init__(self, features=None):
        if not isinstance(features, str | None):
            raise ValueError(f"`features` must be the name of a layer, or None. Received: features={shown(features)}")
        self.features = features


class Mahalanobis(_FeatureScore):
    """Mahalanobis distance to the nearest class mean (Lee et al. 2018, "A simple unified framework").

    `-min_k (f - mu_k)^T Sigma^-1 (f - mu_k)` with the class means mu_k and one covariance Sigma of all classes, of the
    last features of the training data by their labels. Its authors' input perturbation and ensemble of layers are
    left out.

    Args:
        relative: Whether to subtract the distance to one Gaussian of all training data,
            `-min_k (d_k(f) - d_0(f))` (Ren et al. 2021, "A simple fix to Mahalanobis distance").
        features: Name of the layer to take features from.

    Example:

    ```python
    score = kls.ood.scores.Mahalanobis(relative=True).fit(model, (x_train, y_train))
    values = score(model, images)
    ```
    """

    learned = ("mean", "whiten", "means", "whiten_all")

    def __init__(self, relative=False, features=None):
        super().__init__(features)
        self.relative = check_bool(relative, "relative")

    def _learn(self, outputs):
        if outputs.labels is None:
            raise ValueError(
                "`training_data` must have labels for Mahalanobis: (images, labels). Received: images alone"
            )
        features = outputs.features.astype(np.float64)
        labels = as_indices(outputs.labels, *outputs.logits.shape)
        present = np.unique(labels)
        self._mean = features.mean(axis=0)
        features -= self._mean
        means = np.stack([features[labels == k].mean(axis=0) for k in present])
        self._whiten = _whitening(features - means[np.searchsorted(present, labels)])
        self._means = means @ self._whiten
        self._whiten_all = _whitening(features)

    def formula(self, xp, outputs):
        features = xp.as_float(outputs.features) - self._mean
        distance = xp.min(_squared_distances(xp, xp.matmul(features, self._whiten), self._means), axis=1)
        if self.relative:
            distance = distance - xp.sum(xp.matmul(features, self._whiten_all) ** 2, axis=1)
        return -distance


class KNN(_FeatureScore):
    """Distance to the k-th nearest training sample (Sun et al. 2022, "OOD detection with deep nearest neighbors").

    Minus the Euclidean distance between normalised features, `f / ||f||`.

    Args:
        k: Which neighbour; its authors take 50 for CIFAR-10, 200 for CIFAR-100 and 1000 for ImageNet.
        features: Name of the layer to take features from.

    Example:

    ```python
    values = kls.ood.scores.KNN(k=200).fit(model, x_train)(model, images)
    ```
    """

    learned = ("references",)

    def __init__(self, k=50, features=None):
        super().__init__(features)
        self.k = check_whole(k, "k", 1)

    def _learn(self, outputs):
        if len(outputs.features) < self.k:
            raise ValueError(
                f"`k` must be at most {len(outputs.features)}, the number of training samples. Received: k={self.k}"
            )
        self._references = _unit(ARRAYS, outputs.features)

    def _score(self, outputs):
        from sklearn.neighbors import NearestNeighbors

        neighbors = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(self._references)
        return -neighbors.kneighbors(_unit(ARRAYS, outputs.features))[0][:, -1]

    def formula(self, xp, outputs):
        """The same of tensors: the neighbour is found by products, its distance is taken directly."""
        features = _unit(xp, outputs.features)
        products = xp.matmul(features, xp.transpose(self._references))
        _, nearest = xp.top_k(products - xp.sum(self._references**2, axis=1) / 2, self.k)
        return -_norm(xp, features - xp.take(self._references, nearest[:, -1], axis=0))[:, 0]

    def bounded(self, most, seed):
        """Returns a fitted score of at most so many training samples, drawn by a seed."""
        if len(self._references) <= most:
            return self
        if self.k > most:
            raise ValueError(f"`k` must be at most {most}, the number of training samples kept. Received: k={self.k}")
        drawn = np.random.default_rng(seed).choice(len(self._references), most, replace=False)
        state = self.state() | {"references": self._references[np.sort(drawn)]}
        return copy.copy(self).restore(state)


class ViM(_FeatureScore):
    """Virtual-logit matching (Wang et al. 2022, "ViM: out-of-distribution with virtual-logit matching", section 4).

    `log sum_k exp(z_k) - alpha ||R^T (f - o)||`: the energy minus a virtual logit, the part of the feature outside the
    principal space. The origin is `o = -(W^T)^+ b`, the principal space spans the first D eigenvectors of the
    training features about it, R the rest; alpha makes the mean virtual logit of the training data equal to its mean
    largest logit.

    Args:
        dimension: D; its authors' rule by default: 1000 for features of 2048 and more, 512 from 768 on, else half.

    Example:

    ```python
    values = kls.ood.scores.ViM().fit(model, x_train)(model, images)
    ```
    """

    uses_head = True
    learned = ("origin", "residual", "alpha")

    def __init__(self, dimension=None):
        super().__init__()
        self.dimension = None if dimension is None else check_whole(dimension, "dimension", 1)

    def _learn(self, outputs):
        kernel, bias = (array.astype(np.float64) for array in outputs.head)
        size = kernel.shape[0]
        dimension = self.dimension or (1000 if size >= 2048 else 512 if size >= 768 else size // 2)
        if dimension >= size:
            raise ValueError(f"`dimension` must be below {size}, that of the features. Received: {dimension}")
        self._origin = -np.linalg.pinv(kernel.T) @ bias
        centred = outputs.features - self._origin
        _, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        self._residual = vectors[:, : size - dimension]
        norm = self._virtual_logit(ARRAYS, outputs).mean()
        if norm == 0:
            raise ValueError(
                f"`dimension` must be smaller: all training features lie in the principal space. Received: {dimension}"
            )
        self._alpha = outputs.logits.max(axis=1).mean(dtype=np.float64) / norm

    def _virtual_logit(self, xp, outputs):
        """Returns the virtual logit before it is scaled."""
        return _norm(xp, xp.matmul(outputs.features - self._origin, self._residual))[:, 0]

    def formula(self, xp, outputs):
        return energy_of(xp, outputs.logits) - self._alpha * self._virtual_logit(xp, outputs)


class ReAct(_FeatureScore):
    """Energy of clipped features (Sun et al. 2021, "ReAct: out-of-distribution detection with rectified activations").

    Features are cut at c, the `percentile`-th percentile of all the training data's activations.

    Args:
        percentile: In [0, 100]; its authors take 90.

    Example:

    ```python
    values = kls.ood.scores.ReAct().fit(model, x_train)(model, images)
    ```
    """

    uses_head = True
    learned = ("limit",)

    def __init__(self, percentile=90):
        super().__init__()
        check_number(percentile, "percentile", "[0, 100]")
        self.percentile = percentile

    def _learn(self, outputs):
        self._limit = np.percentile(outputs.features, self.percentile)

    def formula(self, xp, outputs):
        return energy_of(xp, _project(xp, xp.minimum(outputs.features, self._limit), outputs.head))


class ASH(Score):
    """Energy of pruned features, ASH-S (Djurisic et al. 2023, "Extremely simple activation shaping").

    Of each sample's n features all but the `n - round(n percentile / 100)` largest (one at least, equals together)
    become 0, the others are scaled by `exp(s1 / s2)` with their sums s1 before and s2 after. Made for features after a
    ReLU; negative ones may leave a sample without a score, which is an error.

    Args:
        percentile: In [0, 100]; its authors take 90 for ASH-S on ImageNet.

    Example:

    ```python
    values = kls.ood.scores.ASH()(model, images)
    ```
    """

    uses_features = True
    uses_head = True

    def __init__(self, percentile=90):
        check_number(percentile, "percentile", "[0, 100]")
        self.percentile = percentile

    def formula(self, xp, outputs):
        features = xp.as_float(outputs.features)
        size = features.shape[1]
        limit = xp.kth_largest(features, max(size - round(size * self.percentile / 100), 1))
        kept = xp.where(features >= limit, features, 0.0)
        total = xp.sum(kept, axis=1, keepdims=True)
        scale = xp.exp(xp.sum(features, axis=1, keepdims=True) / xp.where(total != 0, total, 1.0))
        return energy_of(xp, _project(xp, kept * scale, outputs.head))


def _project(xp, features, head):
    kernel, bias = head
    return xp.matmul(features, kernel) + bias


def _norm(xp, vectors):
    """Returns the Euclidean norm of each row, shape `(N, 1)`."""
    return xp.sqrt(xp.sum(vectors * vectors, axis=1, keepdims=True))


def _unit(xp, features):
    return features / xp.maximum(_norm(xp, features), TINY)


def _whitening(centred):
    """Returns W with `W W^T` the pseudo-inverse of the covariance: `|f @ W|` is a Mahalanobis distance."""
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = values > values.max() * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] / np.sqrt(values[kept])


def _squared_distances(xp, points, centres):
    """Squared Euclidean distances of shape `(N, C)`."""
    products = xp.matmul(2 * points, xp.transpose(centres))
    squares = xp.sum(points**2, axis=1, keepdims=True) - products + xp.sum(centres**2, axis=1)
    return xp.maximum(squares, 0)
