"""One call: are a classifier's confidences true, and does it know what it does not know?"""

import copy
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from html import escape

import numpy as np

from kls import plots
from kls.calibration import metrics as calibration
from kls.calibration.reliability import check_binning
from kls.calibration.samples import as_indices
from kls.calibration.scaling import SCALERS
from kls.calibration.scaling.base import Scaler, cross_fitted
from kls.ood import metrics as detection
from kls.ood.scores import SCORES, Score, get
from kls.utils.arrays import check_choice, check_whole, naming, shown
from kls.utils.bootstrap import intervals_note
from kls.utils.feature_extractor import Network
from kls.utils.formats import with_interval
from kls.utils.scale import scale_remark

UNSCALED = "none"
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
CHANCE = 0.5  # AUROC of scores that tell nothing
NAMED = 5  # of what a remark is about
SUMMARY = ("accuracy", "ece", "mce", "uce", "nll", "brier", "brier_top", "aurc")  # as in `calibration.summarize`
BINNED = {"ece": ("bins", "convention"), "mce": ("bins", "convention"), "uce": ("bins",)}


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `kls.evaluate` found.

    Attributes:
        labels: Class indices of the ID data, shape `(N,)`.
        logits: Logits of the ID data by scaling, `"none"` first, each of shape `(N, K)`.
        scores: `{score: (ID scores, {(group, data set): OOD scores})}`.
        rows: One dictionary per number, the rows of `to_frame`.
        scaling_note: How the scaling was fitted, `""` where there is none.
        scaler: The scaler that was fitted to `scaling_data`, `None` without them.
        bins: Number of bins of ECE, MCE and UCE.
        convention: Where these bins are closed.
        ood_convention: Which side is positive in AUPR and FPR.
        skipped: `{score: why}` of the scores that `scores="all"` left out.
        remarks: Sentences on what is not to be taken at face value, `summary` and the tables end with them.
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
    skipped: dict
    remarks: list

    def to_frame(self):
        """Returns every number as a `pandas.DataFrame`, one a row.

        Columns: `metric`, `value` (a fraction, or nats), `low` and `high` (ends of the 95 % confidence interval, empty
        where none was asked for), `interval` (how it was found), `scaling`, `score`, `group`, `data` (empty for the ID
        data; `mean` for the mean of a group), `n` (samples of both sides; of a mean: data sets), `bins` and
        `convention` (of binned metrics; of AUPR and FPR the `ood_convention`).
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_markdown(self, metrics=("auroc", "fpr95")):
        """Returns the tables as Markdown: calibration by scaling, then one table of scores by data sets per metric.

        Args:
            metrics: Which OOD metrics: `auroc`, `aupr_in`, `aupr_out`, `fpr95`.
        """
        parts = []
        for caption, header, lines in self._tables(metrics):
            parts += [_as_text(caption), _table(*_escaped(lines, header), "pipe")]
        return "\n\n".join([*parts, *map(_as_text, self.remarks)]) + "\n"

    def _repr_html_(self):
        parts = []
        for caption, header, lines in self._tables(("auroc", "fpr95")):
            parts += [f"<p>{escape(caption)}</p>", _table(lines, header, "html")]
        return "".join([*parts, *(f"<p>{escape(remark)}</p>" for remark in self.remarks)])

    def __repr__(self):
        return f"{type(self).__name__}({self._headline})"

    @property
    def summary(self):
        """One line: accuracy, calibration and the best OOD score, and what is not to be taken at face value."""
        return "; ".join([self._headline, *(remark.removesuffix(".") for remark in self.remarks)])

    @property
    def _headline(self):
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
            over = f"mean AUROC over {sets} OOD datasets" if sets > 1 else "AUROC"
            among = f", the best of {len(means)} scores on these data: it flatters" if len(means) > 1 else ""
            parts.append(f"{over} {100 * means[best]:.2f} % by {best}{among}")
        return "; ".join(parts)

    def value(self, metric, scaling=UNSCALED):
        """Returns a calibration metric as a float, e.g. `value("ece", "temperature")`."""
        for row in self.rows:
            if row["metric"] == metric and row["scaling"] == scaling and not row["score"]:
                return row["value"]
        raise ValueError(
            f"`metric` must be one of {', '.join(SUMMARY)}, `scaling` one of {', '.join(self.logits)}. "
            f"Received: {shown(metric)}, {shown(scaling)}"
        )

    def plot_reliability(self, scaling=UNSCALED):
        """Draws the reliability diagram; returns a `matplotlib.figure.Figure`."""
        check_choice(scaling, "scaling", self.logits)
        title = "Reliability" if scaling == UNSCALED else f"Reliability, {scaling} scaling"
        return plots.reliability_diagram(
            self.labels, self.logits[scaling], self.bins, from_logits=True, convention=self.convention, title=title
        )

    def plot_confidences(self, score=None):
        """Draws histograms of a score, ID against OOD, by default of the first score."""
        score, id_scores, ood_scores = self._scores_of(score)
        return plots.score_histograms(id_scores, ood_scores, xlabel=score)

    def plot_roc(self, score=None):
        """Draws a score's receiver operating characteristics, by default those of the first score."""
        score, id_scores, ood_scores = self._scores_of(score)
        return plots.roc_curves(id_scores, ood_scores, title=f"ROC, {score}")

    def plot_risk_coverage(self):
        """Draws the risk-coverage curves, one per scaling."""
        curves = {"as trained" if name == UNSCALED else name: logits for name, logits in self.logits.items()}
        return plots.risk_coverage_curves(self.labels, curves, from_logits=True)

    def _scores_of(self, score):
        if not self.scores:
            raise ValueError("There are no OOD scores to draw: pass `ood` to `evaluate`.")
        score = next(iter(self.scores)) if score is None else check_choice(score, "score", self.scores)
        id_scores, ood_scores = self.scores[score]
        return score, id_scores, {_column(group, data): values for (group, data), values in ood_scores.items()}

    def _ood_rows(self, metric, score):
        return [row for row in self.rows if row["metric"] == metric and row["score"] == score]

    def _tables(self, metrics):
        """Yields caption, header and lines of each table."""
        known = list(detection.METRICS)
        if not isinstance(metrics, Collection) or not all(metric in known for metric in metrics):
            raise ValueError(f"`metrics` must be among {', '.join(known)}. Received: {shown(metrics)}")
        yield self._calibration_table()
        for metric in metrics if self.scores else ():
            yield self._ood_table(metric)

    def _calibration_table(self):
        lines, rows = [], []
        for scaling in self.logits:
            rows = [row for row in self.rows if not row["score"] and row["scaling"] == scaling]
            lines.append(["as trained" if scaling == UNSCALED else scaling, *map(_shown, rows)])
        caption = (
            f"Calibration on {len(self.labels):,} samples; ECE, MCE and UCE with {self.bins} bins of equal width, "
            f"closed by {self.convention}'s convention in ECE and MCE."
        )
        header = ["scaling", *(HEADINGS[metric] for metric in SUMMARY)]
        return " ".join(filter(None, [caption, self.scaling_note, _intervals_note(rows)])), header, lines

    def _ood_table(self, metric):
        by_score = {score: self._ood_rows(metric, score) for score in self.scores}
        rows = next(iter(by_score.values()))
        header = ["score", *(_column(row["group"], row["data"]) for row in rows)]
        lines = [[score, *map(_shown, found)] for score, found in by_score.items()]
        caption = f"{HEADINGS[metric]}: the share of pairs in which the ID sample scores higher."
        if (metric, self.ood_convention) in detection.MEANINGS:
            meaning = detection.MEANINGS[metric, self.ood_convention]
            caption = f"{HEADINGS[metric]}: {meaning} ({self.ood_convention}'s convention)."
        return " ".join(filter(None, [caption, _intervals_note(rows)])), header, lines


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
    """Measures calibration and the power to tell OOD inputs apart, in one pass over each data set.

    Args:
        model: A Keras classifier that returns logits or probabilities; which of them is found out from its last layer.
        data: ID data with labels that the model was not trained on: a pair of arrays, a `keras.utils.PyDataset`
            or a `tf.data.Dataset` of batches.
        ood: `{name: OOD data}`, or groups of them with their means, `{"near": {...}, "far": {...}}`. Labels
            may be missing and are not used.
        scores: Names or `Score`s of `kls.ood.scores`; `"all"` takes every one that this model can give, and says
            which were skipped and why.
        scaling: Name of a scaler of `kls.calibration.scaling` (`"temperature"`, ...), or a scaler, to judge beside the
            model as trained. OOD scores are always those of the model as trained.
        training_data: ID training data for the scores that are fitted.
        scaling_data: What the scaler is fitted to. By default each half of `data` is scaled by what was fitted to the
            other half, so that no sample is judged by a scaler that saw it.
        features: Name of the layer to take features from; the last layer's input by default.
        bins: Number of bins of ECE, MCE and UCE.
        convention: As in `kls.calibration.expected_calibration_error`.
        ood_convention: Which side is positive in AUPR and FPR, as in `kls.ood.fpr_at_tpr`: `"odin"` or `"openood"`.
        resamples: Number of bootstrap resamples for 95 % confidence intervals of every number; 0 for none.
        batch_size: Samples per batch, for arrays.
        seed: Integer from which the halves and the resamples are drawn.

    Returns:
        An `Evaluation`.

    Warns:
        UserWarning: If scores are skipped; or if images lie on another scale than those that the model was trained on,
            by its first batch normalisation, or than those of `data`, judged by the first batch of each. Of a model
            without batch normalisation and without `training_data` that a score needs, the right scale is not known.

    Raises:
        ValueError: If labels are missing, if scores need training data and there are none, or if an argument is not as
            above.

    Example:

    Images are given as the model was trained on them, here by `decathlon.Batches`:

    ```python
    test = decathlon.Batches(x_test, y_test, classes=10, batch_size=128)
    fashion = decathlon.Batches(x_fashion, y_fashion, classes=10, batch_size=128)
    evaluation = kls.evaluate(model, test, ood={"fashion": fashion}, scores=["msp", "energy"])
    print(evaluation.summary)
    print(evaluation.to_markdown())
    evaluation.plot_reliability().savefig("reliability.png")
    ```
    """
    check_binning(bins, "width", convention)
    check_choice(ood_convention, "ood_convention", detection.CONVENTIONS)
    check_whole(resamples, "resamples", 0)
    check_whole(batch_size, "batch_size", 1)
    check_whole(seed, "seed", 0)
    groups = _groups({} if ood is None else ood)
    named_scores = _named_scores(scores, features) if groups else {}
    scaler_name, scaler = _scaler(scaling)
    network = Network(model, features)
    skipped = {} if isinstance(scores, str) and scores == "all" else None
    _keep(named_scores, lambda _, score: score.check_network(network), skipped)
    _check_needs(named_scores, training_data, network)

    def outputs_of(data):
        images = {name: score.of_images for name, score in named_scores.items() if score.uses_images}
        return network.outputs(data, any(score.uses_features for score in named_scores.values()), batch_size, images)

    id_outputs = outputs_of(data)
    labels = as_indices(_labels(id_outputs, "data"), *id_outputs.logits.shape)
    samples = {"`data`": id_outputs.sample}
    fitted = [score for score in named_scores.values() if score.uses_training_data]
    if fitted and training_data is not None:
        with naming("training_data"):
            training = network.outputs(training_data, any(score.uses_features for score in fitted), batch_size)
        samples["`training_data`"] = training.sample

        def learn(_, score):
            if score.uses_training_data:
                score.fit_outputs(training)

        _keep(named_scores, learn, skipped)
    ood_outputs = {}
    for (group, name), values in groups.items():
        with naming(_column(group, name)):
            ood_outputs[group, name] = outputs_of(values)
        samples[f"`ood` {_column(group, name)}"] = ood_outputs[group, name].sample

    logits, note, fitted_scaler, remarks = {UNSCALED: id_outputs.logits}, "", None, []
    if scaler is not None:
        held_out = None
        if scaling_data is not None:
            with naming("scaling_data"):
                held_out = network.outputs(scaling_data, batch_size=batch_size)
            samples["`scaling_data`"] = held_out.sample
        logits[scaler_name], note, scalers = _scaled(scaler_name, scaler, id_outputs.logits, labels, held_out, seed)
        fitted_scaler = scalers[0] if held_out is not None else None
        remarks += _bound_remarks(scaler_name, scalers)
    found_scores = _keep(
        named_scores,
        lambda name, score: (
            _scores(name, score, id_outputs),
            {key: _scores(name, score, found) for key, found in ood_outputs.items()},
        ),
        skipped,
    )
    rows = [
        *_calibration_rows(labels, logits, bins, convention, resamples, seed),
        *_ood_rows(found_scores, ood_convention, resamples, seed),
    ]
    remarks += _row_remarks(rows)
    if skipped:
        remarks.append(f"Scores that were skipped: {'; '.join(f'{name} ({why})' for name, why in skipped.items())}.")
        warnings.warn(remarks[-1], stacklevel=2)
    if (remark := scale_remark(network, samples)) is not None:
        remarks.append(remark)
        warnings.warn(remark, stacklevel=2)
    return Evaluation(
        *(labels, logits, found_scores, rows, note, fitted_scaler, bins, convention, ood_convention),
        *(skipped or {}, remarks),
    )


