"""How networks are trained: the nine configurations and what stands beside them."""

from dataclasses import dataclass

DROPOUT = 0.2
GAMMA = 0.9
ONE, ALL = "one", "all"
HUMAN = "human"


@dataclass(frozen=True)
class Configuration:
    """How a network is trained.

    Attributes:
        teachers: Whether it learns from `ONE` teacher, from `ALL` of the ensemble, or from none.
        distillation: Mode of `kls.Distiller`.
        weight: Weight of the teachers' term.
        temperature: Temperature of that term.
        offline: Whether the teachers saw the images once, before training.
        mixes: Whether images are mixed.
        mixing: How, if not as the setting says.
        dropout: Rate of the network's own Monte Carlo dropout.
        teacher_dropout: Rate of its teachers'.
        smoothed: Whether labels are smoothed.
        overfitting: What the classes' overfitting ratios weigh, the `loss` or the `label`.
    """

    teachers: str | None = None
    distillation: str = "kd"
    weight: float = 1.0
    temperature: float = 1.0
    offline: bool = False
    mixes: bool = False
    mixing: str | None = None
    dropout: float | None = None
    teacher_dropout: float | None = None
    smoothed: bool = False
    overfitting: str | None = None


METHODS = {
    "vanilla": Configuration(),
    "ls": Configuration(smoothed=True),
    "kd": Configuration(ONE, "kd", weight=0.1, temperature=3.0),
    "off-ldl": Configuration(ONE, "ensemble", offline=True),
    "off-en-ldl": Configuration(ALL, "ensemble", offline=True),
    "off-mt-ldl": Configuration(ALL, "multi", offline=True),
    "on-ldl": Configuration(ONE, "ensemble", mixes=True),
    "on-en-ldl": Configuration(ALL, "ensemble", mixes=True),
    "on-mt-ldl": Configuration(ALL, "multi", mixes=True),
    "crd": Configuration(ONE, "crd", weight=0.0, temperature=4.0),
    "crd+kd": Configuration(ONE, "crd", weight=1.0, temperature=4.0),
    "wsl": Configuration(ONE, "wsl", weight=2.25, temperature=4.0),
    "ogr": Configuration(overfitting="loss"),
    "on-ldl-ogr": Configuration(overfitting="label"),
    "mcdo": Configuration(dropout=DROPOUT),
    "on-ldl-mcdo-t": Configuration(ONE, "ensemble", teacher_dropout=DROPOUT),
    "on-ldl-mcdo-st": Configuration(ONE, "ensemble", teacher_dropout=DROPOUT, dropout=DROPOUT),
    "on-ldl-mcdo-t-cutmix": Configuration(ONE, "ensemble", mixes=True, mixing="cutmix", teacher_dropout=DROPOUT),
}
NINE = tuple(METHODS)[:9]
MIXED = {"vanilla-": Configuration(mixes=True), "on-ldl-": METHODS["on-ldl"]}
TABLE_1 = tuple(f"{family}{name}" for family in MIXED for name in ("mixup", "cutmix", "ricap"))
