"""Wrong calls of what makes a guarded model, and of that."""

from functools import cache

from kls import calibration, guarding
from kls.ood import scores

from .evaluation import DATA, NAMED_SCORES, NETWORK, NO_CLASSIFIERS, SAYS_DATA, SCALINGS, WRONG_DATA, WRONG_IMAGES
from .kinds import choice, no_mapping, number, path, seed, whole
from .samples import IMAGES, classifier
from .table import Call


@cache
def guarded():
    return guarding.guard(classifier(), DATA, score="msp")


def of_noise(wrong):
    """Wrong sets of OOD data of a guard, which has no groups."""
    named = [{"noise": values} for values in wrong if not isinstance(values, dict)]
    return [*no_mapping(), *named, {"a": {"b": IMAGES}}]


CALLS = [
    Call(
        "kls.guard",
        guarding.guard,
        {"model": NETWORK, "calibration": DATA, "score": "react", "training_data": DATA, "ood": {"noise": 1 - IMAGES}},
        {
            "model": NO_CLASSIFIERS,
            "calibration": WRONG_DATA,
            "scaling": [
                *SCALINGS,
                "isotonic",
                "histogram",
                calibration.TemperatureScaling,
                calibration.IsotonicScaling(),
            ],
            "score": [None, *NAMED_SCORES, "odin", scores.Reconstruction()],
            "tpr": number("(0, 1]"),
            "training_data": WRONG_IMAGES,
            "ood": of_noise(WRONG_IMAGES),
            "bank": whole(1),
            "batch_size": whole(1),
            "seed": seed(),
        },
        fine={"scaling": [None, calibration.VectorScaling()], "score": ["gen", scores.Energy(2.0)], "ood": [None, {}]},
        says={"calibration": SAYS_DATA, "training_data": SAYS_DATA, "ood": SAYS_DATA},
    ),
    Call(
        "kls.Guarded.check",
        lambda **arguments: guarded().check(**arguments),
        {"x": IMAGES},
        {"x": WRONG_IMAGES, "batch_size": whole(1)},
        says={"x": SAYS_DATA},
    ),
    Call(
        "kls.Guarded.export",
        lambda **arguments: guarded().export(**arguments, verbose=False),
        {"filepath": "guarded", "format": "tf_saved_model"},
        {"filepath": path(), "format": choice("tf_saved_model", "onnx", "litert")},
    ),
]
