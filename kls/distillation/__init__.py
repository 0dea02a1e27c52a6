"""Learning from teachers: distillation by their probabilities, on line or from stored logits, and by contrasts."""

from kls.distillation.contrastive import ContrastiveDistillation
from kls.distillation.distiller import Distiller, teacher_logits

__all__ = ["ContrastiveDistillation", "Distiller", "teacher_logits"]
