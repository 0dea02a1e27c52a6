"""What a guarded model keeps and stops, with confidence intervals."""

from dataclasses import dataclass, field

from kls.utils.proportions import METHOD, proportion_interval

LEVEL = 0.95


@dataclass(frozen=True)
class Report:
    """What a guard costs and brings, counted on the data that `kls.guard` was given; `str` says it in sentences.

    The threshold is chosen on the calibration images, as a rank among their scores. The lower end of their interval is
    exact for new images all the same, since the share of new images above a rank is beta distributed. The scaling is
    fitted to the same images, but the score is that of the model as trained and does not see it.

    Attributes:
        score: The OOD score, as its `repr`.
        scaling: The scaler, as its `repr`; `None` without one.
        tpr: Share of the calibration images to keep at least.
        threshold: The least score of what counts as in-distribution.
        kept_of: `(kept, n)` of the calibration images.
        stopped_of: `{name: (stopped, n)}` of the OOD datasets.
    """

    score: str
    scaling: str | None
    tpr: float
    threshold: float
    kept_of: tuple
    stopped_of: dict = field(default_factory=dict)

    @property
    def kept(self):
        """Share of in-distribution images that are kept, a `kls.calibration.Interval`."""
        return proportion_interval(*self.kept_of, LEVEL)

    @property
    def stopped(self):
        """Share of each OOD dataset that is stopped, `{name: kls.calibration.Interval}`."""
        return {name: proportion_interval(*counts, LEVEL) for name, counts in self.stopped_of.items()}

    def __str__(self):
        lines = [
            f"In-distribution is what scores at least {self.threshold:.6g} by {self.score}.",
            f"Keeps {_shown(self.kept, self.kept_of)} of in-distribution images.",
        ]
        if self.stopped_of:
            stopped = [f"{name} {_shown(found, self.stopped_of[name])}" for name, found in self.stopped.items()]
            lines.append(f"Of the OOD datasets given it stops: {', '.join(stopped)}. Other OOD data may pass.")
        else:
            lines.append("No OOD datasets were given: what it stops is not known.")
        if self.scaling is not None:
            lines.append(
                f"Probabilities are scaled by {self.scaling}, fitted to the calibration images: calibration errors "
                "taken on these flatter. The score is that of the model as trained."
            )
        lines.append(f"Brackets: {100 * LEVEL:.0f} % confidence intervals for new images ({METHOD}).")
        return "\n".join(lines)


def _shown(interval, counts):
    value, low, high = (100 * share for share in (interval.value, interval.low, interval.high))
    return f"{value:.1f} % [{low:.1f}, {high:.1f}] (n = {counts[1]:,})"
