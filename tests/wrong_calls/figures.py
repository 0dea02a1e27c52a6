"""Wrong calls of the figures."""

import numpy as np

from kls import plots

from .calibration import BINS, CONVENTION, SAYS, SHORTER
from .kinds import flag, labels, mapping, no_array, no_mapping, probabilities, whole
from .kinds import scores as wrong_scores
from .samples import ID_SCORES, LABELS, OOD_SCORES, PROBABILITIES
from .table import Call

PAIR = (LABELS, PROBABILITIES)
NO_PAIRS = [None, 5, "abc", object(), (), (LABELS,), (LABELS, PROBABILITIES, 1), (LABELS, SHORTER), (LABELS, None)]
WRONG_PAIRS = [*NO_PAIRS, ([0, 1, 2, 10**9], PROBABILITIES), (LABELS, -np.array(PROBABILITIES))]
SAYS_PAIR = ("y_true", "probabilities", "logits")
UNFAMILIAR = {"noise": OOD_SCORES}
ERRORS = {"0": [0.04, 0.05], "1": [0.001, 0.002]}
WRONG_ERRORS = [
    *mapping(),
    *({"0": wrong} for wrong in (None, 5, "abc", object(), ["a"], [-1.0], [np.nan], [np.inf], [1j], [[1.0]])),
]
WRONG_UNFAMILIAR = [5, "9", ["9"], [["0"]], None, object()]
ROWS = np.linspace(0, 1, 2 * 8 * 8).reshape(2, 8, 8, 1)
CURVES = {"alpha": [0, 0.1], "accuracy": ([95.1, 95.3], [0.1, 0.2]), "ece": ([3.9, 2.1], [0, 0])}
CURVES |= {"auroc": {"mnist": ([98.0, 91.0], [0, 0])}}
POINTS = {"beaver": [[0.1, 0.2]], "otter": [[0.3, 0.2]], "dolphin": [[0.9, 1.0]]}
LOSSES = ([[0.9, 1.2], [0.2, 0.7]], [0.95, 0.8], [70.0, 87.5])


def panels(name, valid, *wrong, says=(), **others):
    """The row of a figure of nested dictionaries."""
    make = getattr(plots, name)
    argument = make.__code__.co_varnames[0]
    return Call(
        f"kls.plots.{name}", make, {argument: valid}, {argument: [*mapping(), *wrong]} | others, says={argument: says}
    )


