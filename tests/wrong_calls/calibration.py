"""Wrong calls of what judges and mends confidences, on arrays alone."""

import numpy as np

from kls import calibration, ood
from kls.analysis import classwise, projection
from kls.ood.scores import normalize_logits

from .kinds import choice, flag, function, labels, logits, matrix, number, probabilities, scores, seed, weights, whole
from .labels import half
from .samples import ID_SCORES, LABELS, LOGITS, OOD_SCORES, PROBABILITIES
from .table import Call

BINS = whole(1, 10_000)
ONE_HOT = np.eye(3)[LABELS]
SHORTER = np.asarray(PROBABILITIES)[:-1]
SAYS = {"probabilities": ("y_true", "logits"), "logits": ("y_true",)}
WEIGHTS = [1.0, 1.0, 2.0, 0.5]
KERNEL = [[0.0, 3.0, 0.0, 1.0], [0.0, 0.0, 3.0, 1.0]]
FEATURES = [[0.5, 1.0], [2.0, 0.0], [1.0, 1.0]]
CLASSES = [
    *(None, 5, "abc", {}, object(), (), (0, 1), (0, 1, 1), (0, 1, 4), (-1, 0, 1), (0, 1, 10**9)),
    *((0, 1, 0.5), (0, 1, "2"), (0, 1, None), (0, 1, np.nan), (0, 1, 2, 3)),
]


def metric(name, **wrong):
    """The rows of a metric of labels and class probabilities."""
    make = getattr(calibration, name)
    whole_numbers = name == "debiased_calibration_error"
    yield Call(
        f"kls.calibration.{name}",
        make,
        {"y_true": LABELS, "probabilities": PROBABILITIES},
        {
            "y_true": labels(LABELS, 3),
            "probabilities": [*probabilities(PROBABILITIES), SHORTER],
            "from_logits": flag(),
        }
        | ({} if name == "risk_coverage" else {"sample_weight": [*weights(WEIGHTS), *[WEIGHTS] * whole_numbers]})
        | wrong,
        fine={
            "y_true": [np.array(LABELS, np.uint8), np.float32(LABELS), np.array(LABELS)[:, None], ONE_HOT],
            "probabilities": half(PROBABILITIES),
        },
        says=SAYS,
    )


def of_scores(name, **wrong):
    """The rows of a metric of scores."""
    pair = (np.ones(4), np.ones(3))
    wrong_weights = [5, "abc", object(), {}, np.ones(4), (np.ones(4),), (*pair, pair[0]), (np.ones(3), np.ones(4))]
    weighted = {"sample_weight": [*wrong_weights, (-pair[0], pair[1]), (pair[0].astype(str), pair[1])]}
    yield Call(
        f"kls.ood.{name}",
        getattr(ood, name),
        {"id_scores": ID_SCORES, "ood_scores": OOD_SCORES} | ({"threshold": 1.0} if "threshold" in wrong else {}),
        {"id_scores": scores(ID_SCORES), "ood_scores": scores(OOD_SCORES)}
        | ({} if name in ("roc", "detection_threshold") else weighted)
        | wrong,
        fine={"id_scores": [[np.inf, 1.0], [1, 2], np.float16(ID_SCORES)]}
        | ({} if name in ("roc", "detection_threshold") else {"sample_weight": [None, pair]}),
    )


def fit(make):
    return lambda logits, y_true: make().fit(logits, y_true)


def transform(make):
    return make().fit(LOGITS, LABELS).transform


BINNING = {"bins": BINS, "binning": choice("width", "mass")}
CONVENTION = {"convention": choice("guo", "netcal", "torchmetrics")}
INTERVAL = {"metric": function(), "n": whole(1), "level": number("(0, 1)"), "seed": seed()}

