"""Scores of familiarity: larger = more familiar, for all of them.

One protocol. `score(model, x)` gives an array of shape `(N,)`; scores of logits alone also take logits in place of
the model, `score(logits)`. Scores that have to know the training data are fitted first,
`score.fit(model, training_data)`, which returns the score itself. `x` and `training_data` are whatever
`kls.feeding.batches_of` takes: arrays, a pair of arrays, a `PyDataset`, a `tf.data.Dataset`.

`kls.ood.scores.msp` and the other lower-case names give a new score with its authors' defaults at each access;
`kls.ood.scores.MSP` and the other classes take settings. Features are the input of the model's last `Dense` layer;
`features="name"` takes those of another layer where the score allows it.

`Reconstruction` needs an autoencoder and has no lower-case name.
"""

import keras
import numpy as np
from keras import ops

from kls.calibration.samples import as_indices, as_matrix, log_softmax, softmax
from kls.feeding import full_batches
from kls.network import Network, Outputs, looks_like_probabilities
from kls.utils.arrays import check_bool, check_number, check_whole, shown
from kls.utils.notebook import facts_html

NO_HEAD = (
    "the model must be functional or Sequential and end in a Dense layer, and `features` must not name another layer."
)


class Score:
    """What all scores share: where their inputs come from.

    Attributes:
        uses_features: Whether the score needs features.
        uses_head: Whether it needs the last layer's weights.
        uses_training_data: Whether it must be fitted.
        uses_images: Whether it needs the images themselves.
        features: Name of the layer to take features from; `None` for the last layer's input.
        learned: Names, without the underscore, of the attributes that `fit` sets: arrays or numbers.
    """

    uses_features = False
    uses_head = False
    uses_training_data = False
    uses_images = False
    features = None
    learned = ()
    fitted = False
    _width = None

    @property
    def settings(self):
        """What makes the score again, `type(score)(**score.settings)`, but for what it was fitted to."""
        own = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "fitted"}
        return {name: value for name, value in own.items() if value is not None}

    def network_of(self, model):
        """Returns the `kls.network.Network` that the score computes with, which it takes in place of the model.

        Whoever scores again and again with one model keeps it, so that nothing is compiled twice.

        Raises:
            ValueError: If this is no Keras model, or not one that the score can be computed with.
        """
        if isinstance(model, Network):
            if self.features is not None and model.feature_layer != self.features:
                raise ValueError(
                    f"The network's features are of {model.feature_layer!r}, the score's of {self.features!r}."
                )
            return model
        return Network(model, self.features)

    def check_network(self, network):
        """Raises before any pass over data what a `kls.network.Network` cannot give the score.

        Raises:
            ValueError: If it has no such features, no last layer, or no gradients, and the score needs them.
        """
        if self.uses_features and not network.has_features:
            raise ValueError(f"{type(self).__name__} needs features: {NO_HEAD}")
        if self.uses_head and network.head is None:
            raise ValueError(f"{type(self).__name__} needs the last layer and its own input as features: {NO_HEAD}")

    def fit(self, model, training_data, batch_size=128):
        """Learns from the training data what the score needs; nothing where it needs nothing.

        Args:
            model: The Keras classifier.
            training_data: Familiar data, as `kls.feeding.batches_of` takes it; with labels for `Mahalanobis`.
            batch_size: Images per batch, for arrays.

        Returns:
            The score itself.
        """
        if self.uses_training_data:
            outputs = self.network_of(model).outputs(training_data, self.uses_features, batch_size)
            self.fit_outputs(outputs)
        return self

    def __call__(self, model_or_logits, x=None, batch_size=128):
        """Returns the scores of samples.

        Args:
            model_or_logits: A Keras classifier; or, for scores of logits alone, logits of shape `(N, K)`.
            x: Images, as `kls.feeding.batches_of` takes them; left out with logits.
            batch_size: Images per batch, for arrays.

        Returns:
            float64 array of shape `(N,)`.

        Raises:
            ValueError: If the score is not fitted, if it needs more than logits, or if logits are probabilities.
        """
        if x is None:
            return self.of_outputs(self._outputs_of_logits(model_or_logits))
        return self.scores_and_sample(self.network_of(model_or_logits), x, batch_size)[0]

    def scores_and_sample(self, network, x, batch_size=128):
        """Returns the scores of images by a `kls.network.Network`, and the images of the first batch."""
        images = {"score": self.of_images} if self.uses_images else None
        outputs = network.outputs(x, self.uses_features, batch_size, images)
        return outputs.scores["score"] if self.uses_images else self.of_outputs(outputs), outputs.sample

    def fit_outputs(self, outputs):
        """Learns from the `kls.network.Outputs` of the training data."""
        self._check_outputs(outputs)
        self._learn(outputs)
        self._width = self._width_of(outputs)
        self.fitted = True

    def state(self):
        """Returns what a fitted score has learned, `{name: array}`; empty where nothing is."""
        names = (*self.learned, "width") if self.learned else ()
        return {name: np.asarray(getattr(self, f"_{name}")) for name in names}

    def restore(self, state):
        """Gives the score what another of the same settings has learned.

        Args:
            state: What its `state()` returned.

        Returns:
            The score itself.

        Raises:
            ValueError: If that is not the state of such a score.
        """
        if state.keys() != {*self.learned, "width"}:
            raise ValueError(
                f"`state` must hold {', '.join((*self.learned, 'width'))}. Received: {', '.join(state) or 'nothing'}"
            )
        for name, array in state.items():
            setattr(self, f"_{name}", array)
        self.fitted = True
        return self

    def of_outputs(self, outputs):
        """Returns the scores from `kls.network.Outputs`, which several scores can share."""
        if self.uses_training_data and not self.fitted:
            raise ValueError(f"{type(self).__name__} is not fitted yet: call `fit(model, training_data)` first.")
        self._check_outputs(outputs)
        if self._width is not None and self._width != self._width_of(outputs):
            kind = "features" if self.uses_features else "classes"
            raise ValueError(
                f"{type(self).__name__} must get {self._width} {kind}, to which it was fitted. "
                f"Received: {self._width_of(outputs)}"
            )
        return self._without_nan(np.asarray(self._score(outputs), np.float64), "these features or logits")

    def _width_of(self, outputs):
        """Returns the number of features, or of classes for a score that needs none."""
        return (outputs.features if self.uses_features else outputs.logits).shape[1]

    def _without_nan(self, scores, inputs):
        wrong = np.flatnonzero(np.isnan(scores))
        if len(wrong):
            raise ValueError(
                f"{type(self).__name__} has no score for {inputs}. "
                f"Received: sample {wrong[0]}, the first of {len(wrong)}"
            )
        return scores

    def _check_outputs(self, outputs):
        wrong = np.flatnonzero(~np.isfinite(outputs.logits.max(axis=1)))
        if len(wrong):
            raise ValueError(
                "`logits` must be numbers below infinity, one of a row at least finite. "
                f"Received: row {wrong[0]}, the first of {len(wrong)}"
            )
        if self.uses_features and outputs.features is None:
            raise ValueError(f"{type(self).__name__} needs features: keep them in the outputs")
        if self.uses_head and outputs.head is None:
            raise ValueError(f"{type(self).__name__} needs the last layer and its own input as features: {NO_HEAD}")

    def _outputs_of_logits(self, logits):
        name = type(self).__name__
        if hasattr(logits, "predict"):
            raise ValueError(
                f"`x` must be given: {name} needs images to go with the model, `score(model, x)`. Received: x=None"
            )
        if self.uses_features or self.uses_images:
            raise ValueError(f"`x` must be given: {name} needs a model and images, not logits alone. Received: x=None")
        logits = as_matrix(logits, "logits")
        if looks_like_probabilities(logits):
            raise ValueError(
                "`logits` look like probabilities: no value is negative and each row sums to 1. "
                f"Received: {shown(logits)}"
            )
        return Outputs(logits)

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{type(self).__name__}({settings})"

    def _repr_html_(self):
        return facts_html(repr(self), {"fitted": self.fitted} if self.uses_training_data else {})


