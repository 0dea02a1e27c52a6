"""A threshold of familiarity: chosen on validation data, kept with how it was chosen, applied to new data."""

import json
import math
from pathlib import Path

import numpy as np

from kls.ood.measures import auroc, detection_threshold
from kls.ood.scores import SCORES, Reconstruction, get
from kls.utils.files import atomic_write
from kls.version import __version__

ROUNDING = 1e-12  # a share of 0.95 of 20 samples is 19 of them, whatever the product's last bit
RESTORABLE = {
    type(score).__name__: type(score)
    for score in [*(make() for make in SCORES.values()), Reconstruction()]
    if not score.uses_training_data
}
FIELDS = {"kls": str, "score": str | None, "settings": dict, "value": float, "chosen": dict}


class Threshold:
    """Tells familiar from unfamiliar samples by one score: at or above the threshold a sample counts as familiar.

    Args:
        score: Name or `Score` of `kls.ood.scores`, fitted where it has to be; `None` for data that are scores
            themselves, larger = more familiar.
        model: The Keras model that the score needs, a classifier or an autoencoder: data are images then, as
            `kls.feeding.batches_of` takes them. `None` for data that are logits of shape `(N, K)`.

    Attributes:
        value: The threshold, a float; `None` before `choose`.
        chosen: How it was chosen, a dictionary: `rule`, the numbers of samples `familiar` and `unfamiliar`, the share
            `tpr` of the familiar ones that it keeps and, where there were unfamiliar ones, the share `tnr` of them that
            it refuses and `auroc`. Measured on the data that it was chosen on, these rates flatter. `None` before
            `choose`.

    Raises:
        ValueError: If there is no such score, if it is not fitted, or if it and the model do not fit together.

    Example:

    >>> threshold = Threshold(score=None).choose([3.0, 2.0, 2.5], [1.0, 0.0])
    >>> threshold
    Threshold(None, value=2.0)
    >>> threshold.chosen
    {'rule': 'largest detection accuracy', 'familiar': 3, 'unfamiliar': 2, 'tpr': 1.0, 'tnr': 1.0, 'auroc': 1.0}
    >>> threshold.is_familiar([2.2, 1.9]).tolist()
    [True, False]

    Chosen on validation data, saved, and applied elsewhere:

    ```python
    threshold = kls.ood.Threshold("energy", model)
    threshold.choose(x_validation, tpr=0.95).save("threshold.json")

    threshold = kls.ood.Threshold.load("threshold.json", model)
    unknown = ~threshold.is_familiar(images)
    ```
    """

    def __init__(self, score="msp", model=None):
        self.score = None if score is None else get(score)
        self.value = None
        self.chosen = None
        self._network = None
        if self.score is None:
            if model is not None:
                raise ValueError(
                    "`model` must be None with score=None, for which data are scores themselves. "
                    f"Received: a {type(model).__name__}"
                )
        elif self.score.uses_training_data and not self.score.fitted:
            raise ValueError(f"`score` must be fitted: call `fit(model, training_data)` first. Received: {score!r}")
        elif model is not None:
            self._network = self.score.network_of(model)
        elif self.score.uses_features or self.score.uses_images:
            raise ValueError(f"`model` must be given: {self.score!r} needs a model and images. Received: model=None")

    def choose(self, familiar, unfamiliar=None, tpr=None, tnr=None, batch_size=128):
        """Chooses the threshold on data that neither the model nor the score was fitted to.

        Exactly one of three rules:

        - `unfamiliar` and no rate: the threshold of the largest detection accuracy, `(TPR + TNR) / 2`; the highest of
          equally good ones (`kls.ood.detection_threshold`).
        - `tpr`: the highest threshold that keeps at least that share of the familiar samples.
        - `tnr`: the lowest threshold that refuses at least that share of the unfamiliar samples.

        Args:
            familiar: Familiar data: images, logits or scores, as the class says.
            unfamiliar: Unfamiliar data of the same kind; with `tpr` only to report the rates.
            tpr: Share of the familiar samples to keep, in (0, 1].
            tnr: Share of the unfamiliar samples to refuse, in (0, 1].
            batch_size: Images per batch, for arrays.

        Returns:
            The threshold itself.

        Raises:
            ValueError: If the arguments make up none of the rules, a rate is outside (0, 1], or data are not as the
                score needs them.

        Example:

        >>> Threshold(score=None).choose([4.0, 3.0, 2.0, 1.0], tpr=0.75).value
        2.0
        """
        if tpr is not None and tnr is not None:
            raise ValueError(f"`tpr` and `tnr` must not be given together. Received: tpr={tpr}, tnr={tnr}")
        if unfamiliar is None and tpr is None:
            raise ValueError(f"`unfamiliar` must be given unless `tpr` is. Received: unfamiliar=None, tnr={tnr}")
        for name, rate in (("tpr", tpr), ("tnr", tnr)):
            if rate is not None and not 0 < rate <= 1:
                raise ValueError(f"`{name}` must be in (0, 1]. Received: {name}={rate}")
        familiar = self._scores(familiar, "familiar", batch_size)
        unfamiliar = None if unfamiliar is None else self._scores(unfamiliar, "unfamiliar", batch_size)
        if tpr is not None:
            rule, value = f"tpr {tpr:.12g}", np.sort(familiar)[-_count(tpr, familiar)]
        elif tnr is not None:
            rule, value = f"tnr {tnr:.12g}", _just_above(np.sort(unfamiliar)[_count(tnr, unfamiliar) - 1])
        else:
            rule, value = "largest detection accuracy", detection_threshold(familiar, unfamiliar)
        self.value = float(value)
        self.chosen = {
            "rule": rule,
            "familiar": len(familiar),
            "unfamiliar": 0 if unfamiliar is None else len(unfamiliar),
            "tpr": float(np.mean(familiar >= value)),
        }
        if unfamiliar is not None:
            self.chosen |= {"tnr": float(np.mean(unfamiliar < value)), "auroc": auroc(familiar, unfamiliar)}
        return self

    def is_familiar(self, x, batch_size=128):
        """Returns which samples are familiar.

        Args:
            x: Images, logits or scores, as the class says.
            batch_size: Images per batch, for arrays.

        Returns:
            bool array of shape `(N,)`: whether the score is at least `value`.

        Raises:
            ValueError: If no threshold is chosen yet, or if data are not as the score needs them.
        """
        self._check_chosen()
        return self._scores(x, "x", batch_size) >= self.value

    def save(self, path):
        """Writes the threshold to a JSON file, aside and renamed when whole.

        The file has the score's name and settings, the threshold to its last bit and how it was chosen; neither the
        model nor the training data of a fitted score.

        Args:
            path: Path of the file; its directory is made.

        Raises:
            ValueError: If no threshold is chosen yet.
        """
        self._check_chosen()
        record = {
            "kls": __version__,
            "score": None if self.score is None else type(self.score).__name__,
            "settings": _settings(self.score),
            "value": self.value,
            "chosen": self.chosen,
        }
        with atomic_write(path) as file:
            file.write(f"{json.dumps(record, indent=2)}\n".encode())

    @classmethod
    def load(cls, path, model=None, score=None):
        """Returns the threshold of a file that `save` wrote.

        Args:
            path: Path of the file.
            model: The model, as for `Threshold`.
            score: The score that the threshold was saved with. It must be given where it was fitted, since training
                data are not saved, or where it is not one of `kls.ood.scores`; else it is made again from its name and
                settings.

        Raises:
            ValueError: If this is no such file or a damaged one, if the score must be given, or if another is given.

        Example:

        ```python
        score = kls.ood.scores.KNN(k=50).fit(model, x_train)
        threshold = kls.ood.Threshold.load("threshold.json", model, score)
        ```
        """
        record = _read(path)
        threshold = cls(_saved_score(record, path) if score is None else _given_score(score, record, path), model)
        threshold.value, threshold.chosen = record["value"], record["chosen"]
        return threshold

    def __repr__(self):
        return f"{type(self).__name__}({self.score!r}, value={self.value!r})"

    def _scores(self, data, name, batch_size):
        if data is None:
            raise ValueError(f"`{name}` must be given. Received: {name}=None")
        if self.score is None:
            return _as_scores(data, name)
        if self._network is None:
            return self.score(data)
        return self.score(self._network, data, batch_size)

    def _check_chosen(self):
        if self.value is None:
            raise ValueError("No threshold is chosen yet: call `choose(familiar, unfamiliar)` first.")


