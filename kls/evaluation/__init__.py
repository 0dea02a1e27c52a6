"""One trained model evaluated: `evaluate`, and the `Evaluation` that it returns."""

from kls.evaluation.evaluate import evaluate
from kls.evaluation.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