class MSP(Score):
    """Maximum softmax probability (Hendrycks & Gimpel 2017, "A baseline for detecting misclassified and OOD examples").

    `max_k softmax(z)_k`.

    Example:

    >>> MSP()([[0.0, 0.0], [0.0, 9.0]]).round(4).tolist()
    [0.5, 0.9999]
    """

    def _score(self, outputs):
        return softmax(outputs.logits).max(axis=1)


class MaxLogit(Score):
    """Maximum logit (Hendrycks et al. 2022, "Scaling OOD detection for real-world settings"): `max_k z_k`.

    Example:

    >>> MaxLogit()([[1.0, 2.0], [3.0, 9.0]]).tolist()
    [2.0, 9.0]
    """

    def _score(self, outputs):
        return _own_logits(self, outputs).max(axis=1)


class Energy(Score):
    """Negative free energy (Liu et al. 2020, "Energy-based OOD detection", equation 4): `T log sum_k exp(z_k / T)`.

    Args:
        temperature: T; its authors take 1.

    Example:

    >>> Energy()([[0.0, 0.0]]).round(4).tolist()
    [0.6931]
    """

    def __init__(self, temperature=1.0):
        check_number(temperature, "temperature", "(0, inf)")
        self.temperature = temperature

    def _score(self, outputs):
        return _energy(_own_logits(self, outputs), self.temperature)