CALLS = [
    *metric("accuracy"),
    *metric("area_under_risk_coverage"),
    *metric("brier_score"),
    *metric("brier_top"),
    *metric("classwise_calibration_error", **BINNING, **CONVENTION, threshold=number("[0, 1)")),
    *metric("debiased_calibration_error", **BINNING),
    *metric("expected_calibration_error", **BINNING, **CONVENTION, norm=choice(1, 2, "max")),
    *metric("maximum_calibration_error", **BINNING, **CONVENTION),
    *metric("negative_log_likelihood"),
    *metric("risk_coverage"),
    *metric("summarize", bins=BINS, **CONVENTION),
    *metric("uncertainty_calibration_error", bins=BINS),
    Call(
        "kls.calibration.interval",
        calibration.interval,
        {"metric": calibration.accuracy, "y_true": LABELS, "probabilities": PROBABILITIES, "n": 5, "level": 0.9},
        {**INTERVAL, "y_true": labels(LABELS, 3), "probabilities": [*probabilities(PROBABILITIES), SHORTER]},
        says=SAYS,
    ),
    Call(
        "kls.ood.interval",
        ood.interval,
        {"metric": ood.auroc, "id_scores": ID_SCORES, "ood_scores": OOD_SCORES, "n": 5, "level": 0.9},
        {**INTERVAL, "id_scores": scores(ID_SCORES), "ood_scores": scores(OOD_SCORES)},
    ),
    *of_scores("auroc"),
    *of_scores("aupr_in"),
    *of_scores("aupr_out"),
    *of_scores("fpr_at_tpr", tpr=number("(0, 1]")),
    *of_scores("detection_threshold"),
    *of_scores("detection_accuracy", threshold=[None, "0.5", b"1", {}, object(), True, 1j, np.nan, [1.0, 2.0]]),
    *of_scores("roc"),
    Call(
        "kls.calibration.MatrixScaling",
        calibration.MatrixScaling,
        {"off_diagonal": 0.01, "intercept": 0.01},
        {"off_diagonal": number("[0, inf)"), "intercept": number("[0, inf)")},
    ),
    Call(
        "kls.calibration.DirichletScaling",
        calibration.DirichletScaling,
        {"off_diagonal": 0.01, "intercept": 0.01},
        {"off_diagonal": number("[0, inf)"), "intercept": number("[0, inf)")},
    ),
    Call("kls.calibration.HistogramBinning", calibration.HistogramBinning, {"bins": 5}, {"bins": BINS}),
    Call(
        "kls.calibration.TemperatureLayer",
        calibration.TemperatureLayer,
        {"temperature": 2.0},
        {"temperature": number("(0, inf)"), "from_logits": flag()},
    ),
    *(
        row
        for name, make in calibration.SCALERS.items()
        for row in (
            Call(
                f"kls.calibration.{make.__name__}.fit",
                fit(make),
                {"logits": LOGITS, "y_true": LABELS},
                {"logits": [*logits(LOGITS, finite=True), SHORTER], "y_true": labels(LABELS, 3)},
                fine={"logits": half(LOGITS), "y_true": [np.array(LABELS)[:, None], ONE_HOT]},
                says=SAYS,
            ),
            Call(
                f"kls.calibration.{make.__name__}.transform",
                transform(make),
                {"logits": LOGITS},
                {"logits": [*logits(LOGITS, finite=True), np.ones((2, 4))]},
                fine={"logits": half(LOGITS)},
            ),
        )
    ),
    Call(
        "kls.calibration.TemperatureScaling.as_layer",
        lambda from_logits: calibration.TemperatureScaling().fit(LOGITS, LABELS).as_layer(from_logits),
        {"from_logits": True},
        {"from_logits": flag()},
    ),
    Call(
        "kls.calibration.cross_fitted",
        calibration.cross_fitted,
        {
            "scaler": calibration.TemperatureScaling(),
            "logits": np.array(LOGITS),
            "y_true": np.array(LABELS),
            "seed": 0,
        },
        {
            "scaler": [None, 5, "temperature", object(), calibration.TemperatureScaling],
            "logits": [*logits(LOGITS, finite=True), SHORTER],
            "y_true": labels(LABELS, 3),
            "seed": seed(),
        },
        fine={"logits": [LOGITS], "y_true": [LABELS]},
        says=SAYS,
    ),
    Call(
        "kls.analysis.classwise.class_scores",
        classwise.class_scores,
        {"y_true": LABELS, "probabilities": PROBABILITIES},
        {
            "y_true": labels(LABELS, 3),
            "probabilities": [*probabilities(PROBABILITIES), SHORTER],
            "from_logits": flag(),
        },
        fine={"y_true": [ONE_HOT], "probabilities": half(PROBABILITIES)},
        says=SAYS,
    ),
    Call(
        "kls.analysis.projection.template_plane",
        projection.template_plane,
        {"kernel": KERNEL, "classes": (0, 1, 2)},
        {"kernel": matrix(KERNEL), "classes": CLASSES},
        fine={"classes": [[0, 1, 3], np.array([2, 1, 0])], "kernel": half(KERNEL)},
        says={"kernel": ("classes",)},
    ),
    Call(
        "kls.analysis.projection.project_onto_templates",
        projection.project_onto_templates,
        {"features": FEATURES, "kernel": KERNEL, "classes": (0, 1, 2)},
        {
            "features": [*(wrong for wrong in matrix(FEATURES) if getattr(wrong, "size", 1)), [[1.0, 2.0, 3.0]]],
            "kernel": matrix(KERNEL),
            "classes": CLASSES,
        },
        fine={"features": [np.zeros((0, 2))]},
        says={"kernel": ("classes", "features")},
    ),
    Call(
        "kls.ood.scores.normalize_logits",
        normalize_logits,
        {"logits": LOGITS, "p": 2},
        {"logits": logits(LOGITS, finite=True), "p": number("[1, inf]")},
        fine={"p": [1, np.inf, 1.5]},
    ),
]
