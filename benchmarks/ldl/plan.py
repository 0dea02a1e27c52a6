"""The trials of the study: networks and, after them, their students."""

import textwrap
from dataclasses import dataclass, replace

from tabulate import tabulate

from benchmarks.ldl import STUDY
from benchmarks.ldl.human import gamma_of_entropy, mean_entropy, read_distributions
from benchmarks.ldl.methods import ALL, GAMMA, HUMAN, METHODS, MIXED, NINE, ONE, TABLE_1, VANILLA
from benchmarks.paper import changed
from decathlon.mixing import mixing_named
from kls.study.data import is_prepared, open_sources
from kls.study.methods import LabelSmoothing, OverfittingRatio, SoftLabels
from kls.study.plan import Plan, PlanError, scale_schedule, with_parents
from kls.study.trial import trial_of
from kls.targets import check_gamma

PADDING = 4 / 32
WEIGHT_DECAY = 5e-4
WINDOW = 10
EPOCHS, MILESTONES = 240, ((150, 1e-1), (180, 1e-2), (210, 1e-3))
LONG_EPOCHS, LONG_MILESTONES = 350, ((150, 1e-1), (200, 1e-2), (250, 1e-3), (300, 1e-4))
LONG = "+"
CIFAR_RESNETS = ("resnet20v1", "resnet32v1", "resnet44v1", "resnet56v1", "resnet110v1")


@dataclass(frozen=True)
class Setting:
    """What is trained on a dataset.

    Attributes:
        dataset: Its name.
        students: Names of the networks that learn.
        teacher: Name of the network that one teacher is.
        ensemble: Names of the networks that several teachers are.
        mixing: How images are mixed, as `decathlon.mixing_named` takes it.
        methods: How networks are trained: names of `METHODS`, or of `MIXED` with a mixing; a `+` asks for the long
            schedule.
        epochs: Epochs of the normal schedule.
    """

    dataset: str
    students: tuple[str, ...] = ("resnet20v1", "resnet56v1")
    teacher: str = "resnet110v1"
    ensemble: tuple[str, ...] = CIFAR_RESNETS
    mixing: str = "ricap"
    methods: tuple[str, ...] = (*NINE, "on-ldl+", "on-en-ldl+", "on-mt-ldl+")
    epochs: int = EPOCHS


PAPER = (
    Setting("cifar10"),
    Setting("stl10"),
    Setting(
        "cifar100_full",
        students=("resnet20v1", "resnet56v1", "resnet110v1"),
        methods=("vanilla", "ls", "kd", *TABLE_1, "off-ldl", "off-mt-ldl", "on-ldl+", "crd", "crd+kd", "wsl"),
    ),
    Setting(
        "cifar100_full",
        students=("resnet18", "resnet50", "resnet200"),
        teacher="resnet200",
        ensemble=(),
        mixing="cutmix",
        methods=(
            *("vanilla", "ls", "kd", *TABLE_1, "off-ldl", "on-ldl", "on-ldl+", "crd+kd", "wsl"),
            *("ogr", "on-ldl-ogr", "mcdo", "on-ldl-mcdo-t", "on-ldl-mcdo-st", "on-ldl-mcdo-t-cutmix"),
        ),
    ),
    Setting(
        "cifar100_full",
        students=("resnext29-4x64d", "densenet121", "dla34"),
        teacher="resnet200",
        ensemble=(),
        mixing="cutmix",
        methods=("vanilla", "ls", "kd", "off-ldl", "on-ldl"),
    ),
    Setting(
        "imagenet_resized",
        students=("resnet18", "resnet50", "resnet101", "resnet152"),
        teacher="resnet152",
        ensemble=(),
        mixing="cutmix",
        methods=("vanilla", "ls", "off-ldl", "on-ldl", "on-ldl+"),
    ),
)
QUICK = Setting(
    "digits",
    students=("resnet8v1",),
    teacher="wrn10-1",
    ensemble=("resnet8v1", "wrn10-1"),
    methods=NINE,
    epochs=16,
)


def make_plan(options):
    """Returns the plan that the command line asks for, and its opened datasets, as `Sources`.

    Raises:
        PlanError: If datasets are not prepared, with the commands that prepare them, or a value does not fit.
    """
    settings = _requested(options)
    names = [setting.dataset for setting in settings]
    sources = open_sources(names, options.image_size, options.data_dir, options.ood)
    _check(options, sources.datasets.values())
    if options.teacher == HUMAN:
        return _human_plan(settings, sources.datasets, options), sources
    trials = []
    for setting in settings:
        for seed in range(options.seeds):
            vanilla = _vanilla(setting, sources.datasets[setting.dataset], seed, options)
            trials += _trials(setting, vanilla, _gamma(options))
    return Plan(STUDY, tuple(trials)), sources


def method_named(name, setting):
    """Returns a method by its name, the name that it goes by, and whether it takes the long schedule.

    Args:
        name: As in `Setting.methods`.
        setting: The `Setting`: `on-ldl-ricap` is `on-ldl` where images are mixed by RICAP.

    Returns:
        `(Configuration, str, bool)`.

    Raises:
        PlanError: If there is no such method.
    """
    plain = name.removesuffix(LONG)
    suffix = name[len(plain) :]
    if plain in METHODS:
        return METHODS[plain], name, bool(suffix)
    for family in MIXED:
        if plain.startswith(f"{family}-"):
            found = METHODS[family]
            mixing = canonical(plain.removeprefix(f"{family}-"))
            known = family if found.mixes and mixing == canonical(setting.mixing) else f"{family}-{mixing}"
            mixed = replace(found, method=replace(found.method, mixing=mixing), mixes=False)
            return mixed, known + suffix, bool(suffix)
    raise PlanError(
        f"--methods must be among {', '.join(METHODS)}, vanilla-MIXING and on-ldl-MIXING, each with or without + for "
        f"the long schedule. Received: {name}."
    )


