"""Distillation: a new network learns from the probabilities, or the features, of trained ones."""

from dataclasses import dataclass, field, replace

import numpy as np

import kls
from kls.study.methods.base import Method
from kls.study.methods.cross_entropy import CrossEntropy
from kls.study.methods.registry import parse, register
from kls.utils.arrays import check_choice, check_number, shown

MODES = ("kd", "ensemble", "multi", "wsl", "crd")
NEGATIVES = 16384
TEACHER_COST = 1 / 3  # a teacher's forward pass, against the student's step


@register("distillation")
@dataclass(frozen=True)
class Distillation(Method):
    """`kls.Distiller`: a student of one or more trained networks.

    Attributes:
        teacher: The method by which the teachers are trained.
        models: Names of the teachers' networks, a text or several; the student's own if there is none.
        mode: Mode of `kls.Distiller`: `kd`, `ensemble`, `multi`, `wsl` or `crd`.
        weight: Weight of the teachers' term in the loss.
        temperature: Temperature of that term.
        offline: Whether the teachers see the images once, unvaried, before training.
        teacher_dropout: Rate of the teachers' Monte Carlo dropout.
    """

    teacher: Method = field(default_factory=CrossEntropy)
    models: tuple[str, ...] = ()
    mode: str = "kd"
    weight: float = 1.0
    temperature: float = 1.0
    offline: bool = False
    teacher_dropout: float | None = None

    def __post_init__(self):
        names = self.models.split("+") if isinstance(self.models, str) else self.models
        object.__setattr__(self, "models", tuple(names))
        if isinstance(self.teacher, str):
            object.__setattr__(self, "teacher", parse(self.teacher))
        if not isinstance(self.teacher, Method):
            raise ValueError(f"`teacher` must be a method. Received: teacher={shown(self.teacher)}")
        check_choice(self.mode, "mode", MODES)
        check_number(self.weight, "weight", "[0, inf)")
        check_number(self.temperature, "temperature", "(0, inf)")
        if self.offline and (self.mixing or self.teacher_dropout):
            raise ValueError(
                "`mixing` and `teacher_dropout` must be None with `offline`: teachers see each image once, as it is. "
                f"Received: mixing={self.mixing}, teacher_dropout={self.teacher_dropout}"
            )
        if self.mode == "crd" and self.mixing:
            raise ValueError(f"`mixing` must be None with mode='crd'. Received: mixing={self.mixing}")
        super().__post_init__()

    @property
    def one_replica(self):
        return self.mode == "crd"

    @property
    def needs_features(self):
        return self.mode == "crd"

    @property
    def label(self):
        if self.title:
            return f"{self.title} of {self.teachers}" if self.models else self.title
        return self.describe()

    @property
    def teachers(self):
        """The teachers' networks, for people."""
        return f"{len(self.models)} teachers" if len(self.models) > 1 else "".join(self.models)

    def describe(self):
        mode = "" if self.mode == "kd" else f"{self.mode} "
        return f"{mode}student of {self.teachers} {self.teacher.label}".replace("  ", " ")

    def parents(self, trial):
        taught = replace(trial, method=self.teacher)
        of_its_own = {"architecture": None, "own_preprocessing": False, "compile": None}
        others = {name: replace(taught, model=name, **of_its_own) for name in self.models}
        return list({**others, **{name: taught for name in others if name == trial.model}}.values()) or [taught]

    def cost(self, trial):
        return 1.0 if self.offline else 1 + TEACHER_COST * len(trial.parents)

    def check(self, trial, dataset):
        foreign = set(self.models) - {trial.model}
        if foreign and trial.fine_tune is not None:
            raise ValueError(
                f"`models` must be the student's own, which is fine-tuned. Received: {', '.join(sorted(foreign))}"
            )
        unknown = foreign - set(kls.models.names())
        if unknown:
            raise ValueError(
                f"`models` must be registered names, or the student's own. Received: {', '.join(sorted(unknown))}"
            )

    def batches(self, training):
        if self.offline:
            return training.batches(appended=training.parent_logits())
        if self.mode == "crd":
            return training.batches(appended=np.arange(len(training.images), dtype=np.float32)[:, None])
        return training.batches()

    def model(self, training):
        student = training.network()
        teachers = [] if self.offline else training.parents()
        if self.teacher_dropout:
            teachers = [training.monte_carlo(teacher, self.teacher_dropout) for teacher in teachers]
        contrast = self._contrast(training) if self.mode == "crd" else None
        return kls.Distiller(
            student, teachers or None, self.mode, self.weight, self.temperature, training.from_logits, contrast=contrast
        )

    def _contrast(self, training):
        """Returns the contrastive term: its authors' number of negatives, or as many as there are."""
        most = len(training.labels) - np.bincount(training.labels).max()
        contrast = kls.ContrastiveDistillation(
            training.labels, negatives=int(min(NEGATIVES, most)), seed=training.trial.seed
        )
        training.decay_weights(contrast)
        return contrast

    def loss(self, training):
        return None

    def network(self, model):
        return model.student
