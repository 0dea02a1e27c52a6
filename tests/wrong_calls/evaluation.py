"""Wrong calls of what takes a model and data: evaluation, scores, thresholds, callbacks."""

import json
from functools import cache

import keras
import numpy as np

from kls import calibration, callbacks, evaluation, ood
from kls.ood import scores
from kls.utils import data as feeding

from .kinds import (
    choice,
    data,
    flag,
    logits,
    model,
    no_mapping,
    number,
    optional,
    path,
    seed,
    text,
    whole,
)
from .kinds import scores as wrong_scores
from .samples import (
    ID_SCORES,
    IMAGES,
    LABELS_ARRAY,
    LOGITS,
    OOD_SCORES,
    PROBABILITIES,
    autoencoder,
    batches,
    classifier,
    compiled,
    directory,
    file,
    fitted_knn,
    two_headed,
)
from .table import Call, Made

NETWORK = Made("a classifier", classifier)
TWO_HEADS = Made("a model of two outputs", two_headed)
AUTOENCODER = Made("an autoencoder", autoencoder)
SIGMOID = Made("a model that ends in a sigmoid", lambda: classifier(activation="sigmoid"))
NO_CLASSIFIERS = [*model(), TWO_HEADS, SIGMOID]
DATA = (IMAGES, LABELS_ARRAY)
WRONG_DATA = data(IMAGES, classes=3)
WRONG_IMAGES = data(IMAGES)
SAYS_DATA = ("data", "images", "labels", "y_true", "logits", "x")
FEATURES = [5, 0.5, b"x", [], ["hidden"], {}, object(), True]
SCALINGS = optional(choice("temperature", "vector", "matrix", "dirichlet", "isotonic", "histogram"))
NAMED_SCORES = [5, b"x", "nonsense", ["nonsense"], [5], [None], {}, object(), True, scores.Energy]
BINS = whole(1, 10_000)
THRESHOLD = ood.Threshold(score=None).fit(ID_SCORES, OOD_SCORES)


def groups(wrong):
    """Wrong sets of data by name."""
    named = [{"noise": values} for values in wrong if not isinstance(values, dict)]
    return [*no_mapping(), *named, {"a": {"b": IMAGES}, "c": IMAGES}, {"mean": IMAGES}]


@cache
def evaluated():
    return evaluation.evaluate(classifier(), DATA, ood={"noise": 1 - IMAGES})


def method(name):
    return lambda **arguments: getattr(evaluated(), name)(**arguments)


def saved():
    """A file of a threshold; what is wrong in one is told by its name, which the tests of thresholds see to."""
    record = {
        "kls": "0",
        "score": "Energy",
        "settings": {"temperature": 1.0},
        "learned": None,
        "value": 1.0,
        "chosen": {"rule": "tpr 0.95"},
        "images": None,
    }
    return file("threshold.json", lambda path: path.write_text(json.dumps(record)))


def restore(model):
    saved = callbacks.FullStateCheckpoint(directory())
    saved.set_model(compiled())
    saved.on_epoch_end(0)
    callbacks.FullStateCheckpoint(saved.path.parent).restore(model)


def settings(make, wrong, **valid):
    """The row of how a score is made."""
    return Call(f"kls.ood.scores.{make.__name__}", make, valid, wrong)


def scored(name, make, model, wrong_models):
    """The row of how a score is computed of images."""
    return Call(
        f"kls.ood.scores.{name}(model, x)",
        lambda model, x, batch_size=128: make()(model, x, batch_size),
        {"model": model, "x": IMAGES},
        {"model": wrong_models, "x": WRONG_IMAGES[1:], "batch_size": whole(1)},
        says={"model": ("model_or_logits", "logits", "output", "x"), "x": SAYS_DATA},
    )


def fitted(name, make, wrong):
    """The row of how a score is fitted."""
    return Call(
        f"kls.ood.scores.{name}.fit",
        lambda model, training_data, batch_size=128: make().fit(model, training_data, batch_size),
        {"model": NETWORK, "training_data": DATA},
        {"model": NO_CLASSIFIERS, "training_data": wrong, "batch_size": whole(1)},
        says={"training_data": SAYS_DATA},
    )


