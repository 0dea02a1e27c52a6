"""One call: are a classifier's confidences true, and does it know what it does not know?"""

import copy
import numbers
from dataclasses import dataclass
from functools import partial

import numpy as np

from kls import plots
from kls.bootstrap import intervals_note
from kls.calibration import measures as calibration
from kls.calibration.reliability import check_binning
from kls.calibration.samples import as_indices
from kls.calibration.scaling import SCALERS, cross_fitted
from kls.network import Network
from kls.ood import measures as detection
from kls.ood import scores as ood_scores
from kls.utils.arrays import check_choice

UNSCALED = "none"
PERCENT = ("accuracy", "ece", "mce", "uce", "aurc", "auroc", "aupr_in", "aupr_out", "fpr95")
HEADINGS = {
    "accuracy": "accuracy %",
    "ece": "ECE %",
    "mce": "MCE %",
    "uce": "UCE %",
    "nll": "NLL",
    "brier": "Brier",
    "brier_top": "Brier top",
    "aurc": "AURC %",
    "auroc": "AUROC %",
    "aupr_in": "AUPR in %",
    "aupr_out": "AUPR out %",
    "fpr95": "FPR at 95 % TPR, %",
}
SUMMARY = ("accuracy", "ece", "mce", "uce", "nll", "brier", "brier_top", "aurc")  # as in `calibration.summarize`
BINNED = {"ece": ("bins", "convention"), "mce": ("bins", "convention"), "uce": ("bins",)}


