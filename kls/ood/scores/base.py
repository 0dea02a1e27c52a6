"""What all OOD scores share."""

import numpy as np

from kls.calibration.namespaces import ARRAYS
from kls.calibration.samples import as_matrix
from kls.utils.arrays import shown
from kls.utils.feature_extractor import Network, Outputs, looks_like_probabilities
from kls.utils.notebook import facts_html

NO_HEAD = (
    "the model must be functional or Sequential and end in a Dense layer or a 1x1 convolution, and `features` must not "
    "name another layer."
)


class Score:
    """What all scores share: where their inputs come from.

    Attributes:
        uses_features: Whether the score needs features.
        uses_head: Whether it needs the last layer's weights.
        uses_training_data: Whether it must be fitted.
        uses_images: Whether it needs the images themselves.
        uses_exact_logits: Whether it needs the network's own logits, not those known up to a constant per sample.
        formula: Function of `(xp, outputs)` to the scores, written against a `kls.calibration.namespaces.Namespace`
            once, of arrays and of tensors alike; `None` where there is none.
        features: Name of the layer to take features from; `None` for the last layer's input.
        learned: Names, without the underscore, of the attributes that `fit` sets: arrays or numbers.
    """

    uses_features = False
    uses_head = False
    uses_training_data = False
    uses_images = False
    uses_exact_logits = False
    formula = None
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
        """Returns the `Network` that the score computes with, which it takes in place of the model.

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
        """Raises before any pass over data what a `Network` cannot give the score.

        Raises:
            ValueError: If it has no such features, no last layer, or no gradients, and the score needs them.
        """
        name = type(self).__name__
        if self.uses_features and not network.has_features:
            named = f'name the layer to take them from, `{name}(features="NAME")`, of a functional or Sequential model.'
            raise ValueError(f"{name} needs features: {NO_HEAD if self.uses_head else named}")
        if self.uses_head and not network.has_head:
            raise ValueError(f"{name} needs the last layer and its own input as features: {NO_HEAD}")

    def fit(self, model, training_data, batch_size=128):
        """Learns from the training data what the score needs; nothing where it needs nothing.

        Args:
            model: The Keras classifier.
            training_data: ID data, as `kls.utils.data.batches_of` takes it; with labels for `Mahalanobis`.
            batch_size: Images per batch, for arrays.

        Returns:
            The score itself.
        """
        if self.uses_training_data:
            network = self.network_of(model)
            self.check_network(network)
            self.fit_outputs(network.outputs(training_data, self.uses_features, batch_size))
        return self

    def __call__(self, model_or_logits, x=None, batch_size=128):
        """Returns the scores of samples.

        Args:
            model_or_logits: A Keras classifier; or, for scores of logits alone, logits of shape `(N, K)`.
            x: Images, as `kls.utils.data.batches_of` takes them; left out with logits.
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
        """Returns the scores of images by a `Network`, and the images of the first batch."""
        self.check_network(network)
        images = {"score": self.of_images} if self.uses_images else None
        outputs = network.outputs(x, self.uses_features, batch_size, images)
        return outputs.scores["score"] if self.uses_images else self.of_outputs(outputs), outputs.sample

    def fit_outputs(self, outputs):
        """Learns from the `kls.utils.feature_extractor.Outputs` of the training data."""
        self.check_outputs(outputs)
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
        """Returns the scores from `kls.utils.feature_extractor.Outputs`, which several scores can share."""
        self.check_fitted(outputs)
        return self.without_nan(np.asarray(self._score(outputs), np.float64), "these features or logits")

    def check_fitted(self, outputs):
        """Raises if the score is not fitted, or not to such `kls.utils.feature_extractor.Outputs`."""
        if self.uses_training_data and not self.fitted:
            raise ValueError(f"{type(self).__name__} is not fitted yet: call `fit(model, training_data)` first.")
        self.check_outputs(outputs)
        if self._width is not None and self._width != self._width_of(outputs):
            kind = "features" if self.uses_features else "classes"
            raise ValueError(
                f"{type(self).__name__} must get {self._width} {kind}, to which it was fitted. "
                f"Received: {self._width_of(outputs)}"
            )

    def bounded(self, most, seed):
        """Returns a fitted score that keeps at most so many training samples; most keep none, and are returned."""
        return self

    def _score(self, outputs):
        """Returns the scores of arrays; a score that overflows ends as infinite, or as NaN, which is refused."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.formula(ARRAYS, outputs)

    def _width_of(self, outputs):
        """Returns the number of features, or of classes for a score that needs none."""
        return (outputs.features if self.uses_features else outputs.logits).shape[1]

    def without_nan(self, scores, inputs):
        """Returns scores as they are, or raises for NaN among them, naming what they are of."""
        wrong = np.flatnonzero(np.isnan(scores))
        if len(wrong):
            raise ValueError(
                f"{type(self).__name__} has no score for {inputs}. "
                f"Received: sample {wrong[0]}, the first of {len(wrong)}"
            )
        return scores

    def check_outputs(self, outputs):
        """Raises what the `kls.utils.feature_extractor.Outputs` of data cannot give the score."""
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
        if self.uses_exact_logits and not outputs.exact_logits:
            raise ValueError(
                f"{type(self).__name__} needs logits, but the model returns probabilities and its last layer is not "
                "found. Return logits, or build the model from layers (functional or Sequential)."
            )

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