CALLS = [
    Call(
        "kls.evaluate",
        evaluation.evaluate,
        {"model": NETWORK, "data": DATA, "ood": {"noise": 1 - IMAGES}},
        {
            "model": NO_CLASSIFIERS,
            "data": WRONG_DATA,
            "ood": groups(WRONG_IMAGES),
            "scores": [None, *NAMED_SCORES],
            "scaling": [*SCALINGS, calibration.TemperatureScaling],
            "features": ["nonsense", *FEATURES],
            "bins": BINS,
            "convention": choice("guo", "netcal", "torchmetrics"),
            "batch_size": whole(1),
        },
        fine={
            "ood": [None, {}, {"near": {"a": IMAGES, "b": IMAGES}}],
            "scores": ["msp", ["msp", scores.Energy(2.0)]],
        },
        says={"data": SAYS_DATA, "ood": SAYS_DATA, "scores": ("score",)},
    ),
    Call(
        "kls.evaluate(training_data, scaling_data)",
        evaluation.evaluate,
        {
            "model": NETWORK,
            "data": DATA,
            "ood": {"noise": 1 - IMAGES},
            "scores": [scores.KNN(k=1)],
            "training_data": DATA,
            "scaling": "temperature",
            "scaling_data": DATA,
            "resamples": 2,
        },
        {
            "training_data": WRONG_IMAGES,
            "scaling_data": optional(WRONG_DATA),
            "resamples": whole(0),
            "seed": seed(),
        },
        fine={"scaling_data": [None], "resamples": [0]},
        says={"training_data": SAYS_DATA, "scaling_data": SAYS_DATA},
    ),
    Call(
        "kls.evaluation.Evaluation.to_markdown",
        method("to_markdown"),
        {"metrics": ("auroc",)},
        {"metrics": [None, 5, "auroc", ["nonsense"], [5], [None], object()]},
    ),
    Call(
        "kls.evaluation.Evaluation.value",
        method("value"),
        {"metric": "ece", "scaling": "none"},
        {"metric": choice("ece", "nll"), "scaling": choice("none", "temperature")},
    ),
    Call("kls.evaluation.Evaluation.plot_reliability", method("plot_reliability"), {}, {"scaling": choice("none")}),
    Call(
        "kls.evaluation.Evaluation.plot_confidences", method("plot_confidences"), {}, {"score": optional(choice("msp"))}
    ),
    Call(
        "kls.evaluation.Evaluation.save_report",
        method("save_report"),
        {"path": "report.html"},
        {
            "path": [*path(), "report", "report.txt"],
            "images": [5, "abc", [1], {}, object(), np.zeros((2, 8, 8)), np.zeros((len(IMAGES), 8, 8, 2), np.uint8)],
            "class_names": [5, "abc", [], ["a"], [1, 2, 3], {}, object()],
        },
        fine={
            "images": [None, np.zeros((len(IMAGES), 8, 8), np.uint8), np.ones((len(IMAGES), 8, 8, 3))],
            "class_names": [None, ["a", "b", "c"], ("a", "b", "c")],
        },
    ),
    Call("kls.evaluation.Evaluation.plot_roc", method("plot_roc"), {}, {"score": optional(choice("msp"))}),
    Call(
        "kls.utils.data.feed",
        feeding.feed,
        {"batches": Made("batches", batches), "endless": False},
        {"batches": [None, 5, "abc", IMAGES, DATA, [], {}, object()], "endless": flag()},
    ),
    *(
        Call(
            f"kls.utils.data.{name}",
            lambda data, batch_size=128, make=make: list(make(data, batch_size)),
            {"data": DATA},
            {
                "data": [*WRONG_IMAGES[:9], [[1]]],
                "batch_size": whole(1),
            },
            fine={"data": [IMAGES, Made("batches", batches)]},
        )
        for name, make in (("batches_of", feeding.batches_of), ("full_batches", feeding.full_batches))
    ),
    Call(
        "kls.callbacks.FullStateCheckpoint",
        callbacks.FullStateCheckpoint,
        {"directory": Made("a directory", directory)},
        {"directory": path(), "callbacks": [None, 5, "abc", [5], [None], object(), callbacks.FullStateCheckpoint]},
        fine={"directory": ["new"], "callbacks": [[], [keras.callbacks.EarlyStopping()]]},
    ),
    Call(
        "kls.callbacks.FullStateCheckpoint.restore",
        restore,
        {"model": Made("a compiled classifier", compiled)},
        {"model": [None, 5, "abc", object(), NETWORK]},
    ),
    Call(
        "kls.callbacks.CalibrationCallback",
        callbacks.CalibrationCallback,
        {"data": DATA, "every": 1, "bins": 15},
        {
            "data": [None, 5, "abc", {}, object(), (), (IMAGES, None), (IMAGES, LABELS_ARRAY[:-1])],
            "every": whole(1),
            "bins": BINS,
            "log_dir": optional(path()),
            "batch_size": whole(1),
        },
        fine={"log_dir": [None, "logs"]},
    ),
    Call(
        "kls.callbacks.OODCallback",
        callbacks.OODCallback,
        {"ood": {"noise": IMAGES}, "score": "energy", "every": 1},
        {
            "ood": [None, {}, *groups([None, 5, "abc", object(), (), IMAGES[:0]])[:-1]],  # "mean" is no other's name
            "score": [None, 5, "nonsense", b"x", ["msp"], {}, object(), scores.Energy, "knn"],
            "every": whole(1),
            "id_data": [5, "abc", {}, object(), (), IMAGES[:0]],
            "training_data": [5, "abc", {}, object(), (), IMAGES[:0]],
            "batch_size": whole(1),
        },
        fine={"id_data": [None, IMAGES], "score": [scores.MSP()], "training_data": [None, DATA]},
        says={"score": ("training_data",), "ood": SAYS_DATA, "id_data": SAYS_DATA, "training_data": SAYS_DATA},
    ),
    settings(scores.Energy, {"temperature": number("(0, inf)")}, temperature=1.0),
    settings(scores.GEN, {"gamma": number("(0, 1)"), "top": whole(1)}, gamma=0.1, top=100),
    settings(scores.ODIN, {"temperature": number("(0, inf)"), "epsilon": number("[0, inf)")}, epsilon=0.002),
    settings(scores.Reconstruction, {"output": [*text(), ""]}, output="image"),
    settings(scores.Mahalanobis, {"relative": flag(), "features": FEATURES}, relative=False),
    settings(scores.KNN, {"k": whole(1), "features": FEATURES}, k=50),
    settings(scores.ViM, {"dimension": optional(whole(1))}, dimension=2),
    settings(scores.ReAct, {"percentile": number("[0, 100]")}, percentile=90),
    settings(scores.ASH, {"percentile": number("[0, 100]")}, percentile=90),
    Call(
        "kls.ood.scores.get",
        scores.get,
        {"score": "msp"},
        {"score": [*choice("msp"), scores.Energy]},
        fine={"score": [scores.MSP()]},
    ),
    *(
        Call(
            f"kls.ood.scores.{make.__name__}(logits)",
            make(),
            {"model_or_logits": LOGITS},
            {"model_or_logits": [*logits(LOGITS), PROBABILITIES, NETWORK]},
            fine={"model_or_logits": [np.float16(LOGITS)]},
            says={"model_or_logits": ("logits", "x", "model")},
        )
        for make in (scores.MSP, scores.MaxLogit, scores.Energy, scores.Entropy, scores.GEN)
    ),
    scored("MSP", scores.MSP, NETWORK, NO_CLASSIFIERS),
    scored("ODIN", scores.ODIN, NETWORK, NO_CLASSIFIERS),
    scored("ASH", scores.ASH, NETWORK, NO_CLASSIFIERS),
    scored("KNN", fitted_knn, NETWORK, NO_CLASSIFIERS),
    scored("Reconstruction", scores.Reconstruction, AUTOENCODER, [*model(), TWO_HEADS, NETWORK]),
    fitted("Mahalanobis", scores.Mahalanobis, WRONG_DATA),
    fitted("KNN", lambda: scores.KNN(k=1), WRONG_IMAGES),
    fitted("ViM", scores.ViM, WRONG_IMAGES),
    fitted("ReAct", scores.ReAct, WRONG_IMAGES),
    fitted("KLMatching", scores.KLMatching, WRONG_IMAGES),
    Call(
        "kls.ood.Threshold",
        ood.Threshold,
        {"score": "msp", "model": NETWORK},
        {
            "score": [5, "nonsense", b"x", ["msp"], {}, object(), scores.Energy, "knn", True],
            "model": optional(model()),
        },
        fine={"model": [None], "score": [scores.Energy()]},
    ),
    Call(
        "kls.ood.Threshold.fit",
        lambda **arguments: ood.Threshold(score=None).fit(**arguments),
        {"id_data": ID_SCORES, "ood_data": OOD_SCORES, "tpr": 0.95},
        {
            "id_data": wrong_scores(ID_SCORES),
            "ood_data": optional(wrong_scores(OOD_SCORES)),
            "tpr": optional(number("(0, 1]")),
            "tnr": [*optional(number("(0, 1]")), 0.5],
            "batch_size": whole(1),
        },
        fine={"ood_data": [None], "tpr": [None, 1]},
        says={"tnr": ("tpr",)},
    ),
    Call(
        "kls.ood.Threshold.fit(images)",
        lambda **arguments: ood.Threshold("msp", classifier()).fit(**arguments),
        {"id_data": IMAGES, "ood_data": 1 - IMAGES},
        {"id_data": WRONG_IMAGES, "ood_data": WRONG_IMAGES, "batch_size": whole(1)},
        says={"id_data": SAYS_DATA, "ood_data": SAYS_DATA},
    ),
    Call("kls.ood.Threshold.predict", THRESHOLD.predict, {"x": ID_SCORES}, {"x": wrong_scores(ID_SCORES)}),
    Call("kls.ood.Threshold.save", THRESHOLD.save, {"path": "threshold.json"}, {"path": path()}),
    Call(
        "kls.ood.Threshold.load",
        ood.Threshold.load,
        {"path": Made("a file", saved), "model": None},
        {
            "path": path(),
            "model": optional(model()),
            "score": [5, "nonsense", "msp", b"x", [], object(), scores.Energy(2.0), scores.Energy],
        },
        fine={"score": ["energy", None], "model": [NETWORK]},
    ),
]