@dataclass(frozen=True)
class Evaluation:
    """What `kls.evaluate` found.

    Attributes:
        labels: Class indices of the familiar data, shape `(N,)`.
        logits: Logits of the familiar data by scaling, `"none"` first, each of shape `(N, K)`.
        scores: `{score: (familiar scores, {(group, data set): unfamiliar scores})}`.
        rows: One dictionary per number, the rows of `to_frame`.
        scaling_note: How the scaling was fitted, `""` where there is none.
        scaler: The scaler that was fitted to `scaling_data`, `None` without them.
        bins: Number of bins of ECE, MCE and UCE.
        convention: Where these bins are closed.
        ood_convention: Which side is positive in AUPR and FPR.
    """

    labels: np.ndarray
    logits: dict
    scores: dict
    rows: list
    scaling_note: str
    scaler: object
    bins: int
    convention: str
    ood_convention: str

    def to_frame(self):
        """Returns every number as a `pandas.DataFrame`, one a row.

        Columns: `measure`, `value` (a fraction, or nats), `low` and `high` (ends of the 95 % interval, empty where none
        was asked for), `interval` (how it was found), `scaling`, `score`, `group`, `data` (empty for the familiar data;
        `mean` for the mean of a group), `n` (samples, familiar and unfamiliar ones together; of a mean: data sets),
        `bins` and `convention` (of binned measures; of AUPR and FPR the `ood_convention`).
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_markdown(self, measures=("auroc", "fpr95")):
        """Returns the tables as Markdown: calibration by scaling, then one table of scores by data sets per measure.

        Args:
            measures: Which OOD measures: `auroc`, `aupr_in`, `aupr_out`, `fpr95`.
        """
        unknown = [measure for measure in measures if measure not in detection.MEASURES]
        if unknown:
            raise ValueError(f"`measures` must be among {', '.join(detection.MEASURES)}. Received: {unknown}")
        parts = [self._calibration_markdown()]
        if self.scores:
            parts += [self._ood_markdown(measure) for measure in measures]
        return "\n\n".join(parts) + "\n"

    @property
    def summary(self):
        """One line: accuracy, calibration and the best OOD score."""
        found = self.value
        parts = [
            f"accuracy {100 * found('accuracy'):.2f} %, ECE {100 * found('ece'):.2f} %, NLL {found('nll'):.4f}, "
            f"Brier {found('brier'):.4f} (n = {len(self.labels):,})"
        ]
        for scaling in list(self.logits)[1:]:
            parts.append(f"{scaling} scaling: ECE {100 * found('ece', scaling):.2f} %")
        means = {
            score: np.mean([row["value"] for row in self._ood_rows("auroc", score) if row["data"] != "mean"])
            for score in self.scores
        }
        if means:
            best = max(means, key=means.get)
            sets = len(next(iter(self.scores.values()))[1])
            over = f"mean AUROC over {sets} unfamiliar sets" if sets > 1 else "AUROC"
            parts.append(f"{over} {100 * means[best]:.2f} % by {best}")
        return "; ".join(parts)

    def value(self, measure, scaling=UNSCALED):
        """Returns a calibration measure as a float, e.g. `value("ece", "temperature")`."""
        for row in self.rows:
            if row["measure"] == measure and row["scaling"] == scaling and not row["score"]:
                return row["value"]
        raise ValueError(
            f"`measure` must be one of {', '.join(SUMMARY)}, `scaling` one of {', '.join(self.logits)}. "
            f"Received: {measure!r}, {scaling!r}"
        )

    def plot_reliability(self, scaling=UNSCALED):
        """Draws the reliability diagram; returns a `matplotlib.figure.Figure`."""
        if scaling not in self.logits:
            raise ValueError(f"`scaling` must be one of {', '.join(self.logits)}. Received: {scaling!r}")
        title = "Reliability" if scaling == UNSCALED else f"Reliability, {scaling} scaling"
        return plots.reliability_diagram(
            self.labels, self.logits[scaling], self.bins, from_logits=True, convention=self.convention, title=title
        )

    def plot_confidences(self, score=None):
        """Draws histograms of a score, familiar against unfamiliar, by default of the first score."""
        score, familiar, unfamiliar = self._scores_of(score)
        return plots.score_histograms(familiar, unfamiliar, xlabel=score)

    def plot_roc(self, score=None):
        """Draws a score's receiver operating characteristics, by default those of the first score."""
        score, familiar, unfamiliar = self._scores_of(score)
        return plots.roc_curves(familiar, unfamiliar, title=f"ROC, {score}")

    def plot_risk_coverage(self):
        """Draws the risk-coverage curves, one per scaling."""
        curves = {"as trained" if name == UNSCALED else name: logits for name, logits in self.logits.items()}
        return plots.risk_coverage_curves(self.labels, curves, from_logits=True)

    def _scores_of(self, score):
        if not self.scores:
            raise ValueError("There are no OOD scores to draw: pass `ood` to `evaluate`.")
        score = score or next(iter(self.scores))
        if score not in self.scores:
            raise ValueError(f"`score` must be one of {', '.join(self.scores)}. Received: {score!r}")
        familiar, unfamiliar = self.scores[score]
        return score, familiar, {_column(group, data): values for (group, data), values in unfamiliar.items()}

    def _ood_rows(self, measure, score):
        return [row for row in self.rows if row["measure"] == measure and row["score"] == score]

    def _calibration_markdown(self):
        lines, rows = [], []
        for scaling in self.logits:
            rows = [row for row in self.rows if not row["score"] and row["scaling"] == scaling]
            lines.append(["as trained" if scaling == UNSCALED else scaling, *map(_cell, rows)])
        header = ["scaling", *(HEADINGS[measure] for measure in SUMMARY)]
        caption = (
            f"Calibration on {len(self.labels):,} samples; ECE, MCE and UCE with {self.bins} bins of equal width, "
            f"closed by {self.convention}'s convention in ECE and MCE."
        )
        return "\n\n".join(
            [" ".join(filter(None, [caption, self.scaling_note, _intervals_note(rows)])), _table(lines, header)]
        )

    def _ood_markdown(self, measure):
        by_score = {score: self._ood_rows(measure, score) for score in self.scores}
        rows = next(iter(by_score.values()))
        header = ["score", *(_column(row["group"], row["data"]) for row in rows)]
        lines = [[score, *map(_cell, found)] for score, found in by_score.items()]
        caption = f"{HEADINGS[measure]}: familiar against unfamiliar samples."
        if (measure, self.ood_convention) in detection.MEANINGS:
            meaning = detection.MEANINGS[measure, self.ood_convention]
            caption = f"{HEADINGS[measure]}: {meaning} ({self.ood_convention}'s convention)."
        return "\n\n".join([" ".join(filter(None, [caption, _intervals_note(rows)])), _table(lines, header)])


