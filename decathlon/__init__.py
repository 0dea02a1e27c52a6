"""Image datasets: prepared once, served as seeded batches. Knows nothing of `kls`.

Batches are imported on first use, since they need Keras and the rest does not.
"""

from decathlon.augmentation import Augmentation, Noise
from decathlon.catalog import CATALOG, Entry
from decathlon.mixing import RICAP, CutMix, CutOut, KerasLayer, MixUp, mixing_named
from decathlon.preparation import prepare
from decathlon.selection import hold_out
from decathlon.store import Dataset, conform, open_dataset, open_like
from decathlon.store import open_dataset as open

__all__ = [
    "CATALOG",
    "RICAP",
    "Augmentation",
    "Batches",
    "CutMix",
    "CutOut",
    "Dataset",
    "Denoising",
    "Entry",
    "KerasLayer",
    "MixUp",
    "Noise",
    "WithOutliers",
    "conform",
    "hold_out",
    "mixing_named",
    "open",
    "open_dataset",
    "open_like",
    "prepare",
]


def __getattr__(name):
    if name in ("Batches", "Denoising", "WithOutliers"):
        from decathlon import wrappers

        return getattr(wrappers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
