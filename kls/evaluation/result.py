"""What an evaluation found: its numbers as rows, tables, a line of text and figures."""

import textwrap
from collections.abc import Collection
from dataclasses import dataclass
from html import escape

import numpy as np

from kls import plots
from kls.calibration import metrics as calibration
from kls.ood import metrics as detection
from kls.utils.arrays import check_choice, shown
from kls.utils.bootstrap import intervals_note
from kls.utils.formats import with_interval

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
TITLE_WIDTH = 36  # characters
NAMED = 5  # of what a remark is about
SUMMARY = ("accuracy", "ece", "mce", "uce", "nll", "brier", "brier_top", "aurc")  # as in `calibration.summarize`


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `kls.evaluate` found.

    Attributes:
        labels: Class indices of the ID data, shape `(N,)`.
        logits: Logits of the ID data by scaling, `"none"` first, each of shape `(N, K)`.
        scores: `{score: (ID scores, {(group, dataset): OOD scores})}`.
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
        data; `mean` for the mean of a group), `n` (samples of both sides; of a mean: datasets), `bins` and
        `convention` (of binned metrics; of AUPR and FPR the `ood_convention`).
        """
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_markdown(self, metrics=("auroc", "fpr95")):
        """Returns the tables as Markdown: calibration by scaling, then one table of scores by datasets per metric.

        Args:
            metrics: Which OOD metrics: `auroc`, `aupr_in`, `aupr_out`, `fpr95`.
        """
        parts = []
        for caption, header, lines in self._tables(metrics):
            header, *lines = ([_as_text(cell) for cell in line] for line in (header, *lines))
            parts += [_as_text(caption), _table(lines, header, "pipe")]
        return "\n\n".join([*parts, *map(_as_text, self.remarks)]) + "\n"

    def _repr_html_(self):
        parts = []
        for caption, header, lines in self._tables(("auroc", "fpr95")):
            parts += [f"<p>{escape(caption)}</p>", _table(lines, header, "html")]
        return "".join([*parts, *(f"<p>{escape(remark)}</p>" for remark in self.remarks)])

    def __repr__(self):
        return f"{type(self).__name__}({self.headline})"

    @property
    def summary(self):
        """One line: accuracy, calibration and the best OOD score, and what is not to be taken at face value."""
        return "; ".join([self.headline, *(remark.removesuffix(".") for remark in self.remarks)])

    @property
    def headline(self):
        """The line without what is not to be taken at face value."""
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
        """Draws the reliability diagram, whose title says how a scaling was fitted, with its temperature.

        Args:
            scaling: As in `logits`.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        check_choice(scaling, "scaling", self.logits)
        title = "Reliability"
        if scaling != UNSCALED:
            how = textwrap.fill(self.scaling_note.partition(": ")[2].removesuffix("."), TITLE_WIDTH)
            title = f"Reliability, {scaling} scaling\n{how}"
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

    def save_report(self, path, images=None, class_names=None):
        """Writes all that was found as one HTML file, and the numbers behind it as CSV into a folder beside it.

        The page needs nothing else: no network, no script. The folder is called as the page, without `.html`.

        Args:
            path: Path of the page, which ends in `.html`.
            images: The images of the ID data in their order, of shape `(N, H, W, C)` with 1 or 3 channels, uint8 or
                floats in [0, 1]: those that are wrong with most confidence, and those that score lowest, are shown.
            class_names: Names of the K classes; their indices by default.

        Raises:
            ValueError: If an argument is not as above.
            OSError: If a file cannot be written.

        Example:

        ```python
        evaluation = kls.evaluate(model, test, ood={"fashion": fashion}, scaling="temperature")
        evaluation.save_report("report.html", images=x_test, class_names=names)
        ```
        """
        from kls.evaluation.report import evaluation_page
        from kls.pages.page import page_path

        page_path(path)
        evaluation_page(self, list(self._tables(("auroc", "fpr95"))), images, class_names).write(path)

    def _scores_of(self, score):
        if not self.scores:
            raise ValueError("There are no OOD scores to draw: pass `ood` to `evaluate`.")
        score = next(iter(self.scores)) if score is None else check_choice(score, "score", self.scores)
        id_scores, ood_scores = self.scores[score]
        return score, id_scores, {full_name(group, data): values for (group, data), values in ood_scores.items()}

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
        header = ["score", *(full_name(row["group"], row["data"]) for row in rows)]
        lines = [[score, *map(_shown, found)] for score, found in by_score.items()]
        caption = f"{HEADINGS[metric]}: the share of pairs in which the ID sample scores higher."
        if (metric, self.ood_convention) in detection.MEANINGS:
            meaning = detection.MEANINGS[metric, self.ood_convention]
            caption = f"{HEADINGS[metric]}: {meaning} ({self.ood_convention}'s convention)."
        return " ".join(filter(None, [caption, _intervals_note(rows)])), header, lines


