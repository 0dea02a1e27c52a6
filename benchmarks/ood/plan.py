"""The trials of the study: baseline -> smoothing; baseline -> outlier exposure -> student."""

from dataclasses import dataclass, replace

from tabulate import tabulate

from benchmarks.ood import STUDY
from benchmarks.paper import changed
from kls.study.data import is_prepared, open_sources
from kls.study.methods import CrossEntropy, Distillation, LabelSmoothing, OutlierExposure
from kls.study.plan import Plan, PlanError, with_parents
from kls.study.trial import trial_of
from kls.targets import check_gamma, gamma_from_epsilon

PADDING = 4 / 32
OUTLIER_BATCH, OUTLIER_WEIGHT = 256, 0.5
TEACHER_WEIGHT, TEMPERATURE = 1.0, 1.0


@dataclass(frozen=True)
class Row:
    """How networks of one dataset are trained, and what they are held against.

    Attributes:
        dataset: Its name.
        model: Name of the network, of teachers and of their students.
        other_student: Name of the second network that learns from the first exposed one.
        alphas: Uniform smoothing of the sweep; 0 is the baseline.
        outliers: Sets to expose a network to, each a tuple of datasets; Tables 1 and 2 are about the first.
        ood: OOD datasets.
        epochs: Epochs of all networks but the exposed ones.
        learning_rate: Their first learning rate.
        tuning_epochs: Epochs of the exposed ones.
        tuning_rate: Their first learning rate.
        augmented: Whether images are cropped, mirrored and centred at random.
    """

    dataset: str
    model: str = "wrn40-2"
    other_student: str = "densenet40-12"
    alphas: tuple[float, ...] = (0.001, 0.01, 0.1, 0.3, 0.5, 0.9)
    outliers: tuple[tuple[str, ...], ...] = (("tiny_imagenet",),)
    ood: tuple[str, ...] = ("mnist", "fashion_mnist", "svhn_cropped", "lsun", "tiny_imagenet")
    epochs: int = 150
    learning_rate: float = 0.1
    tuning_epochs: int = 10
    tuning_rate: float = 1e-3
    augmented: bool = True

    def data(self):
        """Returns the names of all datasets that it needs."""
        return list(dict.fromkeys((self.dataset, *(name for names in self.outliers for name in names), *self.ood)))


PAPER = (
    Row(
        "svhn_cropped",
        ood=("mnist", "fashion_mnist", "cifar10", "lsun", "tiny_imagenet"),
        epochs=20,
        learning_rate=0.01,
        tuning_epochs=5,
        tuning_rate=1e-4,
        augmented=False,
    ),
    Row("cifar10", outliers=(("tiny_imagenet",), ("mnist",), ("mnist", "tiny_imagenet"))),
    Row("cifar100_full"),
)
QUICK = Row(
    "digits",
    model="wrn10-1",
    other_student="densenet10-12",
    alphas=(0.1, 0.5),
    outliers=(("photos",), ("noise",), ("noise", "photos")),
    ood=("glyphs", "photos", "noise"),
    epochs=20,
    tuning_epochs=5,
    tuning_rate=1e-2,
)


def make_plan(options):
    """Returns the plan that the command line asks for, and its opened datasets, as `Sources`.

    Raises:
        PlanError: If datasets are not prepared, with the commands that prepare them, or a value does not fit.
    """
    rows = {row.dataset: row for row in _requested(options)}
    ood = {name: row.ood for name, row in rows.items()}
    outliers = {name: sum(row.outliers, ()) for name, row in rows.items()}
    sources = open_sources(rows, options.image_size, options.data_dir, ood, outliers)
    trials = []
    for name, row in rows.items():
        dataset = sources.datasets[name]
        gammas = _gammas(row, dataset, options)
        for seed in range(options.seeds):
            trials += _trials(row, dataset, gammas, sources.others, seed, options)
    return Plan(STUDY, tuple(trials)), sources


def _requested(options):
    """Returns the rows of the preset with what the command line changes."""
    known = {row.dataset: row for row in PAPER}
    if options.preset == "quick":
        names = options.datasets or [QUICK.dataset]
        rows = [replace(QUICK, dataset=name) for name in dict.fromkeys(names)]
    else:
        names = options.datasets or known
        rows = [known.get(name, Row(name)) for name in dict.fromkeys(names)]
    return [changed(_without_itself(row), vars(options)) for row in rows]


def _without_itself(row):
    """Returns a row whose preset does not hold its dataset against itself."""
    return replace(
        row,
        outliers=tuple(names for names in row.outliers if row.dataset not in names),
        ood=tuple(name for name in row.ood if name != row.dataset),
    )


def _gammas(row, dataset, options):
    """Returns the probabilities of the true class in the sweep, largest first, the baseline's 1 among them."""
    try:
        if options.gamma:
            gammas = options.gamma
        else:
            alphas = row.alphas if options.alpha is None else options.alpha
            if not all(0 <= alpha < 1 for alpha in alphas):
                raise PlanError(f"--alpha must be in [0, 1). Received: {' '.join(map(str, alphas))}")
            gammas = [round(gamma_from_epsilon(alpha, dataset.classes), 12) for alpha in alphas]
        for gamma in gammas:
            check_gamma(gamma, dataset.classes)
    except ValueError as error:
        raise PlanError(f"{dataset.name}: {error}") from None
    return sorted({1.0, *gammas}, reverse=True)


def _trials(row, dataset, gammas, others, seed, options):
    """Returns the trials of one dataset and seed, each after what it starts from."""
    unvaried = {"shift": 0.0, "flip": False, "normalisation": "scale"}
    trial = trial_of(
        dataset,
        model=row.model,
        method=CrossEntropy(),
        schedule="cosine",
        epochs=row.epochs,
        batch_size=options.batch_size,
        optimizer="nesterov",
        learning_rate=row.learning_rate,
        seed=seed,
        precision=options.precision,
        **({"shift": PADDING} if row.augmented else unvaried),
    )
    exposed = [
        OutlierExposure(names, OUTLIER_WEIGHT, OUTLIER_BATCH, epochs=row.tuning_epochs, learning_rate=row.tuning_rate)
        for names in row.outliers
    ]
    students = [
        Distillation(teacher, (row.model,), weight=TEACHER_WEIGHT, temperature=TEMPERATURE)
        for teacher in (CrossEntropy(), *exposed)
    ]
    described = [
        *(replace(trial, method=LabelSmoothing(gamma)) for gamma in gammas),
        *(replace(trial, method=student) for student in students),
        *(replace(trial, model=row.other_student, method=student) for student in students[1:2]),
    ]
    return [found for one in described for found in with_parents(one, others)]


def list_rows(data_dir):
    """Returns a table of what the study covers, and which of its data are prepared.

    Args:
        data_dir: The data directory.
    """
    lines = []
    for row in (QUICK, *PAPER):
        names = row.data()
        absent = [name for name in names if not is_prepared(name, data_dir)]
        lines.append(
            (
                *(row.dataset, row.model, str(row.epochs), " ".join(map(str, row.alphas))),
                *(", ".join("+".join(names) for names in row.outliers), " ".join(row.ood)),
                "missing: " + " ".join(absent) if absent else "all",
            )
        )
    header = ("ID", "model", "epochs", "alpha", "outliers", "OOD", "prepared")
    return tabulate(lines, header, "pipe", disable_numparse=True)