def evaluate(
    model,
    data,
    ood=None,
    scores=("msp",),
    scaling=None,
    training_data=None,
    scaling_data=None,
    features=None,
    bins=15,
    convention="guo",
    ood_convention="odin",
    resamples=0,
    batch_size=128,
    seed=0,
):
    """Measures calibration and the power to tell unfamiliar inputs apart, in one pass over each data set.

    Args:
        model: A Keras classifier that returns logits or probabilities; which of them is found out from its last layer.
        data: Familiar data with labels that the model was not trained on: a pair of arrays, a `keras.utils.PyDataset`
            or a `tf.data.Dataset` of batches.
        ood: `{name: unfamiliar data}`, or groups of them with their means, `{"near": {...}, "far": {...}}`. Labels
            may be missing and are not used.
        scores: Names or `Score`s of `kls.ood.scores`; `"all"` takes every one.
        scaling: Name of a scaler of `kls.calibration.scaling` (`"temperature"`, ...), or a scaler, to judge beside the
            model as trained. OOD scores are always those of the model as trained.
        training_data: Familiar training data for the scores that are fitted.
        scaling_data: What the scaler is fitted to. By default each half of `data` is scaled by what was fitted to the
            other half, so that no sample is judged by a scaler that saw it.
        features: Name of the layer to take features from; the last layer's input by default.
        bins: Number of bins of ECE, MCE and UCE.
        convention: As in `kls.calibration.expected_calibration_error`.
        ood_convention: Which side is positive in AUPR and FPR, as in `kls.ood.fpr_at_tpr`: `"odin"` or `"openood"`.
        resamples: Number of bootstrap resamples for 95 % intervals of every number; 0 for none.
        batch_size: Samples per batch, for arrays.
        seed: Integer from which the halves and the resamples are drawn.

    Returns:
        An `Evaluation`.

    Raises:
        ValueError: If labels are missing, if scores need training data and there are none, or if an argument is not as
            above.

    Example:

    ```python
    evaluation = kls.evaluate(model, (x_test, y_test), ood={"fashion": fashion}, scores=["msp", "energy"])
    print(evaluation.summary)
    print(evaluation.to_markdown())
    evaluation.plot_reliability().savefig("reliability.png")
    ```
    """
    check_binning(bins, "width", convention)
    check_choice(ood_convention, "ood_convention", detection.CONVENTIONS)
    if not isinstance(resamples, numbers.Integral) or resamples < 0:
        raise ValueError(f"`resamples` must be a whole number of at least 0. Received: resamples={resamples}")
    groups = _groups({} if ood is None else ood)
    named_scores = _named_scores(scores, features)
    if not groups:
        named_scores = {}
    scaler_name, scaler = _scaler(scaling)
    network = Network(model, features)
    _check_needs(named_scores, training_data, network)
    outputs_of = _collector(network, named_scores, batch_size)

    familiar = outputs_of(data)
    if familiar.labels is None:
        raise ValueError("`data` must have labels: a pair (images, labels), or batches of them.")
    labels = as_indices(familiar.labels, *familiar.logits.shape)
    fitted = [score for score in named_scores.values() if score.uses_training_data]
    if fitted and training_data is not None:
        training = network.outputs(training_data, any(score.uses_features for score in fitted), batch_size)
        for score in fitted:
            score.fit_outputs(training)
    unfamiliar = {}
    for (group, name), values in groups.items():
        try:
            unfamiliar[group, name] = outputs_of(values)
        except ValueError as error:
            raise ValueError(f"{_column(group, name)}: {error}") from error

    logits, note, fitted_scaler = {UNSCALED: familiar.logits}, "", None
    if scaler is not None:
        held_out = network.outputs(scaling_data, batch_size=batch_size) if scaling_data is not None else None
        logits[scaler_name], note, fitted_scaler = _scaled(scaler_name, scaler, familiar.logits, labels, held_out, seed)
    found_scores = {
        name: (_scores(name, score, familiar), {key: _scores(name, score, found) for key, found in unfamiliar.items()})
        for name, score in named_scores.items()
    }
    rows = [
        *_calibration_rows(labels, logits, bins, convention, resamples, seed),
        *_ood_rows(found_scores, ood_convention, resamples, seed),
    ]
    return Evaluation(labels, logits, found_scores, rows, note, fitted_scaler, bins, convention, ood_convention)


