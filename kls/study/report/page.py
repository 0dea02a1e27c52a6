"""The report of a study: the verdict first, then what it stands on, a chapter per dataset and network."""

import json
import re

import pandas as pd

from kls.pages.page import Cell, Chapter, File, Grid, Page, Section, Text
from kls.study.report.calibration import calibration_table
from kls.study.report.classes import class_parts
from kls.study.report.comparisons import BASELINE
from kls.study.report.detection import detection_parts
from kls.study.report.differences import HEADER, difference_cells
from kls.study.report.figures import difference_parts
from kls.study.report.group import Group
from kls.study.report.images import image_parts
from kls.study.report.model_card import model_card
from kls.study.report.recipe import OF_A_TRIAL, caveat_parts, recipe_parts
from kls.study.report.reliability import reliability_parts
from kls.study.report.tables import DEVIATION, Bold

NOT_COMPARED = "Nothing is compared here: it takes cross-entropy, another method and a seed of both."
BRACKETS = "In square brackets: 95 % confidence intervals; in round ones: what it would take to tell."


def study_page(records, store, find, command="", unfinished=0):
    """Returns the `Page` of finished trials.

    Args:
        records: Their records, one at least.
        store: The `RunStore`.
        find: Function of a record that returns its opened dataset and `""`, or `None` and why it cannot be had.
        command: The command that trains them again; as in `recipe_parts`.
        unfinished: How many trials of the study are not among them.
    """
    groups = _groups(records)
    chapters = []
    for index, members in enumerate(groups, start=1):
        prefix = "" if len(groups) == 1 else f"{index}-{_slug(members[0])}-"
        group = Group(members, store, prefix, *find(members[0]))
        title = group.place if len(groups) == 1 else f"{index}. {group.place}"
        verdict = group.verdict
        summary = "" if verdict is None else f"{verdict.question} {verdict.answer}."
        chapters.append(Chapter(title, _sections(group, command), summary))
    about = [Text(f"Trained networks: {len(records)}. Methods are compared by equal seeds, on the same images.")]
    if unfinished:
        asked = unfinished + len(records)
        about.append(Text(f"Not finished, or damaged: {unfinished} of {asked} trials that were asked for.", "caveat"))
    about += [Text(f"Left out: {reason}", "caveat") for reason in store.left_out]
    names = ", ".join(dict.fromkeys(record["dataset"] for record in records))
    return Page(f"What softening the labels does: {names}", tuple(about), tuple(chapters))


def _groups(records):
    """Returns the records of each dataset and network; of each recipe, where methods and seeds are there twice."""
    found = {}
    for record in records:
        found.setdefault((record["dataset"], record["model"]), []).append(record)
    groups = []
    for members in found.values():
        cells = {(record["method"], record["seed"]) for record in members}
        apart = {}
        for record in members:
            shared = {} if len(cells) == len(members) else _shared(record)
            apart.setdefault(json.dumps(shared, sort_keys=True), []).append(record)
        groups += apart.values()
    return groups


def _shared(record):
    left_out = {*OF_A_TRIAL} - {"epochs", "learning_rate", "schedule"}
    return {name: value for name, value in record["recipe"].items() if name not in left_out}


def _slug(record):
    return re.sub(r"[^\w.-]+", "_", f"{record['dataset']}-{record['model']}")


def _sections(group, command):
    """Returns the sections of a chapter."""
    sections = [Section("Verdict", (*_verdict(group), *caveat_parts(group)))]
    if group.compared is not None:
        sections.append(Section("What each method costs", (difference_parts(group),)))
    sections += [
        Section("Tables", _tables(group)),
        Section("Reliability", reliability_parts(group)),
        Section("Out-of-distribution detection", _detection(group)),
        Section("Classes", class_parts(group)),
        Section("Images to look at", image_parts(group)),
        Section("Recipe", recipe_parts(group, command)),
        Section("Model card", (model_card(group, command),)),
    ]
    return tuple(sections)


def _verdict(group):
    if group.verdict is None:
        return (Text(group.no_verdict, "lead"),)
    _, numbers = group.verdict.table()
    rows = []
    for line in numbers.to_dict("records"):
        heading, *rest = difference_cells(line)
        rows.append((heading, line["correction"], *rest))
    header = (HEADER[0], "correction", *HEADER[1:])
    file = File.of_frame(f"{group.prefix}verdict", numbers)
    grid = Grid(f"{group.verdict.subject}. {BRACKETS}", header, tuple(rows), file)
    return (Text(group.verdict.headline, "lead"), grid, *(Text(note) for note in group.verdict.notes))


def _tables(group):
    if group.compared is None:
        return Text(NOT_COMPARED), _means(group)
    table, numbers = group.compared
    rows = tuple((line["method"], *difference_cells(line)) for line in numbers.to_dict("records"))
    file = File.of_frame(f"{group.prefix}{table.name}", numbers)
    return Grid(table.caption, ("method", *HEADER), rows, file, table.notes), _means(group)


def _means(group):
    """Returns the means over networks of each method."""
    compared = group.compared[1] if group.compared is not None and group.baseline == BASELINE else None
    table, numbers = calibration_table(pd.DataFrame(group.records), by="method", compared=compared)
    rows = [[Cell(cell.text, "bold") if isinstance(cell, Bold) else cell for cell in row[1:]] for row in table.rows]
    rows = tuple(tuple(row) for row in rows if row[0] != "")  # without the names of dataset and network beside them
    file = File.of_frame(f"{group.prefix}{table.name}", numbers)
    deviation = (DEVIATION,) if numbers["n"].max() > 1 else ()
    return Grid(table.caption, table.header[1:], rows, file, (*table.notes, *deviation))


def _detection(group):
    if not group.ood:
        return (Text("There is nothing on OOD images: no OOD dataset was given that all networks have seen."),)
    return detection_parts(group)