def _keep(named_scores, step, skipped):
    """Returns `{name: step(name, score)}`; a score that fails is taken out of the scores where some may be skipped.

    Args:
        named_scores: `{name: score}`, from which those that fail are removed.
        step: What is done with each; a `ValueError` says why it cannot be.
        skipped: `{name: why}` of those taken out; `None` where none may be.
    """
    found = {}
    for name, score in list(named_scores.items()):
        try:
            found[name] = step(name, score)
        except ValueError as error:
            if skipped is None:
                raise
            skipped[name] = str(error).removesuffix(".")
            del named_scores[name]
    return found


def _labels(outputs, name):
    if outputs.labels is None:
        raise ValueError(
            f"`{name}` must have labels: a pair (images, labels), or batches of them. Received: images alone"
        )
    return outputs.labels


def _bound_remarks(name, scalers):
    """Remarks on temperatures beyond which the search did not go."""
    ends = sorted({scaler.temperature for scaler in scalers if getattr(scaler, "is_at_bound", False)})
    return [f"{name} scaling: T = {end:g} is an end of the range searched, the best lies beyond." for end in ends]


def _row_remarks(rows):
    """Remarks on scaling that made the ECE worse, and on AUROC below chance."""
    ece = {row["scaling"]: 100 * row["value"] for row in rows if row["metric"] == "ece"}
    remarks = [
        f"{scaling} scaling made the ECE worse: {ece[UNSCALED]:.2f} % before, {value:.2f} % after."
        for scaling, value in ece.items()
        if value > ece[UNSCALED]
    ]
    below = [row for row in rows if row["metric"] == "auroc" and row["data"] != "mean" and row["value"] < CHANCE]
    if below:
        named = [f"{row['score']} on {_column(row['group'], row['data'])}" for row in below[:NAMED]]
        more = f" and {len(below) - NAMED} more" if len(below) > NAMED else ""
        remarks.append(f"AUROC below 50 %, OOD samples score higher than ID ones: {', '.join(named)}{more}.")
    return remarks