def canonical(mixing):
    """Returns the text of a mixing with all that decides what it does."""
    try:
        return str(mixing_named(mixing))
    except ValueError as error:
        raise PlanError(f"--augment, or the mixing in --methods: {error}") from None


def _requested(options):
    """Returns the settings of the preset with what the command line changes."""
    presets, other = ((QUICK,), QUICK) if options.preset == "quick" else (PAPER, Setting(""))
    settings = []
    for name in dict.fromkeys(options.datasets or [preset.dataset for preset in presets]):
        known = [preset for preset in presets if preset.dataset == name] or [replace(other, dataset=name)]
        settings += _with_students(known, _students(options))
    changes = {**vars(options), "students": None, "mixing": options.augment}
    return list(dict.fromkeys(changed(setting, changes) for setting in settings))


def _gamma(options):
    return GAMMA if options.gamma is None else options.gamma


def _students(options):
    return tuple(dict.fromkeys(options.students or filter(None, [options.model])))


def _with_students(settings, students):
    """Returns settings with these students, each in the one that names it, else in the first; all if none are given."""
    if not students:
        return settings
    home = {student: next((s for s in settings if student in s.students), settings[0]) for student in students}
    return [
        replace(setting, students=tuple(student for student in students if home[student] == setting))
        for setting in settings
        if setting in home.values()
    ]


def _check(options, datasets):
    for dataset in datasets:
        try:
            check_gamma(_gamma(options), dataset.classes)
        except ValueError as error:
            raise PlanError(f"{dataset.name}: {error}") from None
    if (options.teacher == HUMAN) != (options.labels is not None):
        raise PlanError("--teacher human and --labels FILE go together.")
    unused = [f"--{name}" for name in ("methods", "ensemble", "augment", "gamma") if getattr(options, name) is not None]
    if options.teacher == HUMAN and unused:
        raise PlanError(
            f"--teacher human trains on hard, smoothed and human labels alone. Received: {' '.join(unused)}."
        )


def _vanilla(setting, dataset, seed, options):
    """Returns the trial of a network that learns from hard labels, of no model yet."""
    return trial_of(
        dataset,
        model="",
        method=VANILLA,
        schedule=scale_schedule(MILESTONES, setting.epochs, EPOCHS),
        epochs=setting.epochs,
        batch_size=options.batch_size,
        optimizer="momentum",
        learning_rate=0.05,
        weight_decay=WEIGHT_DECAY,
        shift=PADDING,
        seed=seed,
        precision=options.precision,
    )


def _trials(setting, vanilla, gamma):
    """Returns the trials of a setting and seed, teachers before their students."""
    teachers, trials = [], []
    for name in dict.fromkeys(setting.methods):
        configuration, title, long = method_named(name, setting)
        models = {ONE: (setting.teacher,), ALL: setting.ensemble, None: ()}[configuration.teachers]
        if configuration.teachers and not models:
            raise PlanError(f"{name} needs several teachers: name them with --ensemble.")
        method = replace(_method(configuration, models, setting, gamma), title=title)
        if long:
            epochs = round(setting.epochs * LONG_EPOCHS / EPOCHS)
            method = replace(method, epochs=epochs, schedule=scale_schedule(LONG_MILESTONES, epochs, LONG_EPOCHS))
        teachers += [replace(vanilla, model=model) for model in models]
        for model in setting.students:
            trials += with_parents(replace(vanilla, model=model, method=method))
    return [*teachers, *trials]


def _method(configuration, models, setting, gamma):
    """Returns the method that a configuration is, whose teachers are networks of `models`."""
    method, changes = configuration.method, {}
    if models:
        changes["models"] = models
    if configuration.mixes:
        changes["mixing"] = canonical(setting.mixing)
    if method.gamma < 1:
        changes["gamma"] = gamma
    if isinstance(method, OverfittingRatio):
        changes["window"] = max(1, round(setting.epochs * WINDOW / EPOCHS))
    return replace(method, **changes)


def _human_plan(settings, datasets, options):
    """Returns the plan that holds human label distributions against hard labels, and smoothed ones of equal entropy."""
    if len(datasets) > 1:
        raise PlanError("--teacher human takes one dataset, that of --labels. Name it with --datasets.")
    (dataset,) = datasets.values()
    distributions = read_distributions(options.labels, dataset)
    gamma = gamma_of_entropy(mean_entropy(distributions), dataset.classes)
    trials = []
    for setting in settings:
        for seed in range(options.seeds):
            vanilla = _vanilla(setting, dataset, seed, options)
            methods = VANILLA, LabelSmoothing(gamma, title="ls"), SoftLabels(distributions, title=HUMAN)
            trials += [replace(vanilla, model=model, method=method) for model in setting.students for method in methods]
    return Plan(STUDY, tuple(trials))


def list_settings(data_dir):
    """Returns a table of what the study covers, and which of its data are prepared.

    Args:
        data_dir: The data directory.
    """
    lines = [
        (
            *(setting.dataset, _wrapped(setting.students, 24), setting.teacher, str(len(setting.ensemble) or "–")),
            *(setting.mixing, str(setting.epochs), _wrapped(setting.methods, 60)),
            "yes" if is_prepared(setting.dataset, data_dir) else "no",
        )
        for setting in (QUICK, *PAPER)
    ]
    header = ("dataset", "students", "teacher", "ensemble", "mixing", "epochs", "methods", "prepared")
    return tabulate(lines, header, "pipe", disable_numparse=True)


def _wrapped(names, width):
    return textwrap.fill(" ".join(names), width, break_on_hyphens=False)