def _groups(ood):
    """Returns `{(group, name): data}`; the group is empty where `ood` has none."""
    if not isinstance(ood, dict):
        raise ValueError(f"`ood` must be {{name: data}}, or {{group: {{name: data}}}}. Received: {type(ood).__name__}")
    grouped = [isinstance(values, dict) for values in ood.values()]
    if any(grouped) and not all(grouped):
        raise ValueError("`ood` must be {name: data}, or {group: {name: data}} throughout. Received: a mixture")
    groups = ood if any(grouped) else {"": ood}
    found = {(str(group), str(name)): values for group, members in groups.items() for name, values in members.items()}
    if any(name == "mean" for _, name in found):
        raise ValueError("`ood` must not name a data set 'mean', as the means of groups are. Received: 'mean'")
    return found


def _named_scores(scores, features):
    """Returns `{name: score}`, none of which is the caller's own where it is fitted here."""
    if isinstance(scores, str | ood_scores.Score):
        scores = list(ood_scores.SCORES) if scores == "all" else [scores]
    named = {}
    for score in scores:
        found = copy.copy(ood_scores.get(score))
        if found.uses_features and not found.uses_head:
            found.features = found.features or features
        named[score if isinstance(score, str) else repr(score)] = found
    return named


def _check_needs(named_scores, training_data, network):
    """Raises before any pass over data what would be raised after it."""
    hungry = [name for name, score in named_scores.items() if score.uses_training_data and not score.fitted]
    if hungry and training_data is None:
        raise ValueError(f"`training_data` must be given for the scores {', '.join(hungry)}. Received: None")
    for name, score in named_scores.items():
        if score.features != (network.feature_layer if score.uses_features and not score.uses_head else None):
            raise ValueError(f"{name} takes other features: name the layer by `features` of `evaluate` instead")
        if score.uses_head and network.head is None:
            raise ValueError(
                f"{name} needs the input of the last Dense layer as features. "
                f"Received: features={network.feature_layer!r} and a model named {network.model.name!r}"
            )


def _collector(network, named_scores, batch_size):
    uses_features = any(score.uses_features for score in named_scores.values())
    images = {name: score.of_images for name, score in named_scores.items() if score.uses_images}
    return lambda data: network.outputs(data, uses_features, batch_size, images)


def _scores(name, score, outputs):
    return outputs.scores[name] if score.uses_images else score.of_outputs(outputs)


def _scaler(scaling):
    """Returns the name of a scaler and the scaler, `(None, None)` without one."""
    if scaling is None:
        return None, None
    if isinstance(scaling, str):
        if scaling not in SCALERS:
            raise ValueError(f"`scaling` must be one of {', '.join(SCALERS)}, or a scaler. Received: {scaling!r}")
        return scaling, SCALERS[scaling]()
    return type(scaling).__name__, scaling