def _groups(ood):
    """Returns `{(group, name): data}`; the group is empty where `ood` has none."""
    if not isinstance(ood, dict):
        raise ValueError(f"`ood` must be {{name: data}}, or {{group: {{name: data}}}}. Received: {shown(ood)}")
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
    if isinstance(scores, str | Score):
        scores = list(SCORES) if isinstance(scores, str) and scores == "all" else [scores]
    if not isinstance(scores, list | tuple) or not scores:
        raise ValueError(f"`scores` must be 'all', or names or `Score`s in a list. Received: scores={shown(scores)}")
    named = {}
    for score in scores:
        found = copy.copy(get(score))
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


def _scores(name, score, outputs):
    return outputs.scores[name] if score.uses_images else score.of_outputs(outputs)


def _scaler(scaling):
    """Returns the name of a scaler and the scaler, `(None, None)` without one."""
    if scaling is None:
        return None, None
    if not isinstance(scaling, Scaler):
        name = check_choice(scaling, "scaling", SCALERS)
        return name, SCALERS[name]()
    return type(scaling).__name__, scaling


def _scaled(name, scaler, logits, labels, held_out, seed):
    """Returns scaled logits, how they came about, and the scalers that made them."""
    if held_out is not None:
        fitted = copy.deepcopy(scaler).fit(held_out.logits, _labels(held_out, "scaling_data"))
        note = f"{name}: fitted to {len(held_out.logits):,} other samples{_temperatures([fitted])}."
        return fitted.transform(logits), note, [fitted]
    if len(labels) < 2:
        raise ValueError("`data` must hold two samples at least to be scaled in halves. Received: 1")
    halves, scaled = cross_fitted(scaler, logits, labels, seed), np.empty(logits.shape)
    for judged, fitted in halves:
        scaled[judged] = fitted.transform(logits[judged])
    scalers = [fitted for _, fitted in halves]
    note = f"{name}: each half of the samples is scaled by what was fitted to the other half{_temperatures(scalers)}."
    return scaled, note, scalers


