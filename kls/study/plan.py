"""A plan: the trials of a study in the order in which they run."""

from dataclasses import dataclass, replace
from functools import cached_property

from kls.study.methods.base import OF_THE_TRIAL
from kls.study.trial import HEAD, Trial

EPOCHS, LEARNING_RATE = 20, 1e-3  # where a study does not say, and of the head that a fine-tuned network starts with
OF_FEATURES = {"fine_tune": HEAD, "shift": 0.0, "flip": False}  # of images as they are
HEAD_PHASE = {
    **OF_FEATURES,
    **{"epochs": EPOCHS, "optimizer": "adam", "learning_rate": LEARNING_RATE, "schedule": "cosine", "compile": None},
}


class PlanError(ValueError):
    """A study that cannot be run as asked; the message says why, and nothing has been trained."""


@dataclass(frozen=True)
class Plan:
    """The trials of a study, each once, those that others start from before these.

    Attributes:
        study: Name of the study.
        trials: The trials.
        asked: Ids of those that were asked for; the others are what these start from. `None` for all.
    """

    study: str
    trials: tuple[Trial, ...]
    asked: frozenset | None = None

    def __post_init__(self):
        object.__setattr__(self, "trials", tuple({trial.id: trial for trial in self.trials}.values()))
        known = set()
        for trial in self.trials:
            absent = set(trial.starts_from) - known
            if absent:
                raise PlanError(f"{trial.label} starts from trials that do not come before it: {', '.join(absent)}.")
            known.add(trial.id)

    def parents(self, trial):
        """Returns the trials that another's method starts from, in its order: a tuple."""
        return tuple(self._by_id[parent] for parent in trial.parents)

    def head(self, trial):
        """Returns the trial whose trained head another starts with, or `None`."""
        return trial.head and self._by_id[trial.head]

    @property
    def last_phases(self):
        """The trials without those that train a head for another alone, which goes on with it and the backbone."""
        first_phases = {trial.head for trial in self.trials} - (self.asked or set())
        return tuple(trial for trial in self.trials if trial.id not in first_phases)

    def starts_from(self, trial):
        """Returns all trials that have to be finished before another begins: a tuple."""
        return tuple(self._by_id[other] for other in trial.starts_from)

    @cached_property
    def _by_id(self):
        return {trial.id: trial for trial in self.trials}


def with_parents(trial, others=None):
    """Returns a trial as its method has it, after the trials that it starts from and what these start from.

    Args:
        trial: A `Trial` as the study describes it; what its method changes, and its parents, are filled in.
        others: `{(name of its dataset, name): dataset}` of the further datasets that methods read.

    Returns:
        List of `Trial`s, the last of them the one asked for.
    """
    method = trial.method
    head = with_parents(_head_phase(trial), others) if _begins_with_a_head(trial) else []
    chains = [with_parents(parent, others) for parent in method.parents(trial)]
    changes = {name: getattr(method, name) for name in OF_THE_TRIAL if getattr(method, name) is not None}
    if "epochs" in changes and "schedule" not in changes and trial.schedule != "cosine":
        changes["schedule"] = scale_schedule(trial.schedule, method.epochs, trial.epochs)
    own = replace(
        trial,
        **changes,
        parents=tuple(chain[-1].id for chain in chains),
        head=head[-1].id if head else None,
        others=tuple((name, others[trial.dataset, name].fingerprint) for name in method.datasets),
    )
    return [*(parent for chain in (head, *chains) for parent in chain), own]


def _begins_with_a_head(trial):
    """Whether a trial of a pretrained network trains its backbone too, from a trained head on."""
    return trial.fine_tune not in (None, HEAD) and trial.method.starts_anew


def _head_phase(trial):
    """Returns the trial of that head: without what its method changes of the trial, and of the images."""
    plain = replace(trial.method, mixing=None, **dict.fromkeys(OF_THE_TRIAL))
    return replace(trial, method=plain, **HEAD_PHASE)


def scale_schedule(schedule, epochs, protocol_epochs):
    """Returns the milestones of a protocol of `protocol_epochs` for a run of `epochs`, in proportion.

    The first epoch always has the first rate.
    """
    return tuple((max(1, round(start * epochs / protocol_epochs)), factor) for start, factor in schedule)
