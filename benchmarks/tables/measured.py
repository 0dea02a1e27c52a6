"""The metrics of a run's finished trials, as a frame and as a table."""

import hashlib
import inspect
import json
from dataclasses import fields

import pandas as pd

from kls import calibration, ood
from kls.ood.metrics import MEANINGS
from kls.study.outputs import needs_network, score_of
from kls.study.report.tables import Table, cell_of, percent, plain, reversed_note
from kls.study.store import StoreError, read_outputs
from kls.study.trial import Trial
from kls.utils.bootstrap import intervals_note
from kls.utils.formats import NOT_PERCENT, with_interval

ALWAYS_SHOWN = ("dataset", "model", "loss", "gamma")
OF_ONE_NETWORK = ("seed", "parents")
RECIPE = (
    *ALWAYS_SHOWN,
    "method",
    "lineage",
    "study",
    "parameters",
    *(field.name for field in fields(Trial) if field.name not in (*ALWAYS_SHOWN, *OF_ONE_NETWORK, "method")),
)


def measure_run(store, options):
    """Returns a frame with a row per finished trial and a column per metric.

    `_low`, `_high` and `_interval` hold confidence intervals and how they were found. Trials that are damaged are left
    out, and named.

    Raises:
        StoreError: If there is no finished trial, or if none has the OOD data that a metric is about.
    """
    records = store.believed(store.records())
    if not records:
        raise StoreError(f"There are no finished trials in {store.out}.")
    of_ood = [name for name in options.metric if name in ood.METRICS]
    if of_ood and not any(record["ood"] for record in records):
        raise StoreError(
            f"There are no OOD data in {store.out} for {', '.join(of_ood)}: run its study with `--ood NAME`."
        )
    lineages = _lineages(records)
    return pd.DataFrame(
        [_measure_trial({**record, "lineage": lineages[record["trial"]]}, options) for record in records]
    )


def _lineages(records):
    """Returns, by trial, what tells apart the recipes of all that it starts from, but for their seeds."""
    known = {record["trial"]: record for record in records}

    def lineage(trial):
        if trial not in known:
            return trial
        recipe = known[trial]["recipe"] | {"seed": 0, "parents": sorted(map(lineage, known[trial]["parents"]))}
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]

    return {trial: " ".join(map(lineage, record["parents"])) for trial, record in known.items()}


def _measure_trial(record, options):
    directory = options.run / "trials" / record["trial"] / "logits"
    id_outputs = read_outputs(directory / f"{record['evaluation']}.npz")
    logits, labels = id_outputs["logits"], id_outputs["labels"]
    recipe = {name: _as_text({**record, "parameters": _parameters(record)}[name]) for name in RECIPE}
    row = {"trial": record["trial"], **recipe, "seed": record["seed"], "n": len(labels)}
    asked = [name for name in options.metric if name in calibration.METRICS]
    for name in asked:
        function = calibration.METRICS[name]
        settings = {"from_logits": True, **_binning(function, options)}
        row |= _with_interval(name, function, calibration.interval, (labels, logits), settings, options)
    if len(asked) < len(options.metric):
        row |= {"ood_convention": options.ood_convention, **_measure_ood(id_outputs, record, directory, options)}
    return row


def _parameters(record):
    """Returns the parameters of a record's method that have no column of their own, as a text."""
    others = {"name", "title", *RECIPE}
    method = record["recipe"]["method"]
    return " ".join(f"{name}={value}" for name, value in method.items() if name not in others)


def _as_text(value):
    """Returns what a table can be grouped by: numbers as they are."""
    return value if isinstance(value, int | float) else "" if value is None else str(value)