def _temperatures(scalers):
    values = [f"{scaler.temperature:.3f}" for scaler in scalers if hasattr(scaler, "temperature")]
    return f" (T = {', '.join(values)})" if values else ""


def _calibration_rows(labels, logits, bins, convention, resamples, seed):
    rows = []
    for scaling, values in logits.items():
        summary = calibration.summarize(labels, values, bins, from_logits=True, convention=convention)
        for metric, value in summary.items():
            chosen = {"bins": bins, "convention": convention}
            settings = {name: chosen[name] for name in BINNED.get(metric, ())}
            interval = partial(
                calibration.interval,
                *(calibration.METRICS[metric], labels, values, resamples),
                seed=seed,
                from_logits=True,
                **settings,
            )
            rows.append(_row(metric, value, len(labels), interval if resamples else None, scaling=scaling, **settings))
    return rows


def _ood_rows(found_scores, convention, resamples, seed):
    rows = []
    for score, (id_scores, ood_scores) in found_scores.items():
        for metric, function in detection.METRICS.items():
            sided = {"convention": convention} if (metric, convention) in detection.MEANINGS else {}
            found = []
            for (group, data), values in ood_scores.items():
                interval = partial(detection.interval, function, id_scores, values, resamples, seed=seed, **sided)
                value, n = function(id_scores, values, **sided), len(id_scores) + len(values)
                place = {"score": score, "group": group, "data": data, **sided}
                found.append(_row(metric, value, n, interval if resamples else None, **place))
            rows += _with_means(found)
    return rows


