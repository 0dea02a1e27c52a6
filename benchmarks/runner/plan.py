"""A plan: the trials of a study in the order in which they run."""

from dataclasses import dataclass

from benchmarks.runner.trial import Trial


class PlanError(Exception):
    """A study that cannot be run as asked; the message says why, and nothing has been trained."""


@dataclass(frozen=True)
class Plan:
    """The trials of a study, each once, those that others start from before these.

    Attributes:
        study: Name of the study.
        trials: The trials.
    """

    study: str
    trials: tuple[Trial, ...]

    def __post_init__(self):
        object.__setattr__(self, "trials", tuple({trial.id: trial for trial in self.trials}.values()))
        known = set()
        for trial in self.trials:
            absent = set(trial.parents) - known
            if absent:
                raise PlanError(f"{trial.label} starts from trials that do not come before it: {', '.join(absent)}.")
            known.add(trial.id)

    def parent(self, trial):
        """Returns the trial that another starts from, or `None`."""
        return next((other for other in self.trials if other.id in trial.parents), None)


def scale_schedule(schedule, epochs, protocol_epochs):
    """Returns the milestones of a protocol of `protocol_epochs` for a run of `epochs`, in proportion.

    The first epoch always has the first rate.
    """
    return tuple((max(1, round(start * epochs / protocol_epochs)), factor) for start, factor in schedule)