CALLS = [
    Call(
        "kls.plots.reliability_diagram",
        plots.reliability_diagram,
        {"y_true": LABELS, "probabilities": PROBABILITIES},
        {
            "y_true": labels(LABELS, 3),
            "probabilities": [*probabilities(PROBABILITIES), SHORTER],
            "bins": BINS,
            "from_logits": flag(),
            **CONVENTION,
        },
        says=SAYS,
    ),
    panels(
        "reliability_diagrams",
        {"vanilla": PAIR},
        *({"vanilla": wrong} for wrong in WRONG_PAIRS),
        says=SAYS_PAIR,
        bins=BINS,
        from_logits=flag(),
        **CONVENTION,
    ),
    Call(
        "kls.plots.risk_coverage_curves",
        plots.risk_coverage_curves,
        {"y_true": LABELS, "probabilities": {"model": PROBABILITIES}},
        {
            "y_true": labels(LABELS, 3),
            "probabilities": [None, *no_mapping(), *({"model": wrong} for wrong in probabilities(PROBABILITIES))],
            "from_logits": flag(),
        },
        says=SAYS,
    ),
    Call(
        "kls.plots.score_histograms",
        plots.score_histograms,
        {"familiar": ID_SCORES, "unfamiliar": UNFAMILIAR, "bins": 5},
        {
            "familiar": wrong_scores(ID_SCORES),
            "unfamiliar": [*mapping(), *({"noise": wrong} for wrong in wrong_scores(OOD_SCORES))],
            "bins": BINS,
        },
    ),
    Call(
        "kls.plots.roc_curves",
        plots.roc_curves,
        {"familiar": ID_SCORES, "unfamiliar": UNFAMILIAR},
        {
            "familiar": wrong_scores(ID_SCORES),
            "unfamiliar": [None, *no_mapping(), *({"noise": wrong} for wrong in wrong_scores(OOD_SCORES))],
            "points": [
                *(5, "abc", [1, 2], object()),
                *({"a": wrong} for wrong in (None, 0.5, "ab", (0.5,), (0.5, 2.0), (np.nan, 0.5), (1j, 0.5))),
            ],
        },
        fine={"points": [None, {"a": (0.0, 1)}]},
    ),
    panels(
        "class_confidence",
        {"resnet18": {"vanilla": PAIR}},
        {"resnet18": None},
        *({"resnet18": {"vanilla": wrong}} for wrong in WRONG_PAIRS),
        says=SAYS_PAIR,
        bins=BINS,
        from_logits=flag(),
    ),
    panels(
        "confidence_histograms",
        {"cross-entropy": {"correct": [0.99, 0.95], "wrong": [0.6]}},
        *({"cross-entropy": wrong} for wrong in mapping()),
        *({"cross-entropy": {"wrong": wrong}} for wrong in (None, 5, "abc", object(), ["a"], [np.nan], [np.inf], [1j])),
        bins=BINS,
        threshold=[5, "abc", [0.5], {"absent": 0.5}, {"cross-entropy": "0.5"}, {"cross-entropy": np.nan}],
    ),
    panels(
        "error_by_class",
        ERRORS,
        *WRONG_ERRORS,
        unfamiliar=WRONG_UNFAMILIAR,
    ),
    Call(
        "kls.plots.largest_by_class",
        plots.largest_by_class,
        {"errors": ERRORS, "count": 2},
        {"errors": WRONG_ERRORS, "count": whole(1, 4), "unfamiliar": WRONG_UNFAMILIAR},
    ),
    panels(
        "image_rows",
        {"original": ROWS, "denoised": ROWS**2},
        *(
            {"original": wrong}
            for wrong in (*no_array(ROWS), ROWS[0], ROWS[..., 0], (255 * ROWS).astype(np.uint8), 1.0)
        ),
        {"original": ROWS, "denoised": ROWS[:1]},
        {"original": np.full(ROWS.shape, np.nan)},
        columns=[5, ["a"], ["a", "b", "c"], object()],
        gap=[0, 2, -1, 0.5, "1", [1], object(), True],
        titles=[5, ["a", "b"], [], object()],
    ),
    panels(
        "accuracy_against_gamma",
        {"digits": {"measured (n=1)": ([0.9, 1.0], [97.8, 97.5], [0, 0])}},
        *({"digits": wrong} for wrong in (None, 5, "abc", {}, {"measured": None}, {"measured": ([0.9], [97.8])})),
        {"digits": {"measured": ([0.9, 1.0], [97.8], [0, 0])}},
        {"digits": {"measured": (["a", "b"], ["c", "d"], [0, 0])}},
        {"digits": {name: ([0.9], [97.8], [0]) for name in "abc"}},
    ),
    panels(
        "smoothing_curves",
        {"cifar10": CURVES},
        *({"cifar10": wrong} for wrong in (None, 5, "abc", {}, {"alpha": [0]})),
        *({"cifar10": CURVES | wrong} for wrong in ({"alpha": [0]}, {"ece": ([1.0], [0])}, {"accuracy": None})),
        *({"cifar10": CURVES | {"auroc": wrong}} for wrong in (None, {"mnist": None}, {"mnist": ([1.0], [0.0])})),
    ),
    panels(
        "teacher_and_student",
        {"cifar10": {"mnist": (84.28, 90.95)}},
        *({"cifar10": wrong} for wrong in (None, 5, "abc", {}, {"mnist": None}, {"mnist": 5})),
        *({"cifar10": {"mnist": wrong}} for wrong in ((84.28,), (1.0, 2.0, 3.0), ("a", "b"), (1j, 2.0), (None, 2.0))),
    ),
    panels(
        "accuracy_against_calibration",
        {"cifar100": {"vanilla": {"resnet18": (77.83, 8.0)}}},
        *({"cifar100": wrong} for wrong in (None, 5, "abc", {"vanilla": None}, {"vanilla": 5})),
        *({"cifar100": {"vanilla": {"resnet18": wrong}}} for wrong in (None, 5, (1.0,), (1.0, 2.0, 3.0), ("a", "b"))),
    ),
    panels(
        "class_loss_curves",
        {"vanilla": LOSSES},
        *({"vanilla": wrong} for wrong in (None, 5, "abc", (), LOSSES[:2], (*LOSSES, 1))),
        {"vanilla": (LOSSES[0], [0.95], LOSSES[2])},
        {"vanilla": ([[0.9], [0.2]], [0.95], LOSSES[2])},
        {"vanilla": (*LOSSES[:2], [70.0])},
        {"vanilla": ([["a", "b"], ["c", "d"]], *LOSSES[1:])},
        counts=[None, 5, "ab", [], [0], [-1], [0.5], ["1"], object()],
    ),
    panels(
        "penultimate_projection",
        {"training": {"vanilla": POINTS}, "test": {"vanilla": POINTS}},
        *({"training": wrong} for wrong in (None, 5, "abc", {}, {"vanilla": None}, {"vanilla": 5})),
        *({"training": {"vanilla": {"otter": wrong}}} for wrong in (None, 5, [0.1], [[0.1]], [["a", "b"]], [[1j, 0]])),
        {"training": {"vanilla": POINTS}, "test": {"smoothed": POINTS}},
    ),
]