def _with_means(rows):
    """Returns rows of one metric, each group of two data sets or more followed by its mean."""
    result = []
    for group in dict.fromkeys(row["group"] for row in rows):
        members = [row for row in rows if row["group"] == group]
        result += members
        if len(members) > 1:
            mean = float(np.mean([row["value"] for row in members]))
            kept = {name: members[0][name] for name in ("score", "group", "convention")}
            result.append(_row(members[0]["metric"], mean, len(members), data="mean", **kept))
    return result


def _row(metric, value, n, interval=None, **place):
    found = interval() if interval else None
    empty = {"scaling": "", "score": "", "group": "", "data": "", "bins": None, "convention": ""}
    limits = {"low": None, "high": None, "interval": ""}
    if found:
        limits = {"low": found.low, "high": found.high, "interval": found.method}
    return {"metric": metric, "value": value, **limits, "n": n, **empty, **place}


def _intervals_note(rows):
    methods = {row["metric"]: row["interval"] for row in rows if row["interval"]}
    return intervals_note(methods) if methods else ""


def _column(group, data):
    return " ".join(filter(None, [group, data]))


def _shown(row):
    return with_interval(row["metric"], row["value"], row["low"], row["high"])


def _as_text(text):
    """Returns text that Markdown shows as it is, in a cell of a table too."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _escaped(lines, header):
    return [[_as_text(cell) for cell in line] for line in lines], [_as_text(cell) for cell in header]


def _table(lines, header, form):
    from tabulate import tabulate

    return tabulate(lines, header, form, disable_numparse=True)
