"""Is smoothing's damage to OOD detection real, or does it lie in the score? AUROC with and without corrections.

Two post-hoc corrections of logits, which need no training: temperature scaling (Guo et al. 2017) and normalised logits
(Cattelan & Silva 2024; Xia et al. 2025 find that they undo what smoothing does to confidences). Of ODIN the logits of
its perturbed images are corrected; the images move as they do for the network as trained. The other scores that need
more than logits are shown as trained: KNN and Mahalanobis do not depend on logits; ViM, ReAct, ASH and KL matching are
not taken apart.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from kls.calibration import TemperatureScaling, cross_fitted
from kls.ood import auroc
from kls.ood.scores import normalize_logits
from kls.study.outputs import needs_network, score_of, score_of_logits
from kls.study.report.tables import Table, display_name, reversed_note
from kls.study.store import read_outputs
from kls.targets import epsilon_from_gamma
from kls.utils.bootstrap import interval_of, resample

AS_TRAINED, TEMPERATURE, NORMALISED = "as trained", "temperature", "normalised"
CORRECTIONS = (AS_TRAINED, TEMPERATURE, NORMALISED)
RESAMPLES = 1000
MEAN = "mean"


def corrections_of(score):
    """Returns the corrections that a score is shown with: all for those of logits and ODIN, none for the others."""
    return CORRECTIONS if score == "odin" or not needs_network(score) else (AS_TRAINED,)


class Detector:
    """A network's stored outputs on ID and OOD data, whose AUROC can be taken on resamples.

    Args:
        id_outputs: What `RunStore.outputs` returns for the evaluation split.
        ood_outputs: The same per OOD dataset, `{name: outputs}`.
    """

    def __init__(self, id_outputs, ood_outputs):
        self.id_outputs = id_outputs
        self.ood_outputs = ood_outputs

    def auroc(self, score, correction, name, weights):
        """Returns the AUROC by a score with corrected logits.

        With temperature scaling each half of the ID samples is judged by the temperature that was fitted to the other
        half, against OOD samples of the same temperature. The AUROC is the mean over all ID samples.

        Args:
            score: Name of a score.
            correction: One of `corrections_of(score)`.
            name: Name of the OOD dataset.
            weights: Weights of shapes `(R, N)` of the ID and `(R, M)` of the OOD samples.

        Returns:
            Array of shape `(R,)`.
        """
        weight, ood_weight = weights
        total, shares = 0.0, 0.0
        for rows, id_scores, ood_scores in self._scores(score, correction, name):
            part = weight[:, rows]
            share = part.sum(axis=1)
            part = np.where(share[:, None] > 0, part, 1.0)  # of a half that was not drawn, nothing counts
            total += share * auroc(id_scores, ood_scores, (part, ood_weight))
            shares += share
        return total / shares

    def _scores(self, score, correction, name):
        """Yields rows of the ID samples, their scores, and those of the OOD samples beside them."""
        every = np.arange(len(self.id_outputs["labels"]))
        if correction == AS_TRAINED:
            yield every, score_of(self.id_outputs, score), score_of(self.ood_outputs[name], score)
            return
        kind = score if score in self.id_outputs else "logits"
        id_logits, ood_logits = self.id_outputs[kind], self.ood_outputs[name][kind]
        parts = [(every, normalize_logits)] if correction == NORMALISED else self._temperatures
        for rows, change in parts:
            yield rows, score_of_logits(change(id_logits[rows]), score), score_of_logits(change(ood_logits), score)

    @cached_property
    def _temperatures(self):
        """Pairs of rows of the ID samples and the scaling that was fitted to the others."""
        halves = cross_fitted(TemperatureScaling(), self.id_outputs["logits"], self.id_outputs["labels"])
        return [(judged, fitted.transform) for judged, fitted in halves]


def measure_corrections(networks, store, scores, resamples=RESAMPLES):
    """Returns AUROCs of the smoothing sweep before and after corrections, and their differences to the baseline.

    The baseline of a difference is the network of the same seed without smoothing, by the same score and correction.
    Confidence intervals are of the mean difference over seeds, with images resampled, the same for both networks.
    Scores and OOD sets that not all networks of a dataset have stored are not shown.

    Args:
        networks: `{dataset: Networks}`.
        store: The `RunStore`.
        scores: Names of scores.
        resamples: Number of bootstrap resamples.

    Returns:
        Frame with the columns dataset, model, gamma, score, correction, ood (`"mean"`: over all sets), n, auroc, std,
        pairs (seeds with a baseline), difference, low and high.
    """
    rows = []
    for dataset, of in networks.items():
        members = of.smoothed().to_dict("records")
        stored = {score: names for score in scores if (names := _stored(members, of.ood_sets, score))}
        names = sorted(set.intersection(*stored.values())) if stored else ()
        if not names:
            continue
        detectors = {(record["gamma"], record["seed"]): _open(record, names, store) for record in members}
        weights = _weights(next(iter(detectors.values())), resamples)
        for score in stored:
            for correction in corrections_of(score):
                drawn = {
                    name: {key: one.auroc(score, correction, name, weights[name]) for key, one in detectors.items()}
                    for name in names
                }
                mean = {key: np.mean([by_network[key] for by_network in drawn.values()], axis=0) for key in detectors}
                for name, by_network in {MEAN: mean, **drawn}.items():
                    place = {"dataset": dataset, "model": of.model, "score": score, "ood": name}
                    rows += [{**place, "correction": correction, **row} for row in _rows(by_network)]
    return pd.DataFrame(rows)


def _stored(members, ood_sets, score):
    """Returns those OOD datasets of which all networks, given by their records, have stored a score."""
    names = set(ood_sets).intersection(*(record["ood"] for record in members))
    if needs_network(score):
        names.intersection_update(*(record["scores"].get(score, ()) for record in members))
    return names


def _open(record, names, store):
    paths = (store.outputs_path(record["trial"], name) for name in (record["evaluation"], *names))
    id_outputs, *others = map(read_outputs, paths)
    return Detector(id_outputs, dict(zip(names, others, strict=True)))


def _weights(detector, resamples):
    """Returns per OOD set the pair of weights of all samples once, then of the resamples."""
    rng = np.random.default_rng(0)

    def draw(size):
        return np.concatenate([np.ones((1, size)), resample(rng, resamples, size)])

    id_weights = draw(len(detector.id_outputs["labels"]))
    return {name: (id_weights, draw(len(outputs["labels"]))) for name, outputs in detector.ood_outputs.items()}


def _rows(drawn):
    """Yields the rows of one score, correction and OOD set: `drawn` holds, per (gamma, seed), AUROCs by resample."""
    for gamma in sorted({gamma for gamma, _ in drawn}, reverse=True):
        seeds = [seed for other, seed in drawn if other == gamma]
        values = pd.Series([drawn[gamma, seed][0] for seed in seeds])
        row = {"gamma": gamma, "n": len(seeds), "auroc": values.mean(), "std": values.std()}
        paired = [drawn[gamma, seed] - drawn[1.0, seed] for seed in seeds if (1.0, seed) in drawn]
        row |= {"pairs": len(paired), **dict.fromkeys(("difference", "low", "high"), np.nan)}
        if gamma < 1 and paired:
            value, *resampled = np.mean(paired, axis=0)
            interval = interval_of(value, np.array(resampled))
            row |= {"difference": interval.value, "low": interval.low, "high": interval.high}
        yield row


def corrections_tables(frame, classes):
    """Returns the corrections table over all OOD sets, and one for each of them; all of one frame.

    Args:
        frame: What `measure_corrections` returns.
        classes: `{dataset: number of classes}`.

    Returns:
        `[(Table, frame of its numbers)]`.
    """
    tables = []
    for name in frame["ood"].unique():
        part = frame[frame["ood"] == name]
        rows = []
        for (dataset, model, score), group in part.groupby(["dataset", "model", "score"], sort=False):
            for gamma, cell in group.groupby("gamma", sort=False):
                by_correction = {row.correction: row for row in cell.itertuples()}
                alpha = epsilon_from_gamma(gamma, classes[dataset])
                cells = [text for correction in CORRECTIONS for text in _cells(by_correction.get(correction))]
                rows.append((display_name(dataset), model, score, f"{alpha:.4g}", str(cell["n"].iloc[0]), *cells))
        against = "the mean over all OOD sets" if name == MEAN else display_name(name)
        pairs = [heading for correction in CORRECTIONS for heading in (correction, "difference")]
        header = ("dataset", "model", "score", "α", "n", *pairs)
        table = Table(
            "corrections" if name == MEAN else f"corrections_{name}",
            f"AUROC in % against {against}: networks as trained with smoothing α, with logits divided by a fitted "
            "temperature, and with normalised logits; n: networks (seeds).",
            header,
            tuple(rows),
            (
                "difference: to the network without smoothing, same seeds, score and correction, with a paired 95 % "
                "bootstrap confidence interval for new images, not new seeds "
                f"({RESAMPLES:,} resamples of the images, at fixed temperatures). "
                "Temperatures: each half of the evaluation images is judged by the one that was fitted to the other "
                "half. Scores that need more than logits are shown as trained, but for ODIN.",
                *reversed_note(part["auroc"]),
            ),
        )
        tables.append((table, part))
    return tables


def _cells(row):
    """Returns the texts of an AUROC and its difference."""
    if row is None:
        return "–", "–"
    deviation = "" if np.isnan(row.std) else f" ± {100 * row.std:.2f}"
    value = f"{100 * row.auroc:.2f}{deviation}"
    if np.isnan(row.difference):
        return value, "–"
    pairs = f" (n={row.pairs})" if row.pairs != row.n else ""
    return value, f"{100 * row.difference:+.2f} [{100 * row.low:+.2f}, {100 * row.high:+.2f}]{pairs}"
