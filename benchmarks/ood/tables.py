"""Tables 1 and 2 and Figures 1 and 2 of Lee & Cheon 2020, measured beside published."""

import pandas as pd

from kls.study.methods import OutlierExposure
from kls.study.outputs import BINS, CONVENTION
from kls.study.report.comparisons import better_cells, bold_note
from kls.study.report.tables import Table, cell_of, data_note, display_name, printed_cell, reversed_note
from kls.targets import epsilon_from_gamma

BASELINE, OE, OD = "Baseline", "+OE", "+OD"
METHODS = {BASELINE: "baseline", OE: "oe", OD: "od"}  # as the published numbers call them
PUBLISHED_OUTLIERS = ("tiny_imagenet",)
REMARKS = {
    "svhn_cropped": "the code that the paper follows trains SVHN on 604,388 images, train and extra, with WRN-16-4",
}


class Networks:
    """The finished networks of one ID dataset, by what they are.

    Args:
        records: Frame of their records, in the order of the plan.
        exposures: The outlier sets of the plan, each a tuple of names; Tables 1 and 2 are about the first.
        ood_sets: Names of the OOD datasets of the plan.
    """

    def __init__(self, records, exposures, ood_sets):
        self.records = records
        self.model = records["model"].iloc[0]
        self.classes = int(records["classes"].iloc[0])
        self.exposures = exposures
        self.ood_sets = [
            name for name in ood_sets if f"auroc_{name}" in records and records[f"auroc_{name}"].notna().any()
        ]

    @property
    def exposed_as_published(self):
        """Whether Tables 1 and 2 are about the paper's outliers, where they are about any."""
        return self.exposures[:1] in ([], [PUBLISHED_OUTLIERS])

    def smoothed(self):
        """Returns the frame of the smoothing sweep, the baseline included."""
        return self.records[self.records["loss"] == "label_smoothing"]

    def baseline(self):
        return self.smoothed()[self.smoothed()["gamma"] == 1.0]

    def exposed(self, outliers):
        chosen = self.records["recipe"].map(lambda recipe: tuple(recipe["method"].get("outliers", ())) == outliers)
        return self.records[(self.records["loss"] == "outlier_exposure") & chosen]

    def students(self, teachers, model):
        """Returns the frame of the students of teachers, which are another frame, that are of a model."""
        taught = self.records["parents"].map(lambda parents: bool(set(parents) & set(teachers["trial"])))
        chosen = taught & (self.records["loss"] == "distillation") & (self.records["model"] == model)
        return self.records[chosen]

    def of_table_1(self):
        """Returns `{method: frame}` of the baseline, of those exposed to the first outliers, and of their students."""
        groups = {BASELINE: self.baseline()}
        if self.exposures:
            groups[OE] = self.exposed(self.exposures[0])
            groups[OD] = self.students(groups[OE], self.model)
        return groups

    def student_models(self):
        """Returns the names of the students' models, the teachers' own first."""
        students = self.records[self.records["loss"] == "distillation"]["model"]
        return sorted(set(students), key=lambda model: (model != self.model, model))


def by_data_set(records, plan, ood):
    """Returns `{dataset: Networks}`.

    Args:
        records: Frame of the records of finished trials.
        plan: The `Plan`.
        ood: `{dataset: names of OOD datasets}`.
    """
    exposures = {name: {} for name in ood}
    for trial in plan.trials:
        if isinstance(trial.method, OutlierExposure):
            exposures[trial.dataset][trial.method.outliers] = None
    return {
        name: Networks(group, list(exposures[name]), ood[name])
        for name, group in records.groupby("dataset", sort=False)
    }


def compared_records(networks):
    """Returns a frame of the records that are compared: the smoothing sweep, and `+OE` and `+OD` of Table 1.

    Args:
        networks: `{dataset: Networks}`.
    """
    groups = []
    for of in networks.values():
        groups.append(of.smoothed())
        groups += [group.assign(method=method) for method, group in of.of_table_1().items() if method != BASELINE]
    return pd.concat(groups)


def accuracy_table(networks, paper, compared=None):
    """Returns Table 1, accuracy and ECE of baseline, +OE and +OD, and its numbers as a frame.

    Args:
        networks: `{dataset: Networks}`.
        paper: The paper's numbers.
        compared: Frame of the comparison of `compared_records`; without it nothing is bold.
    """
    better, rows, numbers = better_cells(compared), [], []
    for name, of in networks.items():
        groups = of.of_table_1()
        columns = {method: groups.get(method, of.records[:0]) for method in METHODS}
        for metric, column in (("accuracy", "accuracy_last"), ("ece", "ece")):
            values = [group[column].dropna() for group in columns.values()]
            counts = "/".join(str(len(group)) for group in values)
            heading = (display_name(name), {"accuracy": "accuracy %", "ece": "ECE %"}[metric], of.model)
            cells = (
                cell_of(group, bold=(name, of.model, method, metric) in better)
                for method, group in zip(columns, values, strict=True)
            )
            rows.append((*heading, counts, *cells))
            printed = _published(paper, "1", name, of)
            theirs = [printed.get((method, of.model, metric)) for method in METHODS.values()]
            if any(theirs):
                rows.append(("", "published", of.model, "–", *map(printed_cell, theirs)))
            numbers += [
                {
                    **{"dataset": name, "model": of.model, "method": method, "metric": metric, "n": len(group)},
                    **{"mean": group.mean(), "std": group.std(), "published_percent": value},
                }
                for method, group, value in zip(METHODS, values, theirs, strict=True)
                if len(group)
            ]
    table = Table(
        "accuracy",
        f"Accuracy and ECE in % (Table 1 of Lee & Cheon 2020) of the last epoch's networks; ECE with {BINS} bins "
        f"({CONVENTION}'s convention). OE: fine-tuned with outliers; OD: its student, which never saw one. n: networks "
        "per cell; the paper does not say its own." + bold_note(compared),
        ("dataset", "", "model", "n", *METHODS),
        tuple(rows),
        _notes(networks),
    )
    return table, pd.DataFrame(numbers)


