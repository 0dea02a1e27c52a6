"""A plan: the trials of a study in the order in which they run."""

from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.runner.trial import Trial


class PlanError(Exception):
    """A study that cannot be run as asked; the message says why, and nothing has been trained."""


@dataclass(frozen=True)
class Plan:
    """The trials of a study, each once, those that others start from before these.

    Attributes:
        study: Name of the study.
        trials: The trials.
        soft_labels: `{fingerprint: label distributions of the training images}`, of those that trials name.
    """

    study: str
    trials: tuple[Trial, ...]
    soft_labels: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "trials", tuple({trial.id: trial for trial in self.trials}.values()))
        known = set()
        for trial in self.trials:
            absent = set(trial.parents) - known
            if absent:
                raise PlanError(f"{trial.label} starts from trials that do not come before it: {', '.join(absent)}.")
            known.add(trial.id)

    def parents(self, trial):
        """Returns the trials that another starts from, in its order: a list."""
        return [self._by_id[parent] for parent in trial.parents]

    def soft_labels_of(self, trial):
        """Returns the label distributions that a trial is trained on in place of labels, or `None`."""
        return self.soft_labels[trial.soft_labels] if trial.soft_labels else None

    @cached_property
    def _by_id(self):
        return {trial.id: trial for trial in self.trials}


def scale_schedule(schedule, epochs, protocol_epochs):
    """Returns the milestones of a protocol of `protocol_epochs` for a run of `epochs`, in proportion.

    The first epoch always has the first rate.
    """
    return tuple((max(1, round(start * epochs / protocol_epochs)), factor) for start, factor in schedule)