class Entropy(Score):
    """Negative entropy of the softmax, `sum_k p_k log p_k`, in nats.

    Example:

    >>> Entropy()([[0.0, 0.0]]).round(4).tolist()
    [-0.6931]
    """

    def _score(self, outputs):
        log_p = np.maximum(log_softmax(outputs.logits), np.finfo(np.float64).min)
        return (np.exp(log_p) * log_p).sum(axis=1)


class GEN(Score):
    """Generalised entropy (Liu et al. 2023, "GEN: pushing the limits of softmax-based OOD detection", equation 4).

    `-sum_{k in the M likeliest} p_k^gamma (1 - p_k)^gamma`.

    Args:
        gamma: Exponent in (0, 1); its authors take 0.1.
        top: M; its authors take 100 for ImageNet's 1,000 classes. With fewer classes, all count.

    Example:

    >>> GEN()([[0.0, 0.0]]).round(4).tolist()
    [-1.7411]
    """

    def __init__(self, gamma=0.1, top=100):
        check_number(gamma, "gamma", "(0, 1)")
        check_whole(top, "top", 1)
        self.gamma = gamma
        self.top = top

    def _score(self, outputs):
        p = np.sort(softmax(outputs.logits), axis=1)
        rest = 1 - p
        rest[:, -1] = p[:, :-1].sum(axis=1)  # of a p next to 1 nothing else would be left
        return -((p * rest) ** self.gamma)[:, -self.top :].sum(axis=1)


class ODIN(Score):
    """Temperature and input perturbation (Liang et al. 2018, "Enhancing the reliability of OOD image detection", 3).

    The image is moved a small step towards its likeliest class, `x' = x + epsilon sign(d log S(x) / dx)` with
    `S(x) = max_k softmax(z(x) / T)_k`, and the score is `S(x')`. The gradient is the backend's own.

    Args:
        temperature: T; its authors take 1000.
        epsilon: Size of the step in units of the images; its authors' 0.0014 is for pixels in [0, 1]. 0 is the
            temperature alone.

    Example:

    ```python
    kls.ood.scores.ODIN(epsilon=0.002)(model, images)
    ```
    """

    uses_images = True

    def __init__(self, temperature=1000.0, epsilon=0.0014):
        check_number(temperature, "temperature", "(0, inf)")
        check_number(epsilon, "epsilon", "[0, inf)")
        self.temperature = temperature
        self.epsilon = epsilon

    def of_images(self, network, images):
        """Returns the scores of a batch of images by a `kls.network.Network`."""
        return self._score(Outputs(self.perturbed_logits(network, images)))

    def check_network(self, network):
        """Raises before any pass over data if there are no gradients of the network's images."""
        inputs = getattr(network.model, "inputs", None)
        if inputs and not keras.backend.is_float_dtype(inputs[0].dtype):
            raise ValueError(f"ODIN needs gradients of images of floats. Received: a model of {inputs[0].dtype} images")

    def perturbed_logits(self, network, images):
        """Returns the float32 logits of shape `(N, K)` of images after their step, by a `kls.network.Network`."""
        self.check_network(network)

        def logits_of(images):
            logits = ops.cast(network.logits(images), "float32")
            return ops.log(ops.maximum(logits, 1e-37)) if network.gives_probabilities else logits

        def confidence(images):
            """The sum of log S over the images, each of which moves along its own part of the gradient."""
            return ops.sum(ops.max(ops.log_softmax(logits_of(images) / self.temperature, axis=-1), axis=-1))

        def perturbed(images):
            images = ops.cast(images, "float32")
            return (logits_of(images + self.epsilon * ops.sign(_gradient(confidence, images))),)

        return network.compiled(perturbed, argument=(self.temperature, self.epsilon))(images)[0]

    def _score(self, outputs):
        return softmax(outputs.logits.astype(np.float64) / self.temperature).max(axis=1)


