"""The layers behind a classifier's logits and features: what was fitted is in their weights, saved with the model."""

import copy

import keras
import numpy as np
from keras import ops

from kls.calibration.namespaces import TENSORS
from kls.calibration.scaling import SCALERS
from kls.ood.scores import RESTORABLE
from kls.utils.feature_extractor import Outputs


class _Fitted(keras.layers.Layer):
    """A layer of numbers that were fitted before: float32 weights that are not trained, under every dtype policy."""

    def __init__(self, **kwargs):
        super().__init__(autocast=False, **{"dtype": "float32"} | kwargs)

    def _keep(self, name, values):
        """Returns a new weight of these values."""
        values = np.asarray(values, np.float32)
        return self.add_weight(
            name=name, shape=values.shape, initializer=lambda *_, **__: ops.convert_to_tensor(values), trainable=False
        )


@keras.saving.register_keras_serializable(package="kls")
class ScalerLayer(_Fitted):
    """Calibrates logits by what a scaler of `kls.calibration.scaling` has learned.

    Args:
        scaler: A fitted scaler with a formula: temperature, vector, matrix or Dirichlet.
        **kwargs: As in `keras.layers.Layer`.

    Example:

    >>> scaler = SCALERS["vector"]().fit([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 1, 1, 0])
    >>> [weight.name for weight in ScalerLayer(scaler).weights]
    ['weights', 'bias']
    """

    def __init__(self, scaler, **kwargs):
        super().__init__(**kwargs)
        self.kind = next(name for name, kind in SCALERS.items() if type(scaler) is kind)
        self._scaler = copy.copy(scaler)
        for name in scaler.learned:
            setattr(self._scaler, name, self._keep(name, getattr(scaler, name)))
        self.built = True

    def call(self, logits):
        return self._scaler.formula(TENSORS, logits)

    def get_config(self):
        shapes = [list(weight.shape) for weight in self.weights]
        return {**super().get_config(), "scaler": self.kind, "shapes": shapes}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        scaler = SCALERS[config.pop("scaler")]()
        for name, shape in zip(scaler.learned, config.pop("shapes"), strict=True):
            setattr(scaler, name, np.zeros(shape))
        return cls(scaler, **config)


@keras.saving.register_keras_serializable(package="kls")
class ScoreLayer(_Fitted):
    """Computes an OOD score of `kls.ood.scores` from logits and features, larger = more in-distribution.

    Args:
        score: A score with a formula, fitted where it has to be.
        **kwargs: As in `keras.layers.Layer`.

    Example:

    >>> from kls.ood.scores import Energy
    >>> ops.convert_to_numpy(ScoreLayer(Energy())(np.zeros((1, 2), np.float32))).round(4).tolist()
    [0.6930999755859375]
    """

    def __init__(self, score, **kwargs):
        super().__init__(**kwargs)
        self.score = score
        self._with_weights = score
        state = score.state()
        if state:
            weights = {name: self._keep(name, state[name]) for name in score.learned}
            self._with_weights = copy.copy(score).restore(state | weights)
        self.built = True

    def call(self, logits, features=None, kernel=None, bias=None):
        outputs = Outputs(logits, features=features, head=(kernel, bias))
        return self._with_weights.formula(TENSORS, outputs)

    def of_arrays(self, outputs, batch_size):
        """Returns the scores of the `kls.utils.feature_extractor.Outputs` of data, float32 of shape `(N,)`.

        Raises:
            ValueError: If a sample has no score, as where features overflow.
        """
        head = outputs.head if self.score.uses_head else (None, None)
        parts = []
        for start in range(0, len(outputs.logits), batch_size):
            part = slice(start, start + batch_size)
            features = outputs.features[part] if self.score.uses_features else None
            parts.append(ops.convert_to_numpy(self(outputs.logits[part], features, *head)))
        return self.score.without_nan(np.concatenate(parts), "these features or logits")

    def get_config(self):
        shapes = {name: list(values.shape) for name, values in self.score.state().items()}
        width = self.score.state().get("width")
        return {
            **super().get_config(),
            "score": type(self.score).__name__,
            "settings": self.score.settings,
            "shapes": {name: shape for name, shape in shapes.items() if name != "width"},
            "features_or_classes": None if width is None else int(width),
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        score = RESTORABLE[config.pop("score")](**config.pop("settings"))
        shapes, width = config.pop("shapes"), config.pop("features_or_classes")
        if width is not None:
            score.restore({name: np.zeros(shape) for name, shape in shapes.items()} | {"width": np.asarray(width)})
        return cls(score, **config)


@keras.saving.register_keras_serializable(package="kls")
class DecisionLayer(_Fitted):
    """Compares a score with a threshold, and keeps scores to compare those of other data with.

    Args:
        threshold: A sample at or above it counts as in-distribution; one without a score (NaN) does not.
        reference: Scores of calibration data, shape `(N,)`.
        **kwargs: As in `keras.layers.Layer`.

    Example:

    >>> ops.convert_to_numpy(DecisionLayer(2.0, [1.0, 2.0])(np.float32([1.5, 2.0]))).tolist()
    [False, True]
    """

    def __init__(self, threshold, reference, **kwargs):
        super().__init__(**kwargs)
        self.threshold = self._keep("threshold", threshold)
        self.reference = self._keep("reference", reference)
        self.built = True

    def call(self, score):
        return score >= self.threshold

    def get_config(self):
        return {**super().get_config(), "kept": self.reference.shape[0]}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(0.0, np.zeros(config.pop("kept")), **config)