def _as_scores(values, name):
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or len(scores) == 0 or np.isnan(scores).any():
        found = f"shape {scores.shape}" if scores.ndim != 1 or len(scores) == 0 else "NaN"
        raise ValueError(f"`{name}` must hold scores of shape (N,) with N >= 1, none of them NaN. Received: {found}")
    return scores


def _count(share, scores):
    """Returns the least number of samples that are at least this share of them."""
    return math.ceil(share * len(scores) * (1 - ROUNDING))


def _just_above(score):
    if score == np.inf:
        raise ValueError("`unfamiliar` must have finite scores for a threshold to lie above. Received: inf")
    return np.nextafter(score, np.inf)


def _settings(score):
    """Returns a score's settings as JSON gives them back."""

    def plain(value):
        if isinstance(value, np.generic):
            return value.item()
        raise ValueError(f"`score` must have settings that JSON can hold. Received: {score!r}")

    return {} if score is None else json.loads(json.dumps(score.settings, default=plain))


def _read(path):
    """Returns what `save` wrote, or raises an error that tells what is wrong with the file."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no threshold: it is not JSON ({error}).") from error
    if not isinstance(record, dict) or set(record) != set(FIELDS):
        found = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"{path} holds no threshold: it must have the fields {', '.join(FIELDS)}. Received: {found}")
    for name, kind in FIELDS.items():
        if not isinstance(record[name], kind) or record[name] != record[name]:
            raise ValueError(
                f"{path} is damaged: `{name}` must be of type {getattr(kind, '__name__', kind)}, and not NaN. "
                f"Received: {record[name]!r}"
            )
    return record


def _saved_score(record, path):
    """Makes the score of a file again."""
    name, settings = record["score"], record["settings"]
    if name is None:
        return None
    if name not in RESTORABLE:
        raise ValueError(
            f"`score` must be given, fitted as the {_described(record)} that {path} was saved with: only "
            f"{', '.join(RESTORABLE)} can be made again from their settings. Received: score=None"
        )
    try:
        return RESTORABLE[name](**settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: there is no {_described(record)} ({error}).") from error


def _given_score(score, record, path):
    score = get(score)
    if (type(score).__name__, _settings(score)) != (record["score"], record["settings"]):
        raise ValueError(
            f"`score` must be the one that {path} was saved with, {_described(record)}. Received: score={score!r}"
        )
    return score


def _described(record):
    """Returns a saved score as its `repr` was."""
    if record["score"] is None:
        return "None"
    settings = ", ".join(f"{name}={value!r}" for name, value in record["settings"].items())
    return f"{record['score']}({settings})"