class Reconstruction(Score):
    """Reconstruction error of an autoencoder (Song, "Deep Learning Lab final project report", equation 2).

    `-1/(H W C) sum (x - x_hat)^2` over an image x, with the reconstruction x_hat that the model makes of it. An
    autoencoder learns to reconstruct what it was trained on, and fails at the rest. The model sees the image as it is:
    the noise that a denoising autoencoder was trained with is left out.

    Args:
        output: Name of the model's output that reconstructs its input, in the units of the images: the key where the
            outputs are a dictionary, else the name of the last layer. A single output is taken whatever its name.

    Example:

    ```python
    model = kls.models.DenoisingClassifier(classes=9)  # returns {"class": ..., "image": ...}
    familiarity = kls.ood.scores.Reconstruction()(model, images)
    ```
    """

    uses_images = True

    def __init__(self, output="image"):
        if not isinstance(output, str) or not output:
            raise ValueError(f"`output` must be the name of an output. Received: output={shown(output)}")
        self.output = output

    def network_of(self, model):
        """Returns the `kls.network.Network` from images to reconstructions.

        Raises:
            ValueError: If this is no Keras model, or one of several outputs without one of that name.
        """
        if isinstance(model, Network):
            return model
        if not getattr(model, "inputs", None):
            return Network(model)
        outputs = model(model.inputs if len(model.inputs) > 1 else model.inputs[0])
        # ends in the cast, not in a Dense layer, which `Network` would take for a classifier's
        return Network(keras.Model(model.inputs, ops.cast(self._reconstruction(model, outputs), "float32")))

    def scores_and_sample(self, network, x, batch_size=128):
        """Returns the scores of images by a `kls.network.Network`, and the images of the first batch.

        Raises:
            ValueError: If the model has no output of that name, if its shape is not that of the images, or if an image
                holds NaN.
        """
        parts, sample = [], None
        for images, _, count in full_batches(x, batch_size):
            images = np.asarray(images)
            parts.append(self.of_images(network, images)[:count])
            sample = images[:count] if sample is None else sample
        if not parts:
            raise ValueError("`x` must hold one batch at least. Received: none")
        return self._without_nan(np.concatenate(parts), "these images of `x`"), sample

    def of_images(self, network, images):
        """Returns the scores of a batch of images by the `kls.network.Network` that `network_of` made."""

        def reconstructions(images):
            return (ops.cast(network.logits(images), "float32"),)

        _check_images(network.model, images)
        found = network.compiled(reconstructions)(images)[0]
        if found.shape != images.shape:
            raise ValueError(
                "`model` must reconstruct images in their own shape. "
                f"Received: images of shape {images.shape}, an output of shape {found.shape}"
            )
        errors = np.asarray(images, np.float64) - found
        return -np.mean(errors**2, axis=tuple(range(1, errors.ndim)))

    def _reconstruction(self, model, outputs):
        flat = keras.tree.flatten(outputs)
        if len(flat) == 1:
            return flat[0]
        names = getattr(model, "output_names", ())  # a Sequential model has none
        named = outputs if isinstance(outputs, dict) else dict(zip(names, flat, strict=False))
        if self.output not in named:
            raise ValueError(
                f"`output` must name an output of the model: {', '.join(named) or 'none has a name'}. "
                f"Received: output={self.output!r}"
            )
        return named[self.output]


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
    familiarity = score(model, images)
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

    def _score(self, outputs):
        features = outputs.features.astype(np.float64) - self._mean
        distance = _squared_distances(features @ self._whiten, self._means).min(axis=1)
        if self.relative:
            distance -= ((features @ self._whiten_all) ** 2).sum(axis=1)
        return -distance


