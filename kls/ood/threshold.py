"""A threshold of an OOD score: fitted on validation data, kept with how it was chosen, applied to new data."""

import hashlib
import io
import json
import math
import warnings
from dataclasses import asdict

import numpy as np

from kls.ood.metrics import as_scores, auroc, detection_threshold
from kls.ood.scores import RESTORABLE, get
from kls.utils.arrays import check_number, check_whole, shown
from kls.utils.files import as_path, atomic_write
from kls.utils.notebook import facts_html
from kls.utils.scale import Pixels, scale_remark
from kls.version import __version__

ROUNDING = 1e-12  # a share of 0.95 of 20 samples is 19 of them, whatever the product's last bit
FIELDS = {
    "kls": str,
    "score": str | None,
    "settings": dict,
    "learned": str | None,
    "value": float,
    "chosen": dict,
    "images": dict | None,
}
CHOSEN_ON = "the images that the threshold was chosen on"


class Threshold:
    """Tells ID from OOD samples by one score: at or above the threshold a sample counts as in-distribution.

    Args:
        score: Name or `Score` of `kls.ood.scores`, fitted where it has to be; `None` for data that are scores
            themselves, larger = more in-distribution.
        model: The Keras model that the score needs, a classifier or an autoencoder: data are images then, as
            `kls.utils.data.batches_of` takes them. `None` for data that are logits of shape `(N, K)`.

    Attributes:
        value: The threshold, a float; `None` before `fit`.
        chosen: How it was chosen, a dictionary: `rule`, the counts `id_samples` and `ood_samples`, the share `tpr` of
            the ID samples that it keeps and, where there were OOD samples, the share `tnr` of them that it refuses and
            `auroc`. These rates flatter, since they are of the data that it was chosen on. `None` before `fit`.
        images: `low`, `high`, `mean` and `std` of the pixels of the first batch of ID images that it was chosen on, a
            dictionary; `None` before `fit`, and for data that are no images.

    Warns:
        UserWarning: If images lie on another scale than those that the model was trained on, by its first batch
            normalisation, or than those that the threshold was chosen on. Of a model without batch normalisation it is
            not known whether the latter had the right one.

    Raises:
        ValueError: If there is no such score, if it is not fitted, or if it and the model do not fit together.

    Example:

    >>> threshold = Threshold(score=None).fit([3.0, 2.0, 2.5], [1.0, 0.0])
    >>> threshold
    Threshold(None, value=2.0)
    >>> threshold.chosen
    {'rule': 'largest detection accuracy', 'id_samples': 3, 'ood_samples': 2, 'tpr': 1.0, 'tnr': 1.0, 'auroc': 1.0}
    >>> threshold.predict([2.2, 1.9]).tolist()
    [True, False]

    Fitted on validation data, saved, and applied elsewhere:

    ```python
    score = kls.ood.scores.KNN().fit(model, training_batches)
    threshold = kls.ood.Threshold(score, model)
    threshold.fit(validation_batches, tpr=0.95).save("threshold.json")  # beside it, threshold.json.npz

    threshold = kls.ood.Threshold.load("threshold.json", model)
    is_ood = ~threshold.predict(batches)
    ```
    """

    def __init__(self, score="msp", model=None):
        self.score = None if score is None else get(score)
        self.value = None
        self.chosen = None
        self.images = None
        self._network = None
        if self.score is None:
            if model is not None:
                raise ValueError(
                    "`model` must be None with score=None, for which data are scores themselves. "
                    f"Received: a {type(model).__name__}"
                )
        elif self.score.uses_training_data and not self.score.fitted:
            raise ValueError(
                f"`score` must be fitted: call `fit(model, training_data)` first. Received: {shown(score)}"
            )
        elif model is not None:
            self._network = self.score.network_of(model)
        elif self.score.uses_features or self.score.uses_images:
            raise ValueError(f"`model` must be given: {self.score!r} needs a model and images. Received: model=None")

    def fit(self, id_data, ood_data=None, tpr=None, tnr=None, batch_size=128):
        """Chooses the threshold on data that neither the model nor the score was fitted to.

        Exactly one of three rules:

        - `ood_data` and no rate: the threshold of the largest detection accuracy, `(TPR + TNR) / 2`; the highest of
          equally good ones (`kls.ood.detection_threshold`).
        - `tpr`: the highest threshold that keeps at least that share of the ID samples.
        - `tnr`: the lowest threshold that refuses at least that share of the OOD samples.

        Args:
            id_data: ID data: images, logits or scores, as the class says.
            ood_data: OOD data of the same kind; with `tpr` only to report the rates.
            tpr: Share of the ID samples to keep, in (0, 1].
            tnr: Share of the OOD samples to refuse, in (0, 1].
            batch_size: Images per batch, for arrays.

        Returns:
            The threshold itself.

        Raises:
            ValueError: If the arguments make up none of the rules, a rate is outside (0, 1], or data are not as the
                score needs them.

        Example:

        >>> Threshold(score=None).fit([4.0, 3.0, 2.0, 1.0], tpr=0.75).value
        2.0
        """
        if tpr is not None and tnr is not None:
            raise ValueError(f"`tpr` and `tnr` must not be given together. Received: tpr={tpr}, tnr={tnr}")
        if ood_data is None and tpr is None:
            raise ValueError(f"`ood_data` must be given unless `tpr` is. Received: ood_data=None, tnr={tnr}")
        for name, rate in (("tpr", tpr), ("tnr", tnr)):
            if rate is not None:
                check_number(rate, name, "(0, 1]")
        id_scores, sample = self._scores(id_data, "id_data", batch_size)
        ood_scores, samples = None, {"`id_data`": sample}
        if ood_data is not None:
            ood_scores, samples["`ood_data`"] = self._scores(ood_data, "ood_data", batch_size)
        if sample is not None:
            _warn(scale_remark(self._network, samples))
        if tpr is not None:
            rule, value = f"tpr {tpr:.12g}", np.sort(id_scores)[-_count(tpr, id_scores)]
        elif tnr is not None:
            rule, value = f"tnr {tnr:.12g}", _just_above(np.sort(ood_scores)[_count(tnr, ood_scores) - 1])
        else:
            rule, value = "largest detection accuracy", detection_threshold(id_scores, ood_scores)
        self.value = float(value)
        self.images = None if sample is None else asdict(Pixels.of(sample))
        self.chosen = {
            "rule": rule,
            "id_samples": len(id_scores),
            "ood_samples": 0 if ood_data is None else len(ood_scores),
            "tpr": float(np.mean(id_scores >= value)),
        }
        if ood_data is not None:
            self.chosen |= {"tnr": float(np.mean(ood_scores < value)), "auroc": auroc(id_scores, ood_scores)}
        return self

    def predict(self, x, batch_size=128):
        """Returns which samples are in-distribution.

        Args:
            x: Images, logits or scores, as the class says.
            batch_size: Images per batch, for arrays.

        Returns:
            bool array of shape `(N,)`: whether the score is at least `value`.

        Raises:
            ValueError: If no threshold is chosen yet, or if data are not as the score needs them.
        """
        self._check_chosen()
        scores, sample = self._scores(x, "x", batch_size)
        if sample is not None:
            reference = (CHOSEN_ON, Pixels(**self.images)) if self.images else None
            _warn(scale_remark(self._network, {"`x`": sample}, reference))
        return scores >= self.value

    def save(self, path):
        """Writes the threshold to a JSON file, by an atomic write.

        The file has the score's name and settings, the threshold to its last bit and how it was chosen, not the model.
        What a fitted score has learned is written first, to `PATH.npz` beside it; the file has the SHA-256 of that.

        Args:
            path: Path of the file; its directory is made.

        Raises:
            ValueError: If no threshold is chosen yet, or if `path` is no path.
        """
        self._check_chosen()
        path = as_path(path, "path")
        settings = _settings(self.score)
        learned = b"" if self.score is None else _packed(self.score.state())
        if learned:
            with atomic_write(_beside(path)) as file:
                file.write(learned)
        record = {
            "kls": __version__,
            "score": None if self.score is None else type(self.score).__name__,
            "settings": settings,
            "learned": hashlib.sha256(learned).hexdigest() if learned else None,
            "value": self.value,
            "chosen": self.chosen,
            "images": self.images,
        }
        with atomic_write(path) as file:
            file.write(f"{json.dumps(record, indent=2)}\n".encode())

    @classmethod
    def load(cls, path, model=None, score=None):
        """Returns the threshold of a file that `save` wrote.

        Args:
            path: Path of the file.
            model: The model, as for `Threshold`.
            score: The score that the threshold was saved with. It must be given where it is not one of
                `kls.ood.scores`; else it is made again from its name, its settings and what it had learned.

        Raises:
            ValueError: If this is no such file or a damaged one, if the score must be given, or if another is given.
        """
        path = as_path(path, "path")
        record = _read(path)
        threshold = cls(_saved_score(record, path) if score is None else _given_score(score, record, path), model)
        threshold.value, threshold.chosen, threshold.images = (record[name] for name in ("value", "chosen", "images"))
        return threshold

    def __repr__(self):
        return f"{type(self).__name__}({self.score!r}, value={self.value!r})"

    def _repr_html_(self):
        return facts_html(repr(self), self.chosen or {})

    def _scores(self, data, name, batch_size):
        """Returns the scores of data, and the first images where these are images."""
        check_whole(batch_size, "batch_size", 1)
        if data is None:
            raise ValueError(f"`{name}` must be given. Received: {name}=None")
        if self.score is None:
            return as_scores(data, name), None
        if self._network is None:
            return self.score(data), None
        return self.score.scores_and_sample(self._network, data, batch_size)

    def _check_chosen(self):
        if self.value is None:
            raise ValueError("No threshold is chosen yet: call `fit(id_data, ood_data)` first.")


