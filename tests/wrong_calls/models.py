"""Wrong calls of the functions that build models."""

import numpy as np

from kls import layers, models

from .kinds import choice, flag, function, no_array, number, optional, text, whole
from .samples import classifier
from .table import Call, Made

INPUT_SHAPES = [
    *(None, 8, "8x8", b"x", (), (8, 8), (8, 8, 1, 1), {}, object()),
    *((7, 8, 1), (8, 8, 2), (8, 8, 4), (-8, 8, 1), (8.0, 8, 1), ("8", 8, 1), (None, 8, 1), (True, 8, 1), (8, 8, True)),
]
ACTIVATIONS = ["nonsense", 5, object(), [], True]
SHARED = {
    "input_shape": INPUT_SHAPES,
    "classes": whole(2),
    "classifier_activation": ACTIVATIONS,
    "l2": number("[0, inf)"),
    "synchronized": flag(),
}
VALID = {"input_shape": (8, 8, 1), "classes": 2, "classifier_activation": "softmax", "l2": 1e-4, "synchronized": False}
DROPOUT = number("[0, 1)")
MEAN = np.full((8, 8, 1), 0.5, np.float32)


def family(make, wrong, **valid):
    """The row of a function that builds a model."""
    return Call(
        f"kls.models.{make.__name__}",
        make,
        valid | VALID,
        SHARED | wrong,
        says={"classifier_activation": ("activation",)},
    )


CALLS = [
    Call(
        "kls.layers.Pixels",
        layers.Pixels,
        {"mean": MEAN},
        {"mean": [*optional(no_array(MEAN)), 0.5, MEAN[0], MEAN[None], MEAN + 1, -MEAN, MEAN * np.nan]},
        fine={"mean": [None, MEAN.astype(np.float64), MEAN.tolist()]},
    ),
    family(models.ResNetV1, {"depth": [*whole(1), 9, 10, 2]}, depth=8),
    family(models.ResNetV2, {"depth": [*whole(1), 12, 2]}, depth=11),
    family(
        models.WideResNet,
        {"depth": [*whole(1), 11, 4], "width": whole(1), "dropout": DROPOUT},
        depth=10,
        width=1,
        dropout=0.3,
    ),
    family(
        models.ResNeXt,
        {"depth": [*whole(1), 12, 2], "cardinality": whole(1), "width": whole(1)},
        depth=11,
        cardinality=2,
        width=2,
    ),
    family(
        models.DenseNet,
        {"depth": [*whole(1), 8, 4], "growth_rate": whole(1), "dropout": DROPOUT},
        depth=7,
        growth_rate=2,
        dropout=0.0,
    ),
    family(models.DenoisingClassifier, {"input_shape": [*INPUT_SHAPES, (10, 8, 1)]}),
    *(
        Call(f"kls.models.{make.__name__}", make, {}, {"depth": [*whole(1), unknown], **early})
        for make, unknown, early in (
            (models.ResNet, 19, {"input_shape": INPUT_SHAPES, "classes": whole(2)}),
            (models.DLA, 35, {"input_shape": INPUT_SHAPES, "classes": whole(2)}),
            (
                models.DenseNetBC,
                120,
                {"input_shape": INPUT_SHAPES, "classes": whole(2), "growth_rate": whole(1), "dropout": DROPOUT},
            ),
        )
    ),
    Call(
        "kls.models.build",
        models.build,
        {"name": "resnet8v1", "input_shape": (8, 8, 1), "classes": 2},
        {"name": [*choice("resnet8v1"), "resnet9v1"], "input_shape": INPUT_SHAPES, "classes": whole(2)},
        fine={"input_shape": [[8, 8, 3]], "classifier_activation": [None]},
    ),
    Call(
        "kls.models.register",
        models.register,
        {"name": Made("a new name", lambda: f"wrong-calls-{len(models.names())}"), "function": classifier},
        {"name": [*text(), "", "resnet8v1"], "function": function()},
    ),
    Call(
        "kls.models.classifier_of",
        models.classifier_of,
        {"model": Made("a classifier", classifier)},
        {"model": [None, 5, "resnet8v1", object(), models.ResNet]},
    ),
]
