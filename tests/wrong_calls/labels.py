"""Wrong calls of what softens labels: targets, losses, distillation and layers."""

import numpy as np

from kls import layers, losses, metrics, targets
from kls.analysis import overfitting
from kls.distillation import contrastive, distiller
from kls.losses import teachers

from .kinds import (
    choice,
    flag,
    labels,
    layer_seed,
    model,
    no_array,
    number,
    optional,
    path,
    probabilities,
    weights,
    whole,
)
from .samples import IMAGES, LABELS, PROBABILITIES, TEACHERS, classifier, directory, two_headed
from .table import Call, Made

ONE_HOT = np.eye(3)[LABELS]
PACKED = np.concatenate([ONE_HOT, TEACHERS], axis=1)
DTYPES = ["int32", "float16", "nonsense", 5, object()]
REDUCTIONS = ["nonsense", "", 5, True, object()]
SAMPLES = {"y_true": ("y_pred",), "y_pred": ("y_true",)}
FEATURES = np.linspace(-1, 1, 8).reshape(4, 2)


def half(values):
    """The same numbers in the formats of half precision."""
    import ml_dtypes

    return [np.asarray(values, dtype) for dtype in (np.float16, ml_dtypes.bfloat16)]


def negative(values):
    values = np.array(values)
    values[0] = [1.5, -0.5, 0.0]
    return values


def no_predictions(values):
    """What is no class scores; NaN and infinity are numbers that a training can end in."""
    values = np.asarray(values)
    return [*no_array(values), values[0], values[:, :1], values[None], values[:-1]]


def loss(make, valid, y_true, y_pred=PROBABILITIES, **wrong):
    """The rows of a loss: how it is made, and how it is computed."""
    packed = y_true is PACKED
    labels_wrong = [*no_array(PACKED), PACKED[:-1], PACKED[:, :4], PACKED[None], LABELS] if packed else None
    least = -1 if make is losses.OutlierExposure else 0
    labels_wrong = labels_wrong or labels(LABELS, 3, distributions=make is not losses.OutlierExposure, least=least)
    others = {"dtype": DTYPES} if make in (losses.SmoothedCE, losses.OutlierExposure, losses.FocalStd) else {}
    yield Call(
        f"{make.__module__}.{make.__name__}",
        make,
        valid,
        wrong | others | {"from_logits": flag(), "reduction": REDUCTIONS},
        fine={"reduction": [None, "sum"], "name": [None, "mine"], "dtype": [None, "float64"]},
    )
    yield Call(
        f"{make.__module__}.{make.__name__}(...)",
        make(**valid),
        {"y_true": y_true, "y_pred": y_pred},
        {"y_true": labels_wrong, "y_pred": [*no_predictions(y_pred), negative(y_pred)]},
        fine={"y_pred": [np.asarray(y_pred), *half(y_pred)]}
        | ({} if packed else {"y_true": [np.array(LABELS, np.uint8), np.array(LABELS)[:, None], np.float32(LABELS)]}),
        says=SAMPLES,
        answers=("nan", "warning"),
    )


def metric(make, **wrong):
    metric = make()

    def update(y_true, y_pred, sample_weight=None):
        metric.reset_state()
        metric.update_state(y_true, y_pred, sample_weight)
        return metric.result()

    name = f"kls.metrics.{make.__name__}"
    from_logits = {} if make is metrics.IDAccuracy else {"from_logits": flag()}
    yield Call(name, make, {}, {"dtype": DTYPES} | from_logits | wrong, fine={"dtype": [None, "float64"]})
    takes_outliers = make is metrics.IDAccuracy
    wrong_scores = no_predictions(PROBABILITIES) if takes_outliers else probabilities(PROBABILITIES)
    yield Call(
        f"{name}.update_state",
        update,
        {"y_true": LABELS, "y_pred": PROBABILITIES},
        {
            "y_true": labels(LABELS, 3, distributions=True, least=-1 if takes_outliers else 0),
            "y_pred": [*wrong_scores, np.asarray(PROBABILITIES)[:-1]],
            "sample_weight": weights([1.0, 1.0, 2.0, 0.5])[:-1],  # a batch may be of padding alone
        },
        fine={
            "y_true": [np.array(LABELS, np.uint8), np.array(LABELS)[:, None], ONE_HOT, np.float32(LABELS)],
            "y_pred": half(PROBABILITIES),
            "sample_weight": [None, [1, 0, 2, 1], np.zeros(4)],
        },
        says=SAMPLES,
        answers=("nan", "warning"),
    )


def call_contrast(student_features, teacher_features, rows):
    return contrastive.ContrastiveDistillation([0, 0, 1, 1], dimension=2, negatives=1, seed=0)(
        np.asarray(student_features), np.asarray(teacher_features), np.asarray(rows)
    )


def compile_distiller(loss=None):
    distiller.Distiller(classifier(), classifier(side=4, activation="linear")).compile("sgd", loss)


