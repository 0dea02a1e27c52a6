"""OOD scores: larger = more in-distribution, for all of them.

One protocol. `score(model, x)` gives an array of shape `(N,)`; scores of logits alone also take logits in place of
the model, `score(logits)`. Scores that have to know the training data are fitted first,
`score.fit(model, training_data)`, which returns the score itself. `x` and `training_data` are whatever
`kls.utils.data.batches_of` takes: arrays, a pair of arrays, a `PyDataset`, a `tf.data.Dataset`.

`kls.ood.scores.msp` and the other lower-case names give a new score with its authors' defaults at each access;
`kls.ood.scores.MSP` and the other classes take settings. Features are the input of the model's last layer
(`kls.utils.feature_extractor.Network`); `features="name"` takes those of another layer where the score allows it.

`Reconstruction` needs an autoencoder and has no lower-case name.
"""

from kls.ood.scores.base import Score
from kls.ood.scores.features import ASH, KNN, Mahalanobis, ReAct, ViM
from kls.ood.scores.images import ODIN, Reconstruction
from kls.ood.scores.logits import GEN, MSP, Energy, Entropy, KLMatching, MaxLogit, normalize_logits
from kls.utils.arrays import shown

__all__ = [
    "ASH",
    "GEN",
    "KNN",
    "MSP",
    "ODIN",
    "RESTORABLE",
    "SCORES",
    "Energy",
    "Entropy",
    "KLMatching",
    "Mahalanobis",
    "MaxLogit",
    "ReAct",
    "Reconstruction",
    "Score",
    "ViM",
    "get",
    "normalize_logits",
]

SCORES = {
    "msp": MSP,
    "max_logit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "gen": GEN,
    "odin": ODIN,
    "mahalanobis": Mahalanobis,
    "relative_mahalanobis": lambda: Mahalanobis(relative=True),
    "knn": KNN,
    "vim": ViM,
    "react": ReAct,
    "ash": ASH,
    "kl_matching": KLMatching,
}
RESTORABLE = {type(score).__name__: type(score) for score in [*(make() for make in SCORES.values()), Reconstruction()]}


def get(score):
    """Returns a score by its name, with its authors' defaults; a score is returned as it is.

    Raises:
        ValueError: If there is none of that name.

    Example:

    >>> get("energy")
    Energy(temperature=1.0)
    """
    if isinstance(score, Score):
        return score
    if not isinstance(score, str) or score not in SCORES:
        raise ValueError(f"`score` must be one of {', '.join(SCORES)}, or a `Score`. Received: {shown(score)}")
    return SCORES[score]()


def __getattr__(name):
    if name in SCORES:
        return SCORES[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