class KNN(_FeatureScore):
    """Distance to the k-th nearest training sample (Sun et al. 2022, "OOD detection with deep nearest neighbors").

    Minus the Euclidean distance between normalised features, `f / ||f||`.

    Args:
        k: Which neighbour; its authors take 50 for CIFAR-10, 200 for CIFAR-100 and 1000 for ImageNet.
        features: Name of the layer to take features from.

    Example:

    ```python
    familiarity = kls.ood.scores.KNN(k=200).fit(model, x_train)(model, images)
    ```
    """

    learned = ("references",)

    def __init__(self, k=50, features=None):
        super().__init__(features)
        check_whole(k, "k", 1)
        self.k = k

    def _learn(self, outputs):
        if len(outputs.features) < self.k:
            raise ValueError(
                f"`k` must be at most {len(outputs.features)}, the number of training samples. Received: k={self.k}"
            )
        self._references = _unit(outputs.features)

    def _score(self, outputs):
        from sklearn.neighbors import NearestNeighbors

        neighbors = NearestNeighbors(n_neighbors=self.k, algorithm="brute").fit(self._references)
        return -neighbors.kneighbors(_unit(outputs.features))[0][:, -1]


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
    familiarity = kls.ood.scores.ViM().fit(model, x_train)(model, images)
    ```
    """

    uses_head = True
    learned = ("origin", "residual", "alpha")

    def __init__(self, dimension=None):
        super().__init__()
        if dimension is not None:
            check_whole(dimension, "dimension", 1)
        self.dimension = dimension

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
        norm = self._norm(outputs).mean()
        if norm == 0:
            raise ValueError(
                f"`dimension` must be smaller: all training features lie in the principal space. Received: {dimension}"
            )
        self._alpha = outputs.logits.max(axis=1).mean(dtype=np.float64) / norm

    def _norm(self, outputs):
        return np.linalg.norm((outputs.features - self._origin) @ self._residual, axis=1)

    def _score(self, outputs):
        return _energy(outputs.logits) - self._alpha * self._norm(outputs)


class ReAct(_FeatureScore):
    """Energy of clipped features (Sun et al. 2021, "ReAct: out-of-distribution detection with rectified activations").

    Features are cut at c, the `percentile`-th percentile of all the training data's activations.

    Args:
        percentile: In [0, 100]; its authors take 90.

    Example:

    ```python
    familiarity = kls.ood.scores.ReAct().fit(model, x_train)(model, images)
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

    def _score(self, outputs):
        return _energy(_project(np.minimum(outputs.features, self._limit), outputs.head))


class ASH(Score):
    """Energy of pruned features, ASH-S (Djurisic et al. 2023, "Extremely simple activation shaping").

    Of each sample's n features all but the `n - round(n percentile / 100)` largest (one at least, equals together)
    become 0, the others are scaled by `exp(s1 / s2)` with their sums s1 before and s2 after. Made for features after a
    ReLU; negative ones may leave a sample without a score, which is an error.

    Args:
        percentile: In [0, 100]; its authors take 90 for ASH-S on ImageNet.

    Example:

    ```python
    familiarity = kls.ood.scores.ASH()(model, images)
    ```
    """

    uses_features = True
    uses_head = True

    def __init__(self, percentile=90):
        check_number(percentile, "percentile", "[0, 100]")
        self.percentile = percentile

    def _score(self, outputs):
        features = outputs.features.astype(np.float64)
        size = features.shape[1]
        kept_count = max(size - round(size * self.percentile / 100), 1)
        limit = np.partition(features, size - kept_count, axis=1)[:, size - kept_count, None]
        kept = np.where(features >= limit, features, 0.0)
        total = kept.sum(axis=1, keepdims=True)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.exp(features.sum(axis=1, keepdims=True) / np.where(total != 0, total, 1.0))
            return _energy(_project(kept * scale, outputs.head))


class KLMatching(Score):
    """Divergence from the nearest class template (Hendrycks et al. 2022, "Scaling OOD detection", section 4).

    `-min_k KL(p || d_k)` with the mean softmax d_k of the data that are predicted as class k; a class that is never
    predicted has no template. Its authors take validation data for that, where the softmax is less sure of itself.

    Example:

    ```python
    familiarity = kls.ood.scores.KLMatching().fit(model, x_validation)(model, images)
    ```
    """

    uses_training_data = True
    learned = ("log_templates",)

    def _learn(self, outputs):
        p = softmax(outputs.logits)
        predicted = p.argmax(axis=1)
        templates = np.stack([p[predicted == k].mean(axis=0) for k in np.unique(predicted)])
        self._log_templates = np.log(np.maximum(templates, np.finfo(np.float64).tiny))

    def _score(self, outputs):
        p = softmax(outputs.logits)
        negative_entropy = (p * np.log(np.maximum(p, np.finfo(np.float64).tiny))).sum(axis=1)
        return -(negative_entropy[:, None] - p @ self._log_templates.T).min(axis=1)