def others_model():
    return [
        Made("a model of other images", lambda: classifier(side=6)),
        Made("one of 4 classes", lambda: classifier(4)),
    ]


NETWORK = Made("a classifier", classifier)
TWO_HEADS = Made("a model of two outputs", two_headed)
DISTRIBUTIONS = [[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]]

CALLS = [
    Call(
        "kls.targets.gamma_from_epsilon",
        targets.gamma_from_epsilon,
        {"epsilon": 0.1, "classes": 10},
        {"epsilon": number("[0, 1)"), "classes": whole(2)},
    ),
    Call(
        "kls.targets.epsilon_from_gamma",
        targets.epsilon_from_gamma,
        {"gamma": 0.9, "classes": 10},
        {"gamma": number("(0.1, 1]"), "classes": whole(2)},
    ),
    Call(
        "kls.targets.smoothing_weights",
        targets.smoothing_weights,
        {"gamma": 0.9, "classes": 10},
        {"gamma": number("(0.1, 1]"), "classes": whole(2)},
    ),
    Call(
        "kls.targets.smooth",
        targets.smooth,
        {"labels": LABELS, "classes": 3, "gamma": 0.9},
        {
            "labels": [*no_array(LABELS)[:-1], np.array([0.5, 1, 2, 1])],
            "classes": whole(2),
            "gamma": number("(0.3333333333333333, 1]"),
        },
        fine={"labels": [np.array(LABELS, np.uint8), np.array([LABELS]), np.zeros(0, int)]},
    ),
    Call(
        "kls.targets.mix",
        targets.mix,
        {"first": DISTRIBUTIONS, "second": DISTRIBUTIONS, "weight": 0.25},
        {
            "first": [*no_array(DISTRIBUTIONS), [0.5, 0.5, 0.0]],
            "second": [*no_array(DISTRIBUTIONS), [[1.0, 0.0, 0.0]]],
            "weight": number("[0, 1]"),
        },
        fine={"weight": [0, 1, np.float32([0, 0.5, 1])]},
        says={"first": ("second",), "second": ("first",)},
    ),
    Call(
        "kls.pack_teacher",
        teachers.pack_teacher,
        {"y_true": LABELS, "teacher_logits": TEACHERS},
        {
            "y_true": labels(LABELS, 3, distributions=True),
            "teacher_logits": [*no_array(TEACHERS), TEACHERS[0], TEACHERS[:-1], [[TEACHERS]]],
        },
        fine={
            "y_true": [np.array(LABELS)[:, None], ONE_HOT, np.array(LABELS, np.uint8)],
            "teacher_logits": [np.stack([TEACHERS, TEACHERS], axis=1), *half(TEACHERS)],
        },
        says={"teacher_logits": ("y_true",)},
    ),
    Call(
        "kls.losses.teachers.unpack_teacher",
        teachers.unpack_teacher,
        {"packed": PACKED, "y_pred": np.array(PROBABILITIES)},
        {
            "packed": [PACKED[:, :3], PACKED[:, :4], PACKED[:-1], PACKED[None]],
            "y_pred": [np.ones((4, 4)), np.array(PROBABILITIES)[:-1]],
        },
        says={"packed": ("y_true",), "y_pred": ("y_true",)},
    ),
    *loss(losses.SmoothedCE, {"gamma": 0.9}, LABELS, gamma=number("(0, 1]")),
    *loss(
        losses.OutlierExposure,
        {"gamma": 1.0, "weight": 0.5},
        [0, -1, 2, 1],
        gamma=number("(0, 1]"),
        weight=number("[0, inf)"),
    ),
    *loss(
        losses.KnowledgeDistillation,
        {"alpha": 0.1, "temperature": 3.0},
        PACKED,
        alpha=number("[0, 1]"),
        temperature=number("(0, inf)"),
        scale_by_temperature=flag(),
        reduce_teachers=choice("mean", "sum"),
    ),
    *loss(
        losses.WeightedSoftLabels,
        {"alpha": 2.25, "temperature": 4.0},
        PACKED,
        alpha=number("[0, inf)"),
        temperature=number("(0, inf)"),
    ),
    *loss(
        losses.FocalStd,
        {"k": 1.0, "std_weight": 1.0},
        LABELS,
        k=number("[0, inf)"),
        std_weight=number("[0, inf)"),
        as_printed=flag(),
    ),
    *loss(
        overfitting.OverfittingCE,
        {"classes": 3, "mode": "label", "alpha": 0.1},
        LABELS,
        classes=whole(2),
        mode=choice("loss", "label"),
        alpha=number("[0, 1]"),
    ),
    *metric(
        metrics.ExpectedCalibrationError,
        bins=whole(1, 10_000),
        norm=choice(1, 2, "max"),
    ),
    *metric(metrics.MaximumCalibrationError, bins=whole(1, 10_000)),
    *metric(metrics.UncertaintyCalibrationError, bins=whole(1, 10_000)),
    *metric(metrics.NegativeLogLikelihood),
    *metric(metrics.BrierScore),
    *metric(metrics.IDAccuracy),
    Call(
        "kls.analysis.overfitting.ClassWeights",
        overfitting.ClassWeights,
        {"classes": 3},
        {"classes": whole(2)},
    ),
    Call(
        "kls.distillation.contrastive.ContrastiveDistillation",
        contrastive.ContrastiveDistillation,
        {"labels": [0, 0, 1, 1], "dimension": 2, "negatives": 1, "temperature": 0.07, "momentum": 0.5, "weight": 0.8},
        {
            "labels": [
                *no_array([0, 0, 1, 1]),
                1,
                np.eye(2, dtype=int),
                *([0, 0, 1, value] for value in (-1, 0.5, np.nan, 2**31)),
                np.uint64([0, 0, 1, 2**63]),
                [0, 0, 0],
            ],
            "dimension": whole(1),
            "negatives": whole(1, 2),
            "temperature": number("[0.02, inf)"),
            "momentum": number("[0, 1)"),
            "weight": number("[0, inf)"),
            "seed": layer_seed(),
        },
        fine={"labels": [np.uint8([0, 0, 1, 1]), [0, 0, 1, 10**9]], "seed": [None, 3]},
    ),
    Call(
        "kls.distillation.contrastive.ContrastiveDistillation(...)",
        call_contrast,
        {"student_features": FEATURES, "teacher_features": FEATURES, "rows": [0, 1, 2, 3]},
        {
            "student_features": [FEATURES.astype(str), FEATURES.astype(object), FEATURES[0], FEATURES[None]],
            "teacher_features": [FEATURES.astype(str), FEATURES.astype(object), FEATURES[0], FEATURES[None]],
            "rows": [["a", "b", "c", "d"], [-1, 1, 2, 3], [4, 1, 2, 3], [10**9, 1, 2, 3], [0.5, 1, 2, 3], [0, 1, 2]],
        },
    ),
    Call(
        "kls.distillation.distiller.LabelPlusTeacher",
        distiller.LabelPlusTeacher,
        {"alpha": 1.0, "temperature": 4.0, "from_logits": False},
        {"alpha": number("[0, inf)"), "temperature": number("(0, inf)"), "from_logits": flag()},
    ),
    Call(
        "kls.distillation.distiller.Distiller",
        distiller.Distiller,
        {"student": NETWORK, "teachers": NETWORK, "mode": "kd", "alpha": 0.1, "temperature": 3.0},
        {
            "student": [*model(), TWO_HEADS, *others_model()],
            "teachers": [
                *optional(model()),
                TWO_HEADS,
                *others_model(),
                [None],
                Made("[a classifier, 5]", lambda: [classifier(), 5]),
            ],
            "mode": choice("kd", "ensemble", "multi", "wsl", "crd"),
            "alpha": optional(number("[0, 1]")),
            "temperature": optional(number("(0, inf)")),
            "from_logits": flag(),
            "scale_by_temperature": flag(),
            "contrast": [5, "crd", [], object(), True],
        },
        fine={"teachers": [None, Made("a list", lambda: [classifier()])], "alpha": [None], "temperature": [None]},
        says={"student": ("teachers",), "teachers": ("student",), "mode": ("mode='crd'",), "contrast": ("mode='crd'",)},
    ),
    Call(
        "kls.distillation.distiller.Distiller.compile",
        compile_distiller,
        {},
        {"loss": ["mse", 5, object(), losses.SmoothedCE()]},
    ),
    Call(
        "kls.distillation.distiller.teacher_logits",
        distiller.teacher_logits,
        {"teacher": NETWORK, "data": IMAGES, "path": Made("a path", lambda: directory() / "logits.npy")},
        {
            "teacher": [*model(), [None], TWO_HEADS],
            "data": [None, 5, "abc", {}, object(), (), IMAGES[:0], IMAGES[:, :2], IMAGES.astype(str), IMAGES[0]],
            "path": path(),
            "batch_size": whole(1),
        },
        fine={
            "teacher": [Made("a list", lambda: [classifier()])],
            "path": [Made("a str", lambda: f"{directory()}/t.npy")],
        },
        says={"teacher": ("model",)},
    ),
    Call(
        "kls.layers.Dropout",
        layers.Dropout,
        {"rate": 0.2},
        {"rate": number("[0, 1]"), "seed": layer_seed()},
        fine={"seed": [None, 3]},
    ),
    Call(
        "kls.layers.MonteCarloDropout",
        layers.MonteCarloDropout,
        {"rate": 0.2},
        {"rate": number("[0, 1]"), "seed": layer_seed()},
        fine={"seed": [None, 3]},
    ),
]