def _measure_ood(id_outputs, record, directory, options):
    row = {}
    for other in sorted(record["ood"]):
        kept = record["scores"].get(options.score, ())
        if needs_network(options.score) and not {other, record["evaluation"]} <= set(kept):
            raise StoreError(
                f"Trial {record['trial']} has not stored {options.score} of {other}: run its study with "
                f"`--scores {options.score}`."
            )
        sides = score_of(id_outputs, options.score), score_of(read_outputs(directory / f"{other}.npz"), options.score)
        for name in options.metric:
            if name in ood.METRICS:
                sided = (name, options.ood_convention) in MEANINGS
                settings = {"convention": options.ood_convention} if sided else {}
                row |= _with_interval(f"{name}_{other}", ood.METRICS[name], ood.interval, sides, settings, options)
    return row


def _binning(function, options):
    """Returns those binning options that the metric has, as they are given, else its defaults."""
    given = {name: getattr(options, name) for name in ("bins", "binning", "convention")}
    taken = inspect.signature(function).parameters
    return {name: taken[name].default if value is None else value for name, value in given.items() if name in taken}


def _with_interval(column, function, interval, arguments, settings, options):
    if options.resamples is None:
        return {column: function(*arguments, **settings)}
    found = interval(function, *arguments, n=options.resamples, **settings)
    ends = {f"{column}_low": found.low, f"{column}_high": found.high}
    return {column: found.value, **ends, f"{column}_interval": found.method}


def make_table(frame, options):
    """Returns the table for people: mean and deviation over seeds, or each network with its interval."""
    measured = [name for name in frame if name not in (*RECIPE, "trial", "seed", "n", "ood_convention")]
    columns = [name for name in measured if f"{name}_low" in frame] if options.resamples else measured
    told_apart = _told_apart(frame)
    shown = [*told_apart, "seed"] if options.resamples else told_apart
    rows = []
    for _, group in frame.groupby([*RECIPE, "trial"] if options.resamples else list(RECIPE), sort=False):
        named = (f"{value:g}" if isinstance(value, float) else str(value) for value in group.iloc[0][shown])
        rows.append((*named, str(len(group)), *(_shown(group, name, options) for name in columns)))
    notes = [
        *(_settings_note(name, options) for name in options.metric if name in calibration.METRICS),
        f"OOD metrics by {options.score}." if any(name in ood.METRICS for name in options.metric) else "",
        *(_side_note(name, options) for name in options.metric),
        *reversed_note(frame[[name for name in columns if name.startswith("auroc_")]]),
        *_intervals_notes(frame, columns, options),
    ]
    headings = {"dataset": "dataset", "gamma": "γ"}
    return Table(
        options.name,
        "From stored logits of the last epoch's networks; % but for NLL and Brier scores.",
        (*(headings.get(name, name.replace("_", " ")) for name in shown), "networks", *columns),
        tuple(rows),
        (" ".join(filter(None, notes)),),
    )


def _told_apart(frame):
    """Returns the parts of the recipes that a table shows: those by which methods of one network and data differ."""
    always = ALWAYS_SHOWN if frame["loss"].nunique() == 1 else (*ALWAYS_SHOWN, "method")
    methods = frame.groupby(["dataset", "model", "method"])
    return [name for name in RECIPE if name in always or (methods[name].nunique() > 1).any()]


def _settings_note(name, options):
    """Returns a sentence on how a metric was binned, empty for one without bins."""
    binning = _binning(calibration.METRICS[name], options)
    return f"{name}: {', '.join(f'{key} {value}' for key, value in binning.items())}." if binning else ""


def _side_note(name, options):
    """Returns a sentence on what a metric that has a positive side measures, empty for another."""
    meaning = MEANINGS.get((name, options.ood_convention))
    return f"{name}: {meaning} ({options.ood_convention}'s convention)." if meaning else ""


def _intervals_notes(frame, columns, options):
    """Returns sentences on the intervals, none where none were asked for."""
    if not options.resamples:
        return ()
    methods = {name: frame[f"{name}_interval"].dropna().iloc[0] for name in columns}
    return intervals_note(methods), f"Bootstrap: {options.resamples} resamples."


def _shown(group, name, options):
    if options.resamples is None or group[name].isna().all():
        return cell_of(group[name], plain if name in NOT_PERCENT else percent)
    return with_interval(name, *(group[column].iloc[0] for column in (name, f"{name}_low", f"{name}_high")))
