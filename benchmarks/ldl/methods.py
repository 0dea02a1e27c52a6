"""How networks are trained: the nine configurations and what stands beside them."""

from dataclasses import dataclass

from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing, Method, OverfittingRatio

DROPOUT = 0.2
GAMMA = 0.9
ONE, ALL = "one", "all"
HUMAN = "human"
VANILLA = CrossEntropy(title="vanilla")


@dataclass(frozen=True)
class Configuration:
    """How a network is trained.

    Attributes:
        method: The method, but for what a study's setting says of it.
        teachers: Whether it learns from `ONE` teacher, from `ALL` of the ensemble, or from none.
        mixes: Whether images are mixed as the setting says.
    """

    method: Method
    teachers: str | None = None
    mixes: bool = False


def taught(by, mode, mixes=False, **parameters):
    """Returns the configuration of a student of vanilla networks."""
    return Configuration(Distillation(VANILLA, mode=mode, **parameters), by, mixes)


METHODS = {
    "vanilla": Configuration(VANILLA),
    "ls": Configuration(LabelSmoothing(GAMMA)),
    "kd": taught(ONE, "kd", weight=0.1, temperature=3.0),
    "off-ldl": taught(ONE, "ensemble", offline=True),
    "off-en-ldl": taught(ALL, "ensemble", offline=True),
    "off-mt-ldl": taught(ALL, "multi", offline=True),
    "on-ldl": taught(ONE, "ensemble", mixes=True),
    "on-en-ldl": taught(ALL, "ensemble", mixes=True),
    "on-mt-ldl": taught(ALL, "multi", mixes=True),
    "crd": taught(ONE, "crd", weight=0.0, temperature=4.0),
    "crd+kd": taught(ONE, "crd", weight=1.0, temperature=4.0),
    "wsl": taught(ONE, "wsl", weight=2.25, temperature=4.0),
    "ogr": Configuration(OverfittingRatio("loss")),
    "on-ldl-ogr": Configuration(OverfittingRatio("label")),
    "mcdo": Configuration(CrossEntropy(dropout=DROPOUT)),
    "on-ldl-mcdo-t": taught(ONE, "ensemble", teacher_dropout=DROPOUT),
    "on-ldl-mcdo-st": taught(ONE, "ensemble", teacher_dropout=DROPOUT, dropout=DROPOUT),
    "on-ldl-mcdo-t-cutmix": taught(ONE, "ensemble", teacher_dropout=DROPOUT, mixing="cutmix"),
}
NINE = tuple(METHODS)[:9]
MIXED = ("vanilla", "on-ldl")
TABLE_1 = tuple(f"{family}-{name}" for family in MIXED for name in ("mixup", "cutmix", "ricap"))