SCORES = {
    "msp": MSP,
    "max_logit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "gen": GEN,
    "odin": ODIN,
    "mahalanobis": Mahalanobis,
    "relative_mahalanobis": lambda: Mahalanobis(relative=True),
    "knn": KNN,
    "vim": ViM,
    "react": ReAct,
    "ash": ASH,
    "kl_matching": KLMatching,
}


def get(score):
    """Returns a score by its name, with its authors' defaults; a score is returned as it is.

    Raises:
        ValueError: If there is none of that name.

    Example:

    >>> get("energy")
    Energy(temperature=1.0)
    """
    if isinstance(score, Score):
        return score
    if not isinstance(score, str) or score not in SCORES:
        raise ValueError(f"`score` must be one of {', '.join(SCORES)}, or a `Score`. Received: {shown(score)}")
    return SCORES[score]()


def normalize_logits(logits, p=2):
    """Returns logits of mean 0 and p-norm 1 per sample.

    `(z - mean(z)) / ||z - mean(z)||_p` (Cattelan & Silva 2024, "How to fix a broken confidence estimator", where the
    largest of them is the score), which leaves the likeliest class as it is. Xia et al. 2025, "Towards understanding
    why label smoothing degrades selective classification and how to fix it", find that it undoes what smoothing does
    to the ranking of confidences.

    Args:
        logits: Finite logits of shape `(N, K)`.
        p: Order of the norm, at least 1.

    Returns:
        float64 array of shape `(N, K)`; a row of equal logits becomes 0.

    Raises:
        ValueError: If logits are not as above, or if `p` is below 1.

    Example:

    >>> normalize_logits([[1.0, 7.0, 1.0]]).round(4).tolist()
    [[-0.4082, 0.8165, -0.4082]]
    """
    check_number(p, "p", "[1, inf]")
    logits = as_matrix(logits, "logits").astype(np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("`logits` must be finite. Received: infinite ones or NaN")
    below = logits - logits.max(axis=1, keepdims=True)  # equal logits are 0 to the last bit
    spread = -below.min(axis=1, keepdims=True)
    below /= np.where(spread > 0, spread, 1.0)  # no power of it is too large or too small for a float
    centred = below - below.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, ord=p, axis=1, keepdims=True)
    return centred / np.where(norms > 0, norms, 1.0)


def __getattr__(name):
    if name in SCORES:
        return SCORES[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_images(model, images):
    """Raises for images of another shape than the inputs; what is compiled already no longer tells them apart."""
    inputs = getattr(model, "inputs", None)
    expected = tuple(inputs[0].shape) if inputs else (None,) * images.ndim
    sides = zip(expected, images.shape, strict=False)
    if len(expected) != images.ndim or any(side not in (None, found) for side, found in sides):
        raise ValueError(f"`x` must hold images of shape {expected}. Received: shape {images.shape}")


def _own_logits(score, outputs):
    """Returns float64 logits, or raises where they are known only up to a constant per sample."""
    if not outputs.exact_logits:
        raise ValueError(
            f"{type(score).__name__} needs logits, but the model returns probabilities and has no last Dense layer to "
            "take them from. Return logits, or build the model from layers (functional or Sequential)."
        )
    return outputs.logits.astype(np.float64)


def _energy(logits, temperature=1.0):
    scaled = np.asarray(logits, np.float64) / temperature
    largest = scaled.max(axis=1)
    return temperature * (largest + np.log(np.exp(scaled - largest[:, None]).sum(axis=1)))


def _project(features, head):
    kernel, bias = head
    return features @ kernel + bias


def _unit(features):
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(norms, np.finfo(np.float32).tiny)


def _whitening(centred):
    """Returns W with `W W^T` the pseudo-inverse of the covariance: `|f @ W|` is a Mahalanobis distance."""
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = values > values.max() * len(values) * np.finfo(np.float64).eps
    return vectors[:, kept] / np.sqrt(values[kept])


def _squared_distances(points, centres):
    """Squared Euclidean distances of shape `(N, C)`."""
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.maximum(squares, 0)


def _gradient(function, images):
    """Returns the gradient of a scalar function by the backend's automatic differentiation."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(images)
            value = function(images)
        return tape.gradient(value, images)
    if backend == "jax":
        import jax

        return jax.grad(function)(images)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            images = images.detach().requires_grad_()
            return torch.autograd.grad(function(images), images)[0]
    raise ValueError(f"ODIN needs gradients, which Keras's backend {backend!r} does not give")