def detection_table(networks, paper, ood):
    """Returns Table 2, AUROC of exposed networks and their students, beside the baseline's, and its numbers as a frame.

    Args:
        networks: `{dataset: Networks}`.
        paper: The paper's numbers.
        ood: `{dataset: {OOD set: dataset}}`.
    """
    students = list(dict.fromkeys(model for of in networks.values() for model in of.student_models()))
    rows, numbers = [], []
    for name, of in networks.items():
        if not of.exposures:
            continue
        teachers = of.exposed(of.exposures[0])
        groups = {
            ("", "baseline"): of.baseline(),
            (of.model, "oe"): teachers,
            **{(model, "od"): of.students(teachers, model) for model in students},
        }
        printed = _published(paper, "2", name, of)
        for other in of.ood_sets:
            values = [group[f"auroc_{other}"].dropna() for group in groups.values()]
            counts = "/".join(str(len(group)) for group in values)
            images = ood[name][other].counts[ood[name][other].evaluation]
            rows.append((display_name(name), display_name(other), f"{images:,}", counts, *map(cell_of, values)))
            theirs = [printed.get((method, model, f"auroc_{other}")) for model, method in groups]
            if any(theirs):
                rows.append(("", "published", "–", "–", *map(printed_cell, theirs)))
            numbers += [
                {
                    **{"dataset": name, "ood": other, "method": method, "model": model or of.model, "n": len(group)},
                    **{"mean": group.mean(), "std": group.std(), "published_percent": value},
                }
                for (model, method), group, value in zip(groups, values, theirs, strict=True)
                if len(group)
            ]
    models = " or ".join(dict.fromkeys(of.model for of in networks.values()))
    table = Table(
        "detection",
        "AUROC in % by maximum softmax probability (Table 2 of Lee & Cheon 2020): the network fine-tuned with outliers "
        "(OE) and its students (→), which never saw one; the paper has no baseline here. images: of the OOD set; "
        "n: networks per cell.",
        ("dataset", "OOD", "images", "n", "Baseline", f"{models} OE", *(f"→ {model}" for model in students)),
        tuple(rows),
        (*_notes(networks), *reversed_note(pd.Series([row["mean"] for row in numbers], dtype=float))),
    )
    return table, pd.DataFrame(numbers)


def smoothing_panels(networks):
    """Returns what `figures.smoothing_curves` draws: Figure 1.

    Args:
        networks: `{dataset: Networks}`.
    """
    panels = {}
    for name, of in networks.items():
        if of.smoothed().empty:
            continue
        cells = of.smoothed().groupby("gamma")

        def curve(column, cells=cells):
            return list(100 * cells[column].mean())[::-1], list(100 * cells[column].std().fillna(0))[::-1]

        alphas = [float(f"{epsilon_from_gamma(gamma, of.classes):.6g}") for gamma in cells.groups]
        panels[f"{display_name(name)}, {of.model} (n={cells.size().min()})"] = {
            "alpha": alphas[::-1],
            "accuracy": curve("accuracy_last"),
            "ece": curve("ece"),
            "auroc": {display_name(other): curve(f"auroc_{other}") for other in of.ood_sets},
        }
    return panels


def teacher_panels(networks):
    """Returns what `figures.teacher_and_student` draws: Figure 2, baselines and then exposed networks as teachers.

    Args:
        networks: `{dataset: Networks}`.
    """
    pairs = {
        f"{display_name(name)}: baseline": (of, of.baseline(), of.students(of.baseline(), of.model))
        for name, of in networks.items()
    }
    for name, of in networks.items():
        for outliers in of.exposures:
            teachers = of.exposed(outliers)
            title = f"{display_name(name)}: OE with {_names(outliers)}"
            pairs[title] = (of, teachers, of.students(teachers, of.model))
    return {
        f"{title} (n={min(len(teachers), len(students))})": {
            display_name(other): tuple(100 * group[f"auroc_{other}"].mean() for group in (teachers, students))
            for other in of.ood_sets
        }
        for title, (of, teachers, students) in pairs.items()
        if len(teachers) and len(students)
    }


def _names(outliers):
    return " and ".join(map(display_name, outliers))


def _notes(networks):
    """Returns what a reader must know before comparing with the paper, a sentence per ID dataset."""
    notes = []
    for name, of in networks.items():
        first = of.records.iloc[0]
        tuned = of.records[of.records["loss"] == "outlier_exposure"]["epochs"]
        tuning = f", {tuned.iloc[0]} of fine-tuning" if len(tuned) else ""
        exposure = f"exposed to {_names(of.exposures[0])}; " if of.exposures else ""
        remark = f" ({REMARKS[name]})" if name in REMARKS else ""
        notes.append(f"{display_name(name)}: {exposure}{first['epochs']} epochs{tuning}, {data_note(first)}{remark}.")
    return tuple(notes)


def _published(paper, table, dataset, of):
    """Returns the published numbers of a dataset by method, model and metric.

    Those of exposed networks and their students are left out where the outliers are others than the paper's.
    """
    cells = paper[(paper["table"] == table) & (paper["dataset"] == dataset)]
    return {
        (row.method, row.model, row.metric): row.value
        for row in cells.itertuples()
        if row.method == "baseline" or of.exposed_as_published
    }