def calibration_rows(labels, logits, bins, convention, resamples, seed):
    """Returns the rows of accuracy and calibration, for each scaling of the logits."""
    rows, binning = [], {"bins": bins, "convention": convention}
    binned = {"ece": binning, "mce": binning, "uce": {"bins": bins}}
    for scaling, values in logits.items():
        summary = calibration.summarize(labels, values, from_logits=True, **binning)
        for metric, value in summary.items():
            settings, given = binned.get(metric, {}), (calibration.METRICS[metric], labels, values, resamples)
            found = calibration.interval(*given, seed=seed, from_logits=True, **settings) if resamples else None
            rows.append(_row(metric, value, len(labels), found, scaling=scaling, **settings))
    return rows


def ood_rows(found_scores, convention, resamples, seed):
    """Returns the rows of OOD detection, for each score, metric and OOD dataset."""
    rows = []
    for score, (id_scores, ood_scores) in found_scores.items():
        for metric, function in detection.METRICS.items():
            sided = {"convention": convention} if (metric, convention) in detection.MEANINGS else {}
            of_metric = []
            for (group, data), values in ood_scores.items():
                given = function, id_scores, values
                found = detection.interval(*given, resamples, seed=seed, **sided) if resamples else None
                value, n = function(id_scores, values, **sided), len(id_scores) + len(values)
                of_metric.append(_row(metric, value, n, found, score=score, group=group, data=data, **sided))
            rows += _with_means(of_metric)
    return rows


def _with_means(rows):
    """Returns rows of one metric, each group of two datasets or more followed by its mean."""
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
    empty = {"scaling": "", "score": "", "group": "", "data": "", "bins": None, "convention": ""}
    ends = {"low": None, "high": None, "interval": ""}
    if interval:
        ends = {"low": interval.low, "high": interval.high, "interval": interval.method}
    return {"metric": metric, "value": value, **ends, "n": n, **empty, **place}


def row_remarks(rows):
    """Remarks on scaling that made the ECE worse, and on AUROC below chance."""
    ece = {row["scaling"]: 100 * row["value"] for row in rows if row["metric"] == "ece"}
    remarks = [
        f"{scaling} scaling made the ECE worse: {ece[UNSCALED]:.2f} % before, {value:.2f} % after."
        for scaling, value in ece.items()
        if value > ece[UNSCALED]
    ]
    below = [row for row in rows if row["metric"] == "auroc" and row["data"] != "mean" and row["value"] < CHANCE]
    if below:
        named = [f"{row['score']} on {full_name(row['group'], row['data'])}" for row in below[:NAMED]]
        more = f" and {len(below) - NAMED} more" if len(below) > NAMED else ""
        remarks.append(f"AUROC below 50 %, OOD samples score higher than ID ones: {', '.join(named)}{more}.")
    return remarks


def _intervals_note(rows):
    methods = {row["metric"]: row["interval"] for row in rows if row["interval"]}
    return intervals_note(methods) if methods else ""


def full_name(group, data):
    """Returns what an OOD dataset is called, with its group where it has one."""
    return " ".join(filter(None, [group, data]))


def _shown(row):
    return with_interval(row["metric"], row["value"], row["low"], row["high"])


def _as_text(text):
    """Returns text that Markdown shows as it is, in a cell of a table too."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _table(lines, header, form):
    from tabulate import tabulate

    return tabulate(lines, header, form, disable_numparse=True)
