"""A network looked into: its classes, its overfitting, its features, its uncertainty."""

from kls.analysis import classwise, overfitting, projection, uncertainty

__all__ = ["classwise", "overfitting", "projection", "uncertainty"]
