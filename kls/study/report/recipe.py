"""How the networks of a report were trained, on what, and how to train them again."""

import json

import pandas as pd

from kls.pages.page import Code, File, Grid, Text
from kls.study.progress import format_seconds
from kls.study.report.caveats import caveats
from kls.study.report.tables import images_note

OF_A_TRIAL = ("method", "seed", "parents", "others", "epochs", "learning_rate", "schedule")
FROM_PYTHON = (
    "The study was run from Python. To make it again run the same kls.Study: what is finished is not trained again."
)
UNKNOWN = "The command that trained these networks is not recorded."


def recipe_parts(group, command):
    """Returns the recipe of the networks of a `Group`, the machines, the time that it took and the command.

    Args:
        group: The `Group`.
        command: The command that trains them again; empty if they were trained from Python, `None` if not recorded.
    """
    record = group.records[0]
    shared = {name: value for name, value in record["recipe"].items() if name not in OF_A_TRIAL and value is not None}
    frame = pd.DataFrame(group.records)
    columns = ["trial", "method", "seed", "epochs", "learning_rate", "seconds", "images_per_second", "machine"]
    methods = [_method_row(method, list(seeds.values())) for method, seeds in group.by_method.items()]
    seconds = frame["seconds"].sum()
    machines = dict.fromkeys(map(machine_of, group.records))
    return (
        Text(f"{group.place}: {images_note(record)}."),
        Grid(
            "What all trainings share, by the names of the fields of kls.study.trial.Trial.",
            ("field", "value"),
            tuple((name, _as_text(value)) for name, value in shared.items()),
        ),
        Grid(
            f"The methods. n: networks, a seed each. Training took {format_seconds(seconds)} in all.",
            ("method", "n", "seeds", "epochs", "learning rate", "schedule", "parameters", "seconds per network"),
            tuple(methods),
            File.of_frame(f"{group.prefix}trainings", frame.reindex(columns=columns)),
        ),
        *(Text(f"Trained on {machine}") for machine in machines),
        _again(command),
    )


def _again(command):
    if command is None:
        return Text(UNKNOWN)
    return Code(command, "To make it again, or to go on with it:") if command else Text(FROM_PYTHON)


def machine_of(record):
    """Returns what a network was trained on and with."""
    return record.get("machine") or "a machine that is not recorded."


def caveat_parts(group):
    """Returns what keeps the numbers from meaning much, as warnings."""
    found = {}
    for record in group.records:
        for clause in caveats(record):
            found.setdefault(clause, {}).setdefault(record["method"], []).append(record["seed"])
    return tuple(
        Text(f"{'; '.join(_networks(*of) for of in networks.items())}: {clause}.", "caveat")
        for clause, networks in found.items()
    )


def _networks(method, seeds):
    return f"{method}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}"


def _method_row(label, records):
    recipe = records[0]["recipe"]
    parameters = {name: value for name, value in recipe["method"].items() if name != "title"}
    seeds = sorted(record["seed"] for record in records)
    seconds = [record["seconds"] for record in records]
    texts = (_as_text(recipe[name]) for name in ("epochs", "learning_rate", "schedule") if name in recipe)
    padded = [*texts, *[""] * 3][:3]
    return (
        *(label, str(len(records)), ", ".join(map(str, seeds)), *padded),
        *(_as_text(parameters), f"{sum(seconds) / len(seconds):.1f}"),
    )


def _as_text(value):
    """Returns a value of a recipe as people read it."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={_as_text(one)}" for name, one in value.items() if one is not None)
    return value if isinstance(value, str) else json.dumps(value)