def _warn(remark):
    """Warns the caller of a public method."""
    if remark:
        warnings.warn(remark, stacklevel=3)


def _count(share, scores):
    """Returns the least number of samples that are at least this share of them."""
    return math.ceil(share * len(scores) * (1 - ROUNDING))


def _just_above(score):
    if score == np.inf:
        raise ValueError("`ood_data` must have finite scores for a threshold to lie above. Received: inf")
    return np.nextafter(score, np.inf)


def _settings(score):
    """Returns a score's settings as JSON gives them back."""

    def plain(value):
        if isinstance(value, np.generic):
            return value.item()
        raise ValueError(f"`score` must have settings that JSON can hold. Received: {score!r}")

    return {} if score is None else json.loads(json.dumps(score.settings, default=plain))


def _beside(path):
    """Returns the path of what a fitted score has learned."""
    return path.with_name(path.name + ".npz")


def _packed(state):
    """Returns arrays as the bytes of a file of NumPy's; no bytes where there are none."""
    if not state:
        return b""
    file = io.BytesIO()
    np.savez(file, **state)
    return file.getvalue()


def _learned(path, digest):
    """Returns the arrays of the file beside a threshold's, whose SHA-256 that has."""
    beside = _beside(path)
    content = beside.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{beside} is damaged, or belongs to another threshold than {path}: its SHA-256 is another.")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def _read(path):
    """Returns what `save` wrote, or raises an error that tells what is wrong with the file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
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
    images = record["images"]
    if images is not None and {name: type(value) for name, value in images.items()} != Pixels.__annotations__:
        fields = ", ".join(Pixels.__annotations__)
        raise ValueError(f"{path} is damaged: `images` must hold the numbers {fields}. Received: {images!r}")
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
    state = {} if record["learned"] is None else _learned(path, record["learned"])
    try:
        score = RESTORABLE[name](**settings)
        return score.restore(state) if score.uses_training_data else score
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
