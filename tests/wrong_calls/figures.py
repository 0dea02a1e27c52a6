"""Wrong calls of the figures."""

import numpy as np

from kls import plots

from .calibration import BINS, CONVENTION, SAYS, SHORTER
from .kinds import flag, labels, mapping, no_mapping, probabilities
from .kinds import scores as wrong_scores
from .samples import ID_SCORES, LABELS, OOD_SCORES, PROBABILITIES
from .table import Call

PAIR = (LABELS, PROBABILITIES)
NO_PAIRS = [None, 5, "abc", object(), (), (LABELS,), (LABELS, PROBABILITIES, 1), (LABELS, SHORTER), (LABELS, None)]
WRONG_PAIRS = [*NO_PAIRS, ([0, 1, 2, 10**9], PROBABILITIES), (LABELS, -np.array(PROBABILITIES))]
SAYS_PAIR = ("y_true", "probabilities", "logits")
OOD = {"noise": OOD_SCORES}

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
    Call(
        "kls.plots.reliability_diagrams",
        plots.reliability_diagrams,
        {"named": {"vanilla": PAIR}},
        {
            "named": [*mapping(), *({"vanilla": wrong} for wrong in WRONG_PAIRS)],
            "bins": BINS,
            "from_logits": flag(),
            **CONVENTION,
        },
        says={"named": SAYS_PAIR},
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
        {"id_scores": ID_SCORES, "ood_scores": OOD, "bins": 5},
        {
            "id_scores": wrong_scores(ID_SCORES),
            "ood_scores": [*mapping(), *({"noise": wrong} for wrong in wrong_scores(OOD_SCORES))],
            "bins": BINS,
        },
    ),
    Call(
        "kls.plots.roc_curves",
        plots.roc_curves,
        {"id_scores": ID_SCORES, "ood_scores": OOD},
        {
            "id_scores": wrong_scores(ID_SCORES),
            "ood_scores": [None, *no_mapping(), *({"noise": wrong} for wrong in wrong_scores(OOD_SCORES))],
            "points": [
                *(5, "abc", [1, 2], object()),
                *({"a": wrong} for wrong in (None, 0.5, "ab", (0.5,), (0.5, 2.0), (np.nan, 0.5), (1j, 0.5))),
            ],
        },
        fine={"points": [None, {"a": (0.0, 1)}]},
    ),
]