def _scaled(name, scaler, logits, labels, held_out, seed):
    """Returns scaled logits, how they came about, and the scaler if one made them all."""
    if held_out is not None:
        if held_out.labels is None:
            raise ValueError("`scaling_data` must have labels: a pair (images, labels), or batches of them.")
        fitted = copy.deepcopy(scaler).fit(held_out.logits, held_out.labels)
        note = f"{name}: fitted to {len(held_out.logits):,} other samples{_temperatures([fitted])}."
        return fitted.transform(logits), note, fitted
    if len(labels) < 2:
        raise ValueError("`data` must hold two samples at least to be scaled in halves. Received: 1")
    halves, scaled = cross_fitted(scaler, logits, labels, seed), np.empty(logits.shape)
    for judged, fitted in halves:
        scaled[judged] = fitted.transform(logits[judged])
    temperatures = _temperatures([fitted for _, fitted in halves])
    note = f"{name}: each half of the samples is scaled by what was fitted to the other half{temperatures}."
    return scaled, note, None


def _temperatures(scalers):
    values = [f"{scaler.temperature:.3f}" for scaler in scalers if hasattr(scaler, "temperature")]
    return f" (T = {', '.join(values)})" if values else ""


def _calibration_rows(labels, logits, bins, convention, resamples, seed):
    rows = []
    for scaling, values in logits.items():
        summary = calibration.summarize(labels, values, bins, from_logits=True, convention=convention)
        for measure, value in summary.items():
            chosen = {"bins": bins, "convention": convention}
            settings = {name: chosen[name] for name in BINNED.get(measure, ())}
            interval = partial(
                calibration.interval,
                *(calibration.MEASURES[measure], labels, values, resamples),
                seed=seed,
                from_logits=True,
                **settings,
            )
            rows.append(_row(measure, value, len(labels), interval if resamples else None, scaling=scaling, **settings))
    return rows


def _ood_rows(found_scores, convention, resamples, seed):
    rows = []
    for score, (familiar, unfamiliar) in found_scores.items():
        for measure, function in detection.MEASURES.items():
            sided = {"convention": convention} if (measure, convention) in detection.MEANINGS else {}
            found = []
            for (group, data), values in unfamiliar.items():
                interval = partial(detection.interval, function, familiar, values, resamples, seed=seed, **sided)
                value, n = function(familiar, values, **sided), len(familiar) + len(values)
                place = {"score": score, "group": group, "data": data, **sided}
                found.append(_row(measure, value, n, interval if resamples else None, **place))
            rows += _with_means(found)
    return rows


def _with_means(rows):
    """Returns rows of one measure, each group of two data sets or more followed by its mean."""
    result = []
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        result += members
        if len(members) > 1:
            mean = float(np.mean([row["value"] for row in members]))
            kept = {name: members[0][name] for name in ("score", "group", "convention")}
            result.append(_row(members[0]["measure"], mean, len(members), data="mean", **kept))
    return result


def _row(measure, value, n, interval=None, **place):
    found = interval() if interval else None
    empty = {"scaling": "", "score": "", "group": "", "data": "", "bins": None, "convention": ""}
    limits = {"low": None, "high": None, "interval": ""}
    if found:
        limits = {"low": found.low, "high": found.high, "interval": found.method}
    return {"measure": measure, "value": value, **limits, "n": n, **empty, **place}


def _intervals_note(rows):
    methods = {row["measure"]: row["interval"] for row in rows if row["interval"]}
    return intervals_note(methods) if methods else ""


def _column(group, data):
    return " ".join(filter(None, [group, data]))


def _cell(row):
    scale, digits = (100, 2) if row["measure"] in PERCENT else (1, 4)
    text = f"{scale * row['value']:.{digits}f}"
    if row["low"] is None:
        return text
    return f"{text} [{scale * row['low']:.{digits}f}, {scale * row['high']:.{digits}f}]"


def _table(lines, header):
    from tabulate import tabulate

    header, *lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *lines)]
    return tabulate(lines, header, "pipe", disable_numparse=True)
