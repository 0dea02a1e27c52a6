"""The trials of the study: on each dataset one network per gamma and seed."""

from dataclasses import dataclass, replace

from tabulate import tabulate

import decathlon
import decathlon.store
from benchmarks.decathlon import STUDY
from kls.study.data import open_sources
from kls.study.methods import LabelSmoothing
from kls.study.plan import Plan, PlanError, scale_schedule
from kls.study.trial import trial_of
from kls.targets import check_gamma

SCHEDULE = ((80, 1e-1), (120, 1e-2), (160, 1e-3), (180, 0.5e-3))
SCHEDULE_EPOCHS = 200
QUICK_MODEL = "resnet8v1"
QUICK_EPOCHS = 20
SEEDS = 3  # one cannot tell between trainings


@dataclass(frozen=True)
class Row:
    """A dataset and the network trained on it.

    Attributes:
        dataset: Name of the dataset.
        model: Name of the model.
        epochs: How many epochs it is trained for.
        schedule_epochs: How far into the learning rate's schedule these go; the paper stops ImageNet (a) halfway.
    """

    dataset: str
    model: str = "resnet83v2"
    epochs: int = SCHEDULE_EPOCHS
    schedule_epochs: int = SCHEDULE_EPOCHS


QUICK_ROWS = (Row("digits", QUICK_MODEL, 10), Row("glyphs", QUICK_MODEL, QUICK_EPOCHS))  # digits are learned by then
PAPER_ROWS = (
    *map(Row, ("aircraft", "cifar100", "daimlerpedcls", "dtd", "gtsrb", "omniglot", "svhn", "ucf101", "vgg-flowers")),
    Row("imagenet12", epochs=100, schedule_epochs=100),
    Row("imagenet12", "resnet20v1"),
    Row("cifar10"),
    Row("mnist", "resnet20v1"),
)


def gamma_grid(classes):
    """Returns the paper's grid: 1.0 downwards in steps of 0.1 while gamma > 1/K."""
    return [gamma for gamma in (round(1 - 0.1 * i, 1) for i in range(10)) if gamma > 1 / classes]


def requested_gammas(texts, classes):
    """Returns the gammas of the command line, largest first, with 1 among them."""
    if texts == ["sweep"]:
        return gamma_grid(classes)
    try:
        gammas = {1.0, *map(float, texts)}
    except ValueError:
        raise PlanError(f"--gamma takes numbers in (1/K, 1], or 'sweep' alone. Received: {' '.join(texts)}") from None
    for gamma in gammas:
        check_gamma(gamma, classes)
    return sorted(gammas, reverse=True)


def make_plan(options):
    """Returns the plan that the command line asks for, and its opened datasets, as `Sources`.

    Raises:
        PlanError: If datasets are not prepared, with the commands that prepare them, or a gamma does not fit.
    """
    rows = _requested_rows(options)
    sources = open_sources([row.dataset for row in rows], options.image_size, options.data_dir, options.ood)
    trials = []
    for row in rows:
        dataset = sources.datasets[row.dataset]
        epochs = options.epochs or row.epochs
        trials += [
            trial_of(
                dataset,
                model=row.model,
                method=LabelSmoothing(gamma),
                schedule=scale_schedule(SCHEDULE, epochs, row.schedule_epochs),
                epochs=epochs,
                batch_size=options.batch_size,
                seed=seed,
                precision=options.precision,
            )
            for gamma in _gammas(options.gamma, dataset)
            for seed in range(options.seeds)
        ]
    return Plan(STUDY, tuple(trials)), sources


def _requested_rows(options):
    if options.preset == "quick":
        known = {row.dataset: row for row in QUICK_ROWS}
        rows = [known.get(name, Row(name, QUICK_MODEL, QUICK_EPOCHS)) for name in options.datasets or known]
        rows = list(dict.fromkeys(rows))
    else:
        wanted = options.datasets or [row.dataset for row in PAPER_ROWS]
        rows = [row for row in PAPER_ROWS if row.dataset in wanted]
        covered = {row.dataset for row in rows}
        rows += [Row(name) for name in dict.fromkeys(wanted) if name not in covered]
    if options.model:
        rows = list({row.dataset: replace(row, model=options.model) for row in rows}.values())
    return rows


def _gammas(texts, dataset):
    try:
        return requested_gammas(texts, dataset.classes)
    except ValueError as error:
        raise PlanError(f"{dataset.name}: {error}") from None


def list_rows(data_dir):
    """Returns a table of what the paper trained, and which of it is prepared."""
    lines = []
    for row in (*QUICK_ROWS, *PAPER_ROWS):
        entry = decathlon.CATALOG[row.dataset]
        gammas = gamma_grid(entry.classes)
        sizes = decathlon.store.prepared_sizes(row.dataset, data_dir)
        state = f"at {', '.join(sizes)} px" if sizes else "made on first use" if entry.source == "bundled" else "no"
        name = f"{row.dataset} (synthetic)" if entry.synthetic else row.dataset
        lines.append((name, row.model, str(row.epochs), f"{gammas[0]:.1f} ... {gammas[-1]:.1f}", state))
    return tabulate(lines, ("dataset", "model", "epochs", "gamma sweep", "prepared"), "pipe", disable_numparse=True)
