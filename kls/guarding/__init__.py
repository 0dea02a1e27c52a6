"""A trained classifier made ready to deploy: calibrated probabilities, and a word for what it does not know."""

from kls.guarding.drift import Drift
from kls.guarding.guard import guard
from kls.guarding.model import Guarded
from kls.guarding.report import Report

__all__ = ["Drift", "Guarded", "Report", "guard"]
