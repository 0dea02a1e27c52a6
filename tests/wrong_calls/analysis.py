"""Wrong calls of what looks into a network: class losses, overfitting, uncertainty."""

import keras

from kls.analysis import overfitting, uncertainty

from .evaluation import AUTOENCODER, DATA, NETWORK, NO_CLASSIFIERS
from .kinds import layer_seed, mapping, no_array, number, whole
from .samples import IMAGES
from .table import Call, Made

CALLS = [
    Call(
        "kls.analysis.overfitting.ClassLosses",
        overfitting.ClassLosses,
        {"data": {"train": DATA}, "every": 1},
        {
            "data": [*mapping(), {"train": None}, {"train": 5}, {"train": IMAGES}, {"train": "abc"}],
            "every": whole(1),
            "batch_size": whole(1),
        },
    ),
    Call(
        "kls.analysis.overfitting.OverfittingWeights",
        overfitting.OverfittingWeights,
        {"loss": overfitting.OverfittingCE(3), "train": DATA, "validation": DATA, "window": 2, "every": 1},
        {
            "loss": [
                None,
                5,
                "overfitting_ce",
                object(),
                keras.losses.CategoricalCrossentropy(),
                overfitting.OverfittingCE,
            ],
            "train": [None, 5, "abc", object(), (), IMAGES],
            "validation": [None, 5, "abc", object(), (), IMAGES],
            "window": whole(1),
            "every": [*whole(1), 3],
            "batch_size": whole(1),
        },
        says={"train": ("data",), "validation": ("data",)},
    ),
    Call(
        "kls.analysis.overfitting.overfitting_to_generalization",
        overfitting.overfitting_to_generalization,
        {"train": [[2.0, 2.0], [1.0, 1.5]], "validation": [[2.5, 2.0], [2.0, 1.0]], "window": 1},
        {
            "train": [*no_array([[2.0, 2.0], [1.0, 1.5]]), [2.0, 1.0], [[1.0], [2.0]], 1.0],
            "validation": [*no_array([[2.0, 2.0], [1.0, 1.5]]), [2.0, 1.0], [[1.0], [2.0]], 1.0],
            "window": whole(1),
        },
        fine={"window": [10]},
    ),
    Call(
        "kls.analysis.uncertainty.monte_carlo",
        uncertainty.monte_carlo,
        {"model": NETWORK, "rate": 0.2, "passes": 2},
        {
            "model": [*NO_CLASSIFIERS, AUTOENCODER],
            "rate": number("[0, 1)"),
            "passes": whole(1),
            "seed": layer_seed(),
        },
        fine={"seed": [None, 3]},
    ),
    Call(
        "kls.analysis.uncertainty.MonteCarloHead",
        uncertainty.MonteCarloHead,
        {"layer": Made("a Dense", lambda: keras.layers.Dense(3)), "rate": 0.2, "passes": 2},
        {
            "layer": [None, 5, "dense", object(), [], keras.layers.Dense, Made("a Flatten", keras.layers.Flatten)],
            "rate": number("[0, 1)"),
            "passes": whole(1),
            "seed": layer_seed(),
        },
        fine={"seed": [None, 3]},
    ),
]
