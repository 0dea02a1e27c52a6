"""Tables as Markdown, CSV and LaTeX from one list of rows."""

import textwrap
from dataclasses import dataclass
from itertools import zip_longest

from tabulate import tabulate

import decathlon
from kls.study.report.caveats import caveats
from kls.study.trial import ALL, HEAD
from kls.utils.escaping import csv_of, escape_html, escape_latex, escape_markdown
from kls.utils.files import write_atomically

DEVIATION = (
    "±: standard deviation over the networks of a cell, with n - 1 in the denominator; published ones as printed."
)
REVERSED = "AUROC below 50 %: there the score takes OOD for ID samples more often than not; it is never bold."
WIDTH = 100  # columns


@dataclass(frozen=True)
class Bold:
    """A cell to set in bold."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table for people.

    Attributes:
        name: Name of its files.
        caption: What it shows, with n.
        header: Names of the columns.
        rows: Cells, each a string or `Bold`.
        notes: Sentences to stand below. What "±" means is added where a cell has it.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple, ...]
    notes: tuple[str, ...] = ()

    def markdown(self):
        header = [escape_markdown(name) for name in self.header]
        body = _pipe_table(header, self._cells("**{}**", escape_markdown))
        return "\n\n".join([escape_html(self.caption), body, *map(escape_html, self._all_notes())]) + "\n"

    def latex(self):
        header = [escape_latex(name) for name in self.header]
        body = tabulate(self._cells(r"\textbf{{{}}}", escape_latex), header, "latex_raw", disable_numparse=True)
        notes = [rf"\par {escape_latex(note)}" for note in self._all_notes()]
        return "\n".join([rf"% {escape_latex(self.caption)}", body, *notes]) + "\n"

    def write(self, directory, frame):
        """Writes `NAME.md` and `NAME.tex` as shown, and `NAME.csv` with the unrounded numbers of a frame."""
        write_atomically(directory / f"{self.name}.md", self.markdown())
        write_atomically(directory / f"{self.name}.tex", self.latex())
        write_atomically(directory / f"{self.name}.csv", csv_of(frame))

    def show(self, directory, frame):
        """Prints the table, its sentences filled to `WIDTH` columns, then writes it as `write` does."""
        lines = self.markdown().splitlines()
        print(
            "", *(line if line.startswith("|") else textwrap.fill(line, WIDTH) for line in lines), sep="\n", flush=True
        )
        self.write(directory, frame)

    def _all_notes(self):
        cells = (cell.text if isinstance(cell, Bold) else cell for row in self.rows for cell in row)
        return [*self.notes, DEVIATION] if any("±" in cell for cell in cells) else self.notes

    def _cells(self, bold, escape):
        return [
            [bold.format(escape(cell.text)) if isinstance(cell, Bold) else escape(cell) for cell in row]
            for row in self.rows
        ]


def named_rows(names, rows):
    """Returns rows behind a first column that says what they have in common, a name in each.

    Args:
        names: Such as the dataset and the network; where there are more of them than rows, empty rows follow.
        rows: Tuples of cells, one row at least.
    """
    blank = ("",) * len(rows[0])
    rows = [*rows, *[blank] * (len(names) - len(rows))]
    return [(name, *row) for name, row in zip_longest(names, rows, fillvalue="")]


def _pipe_table(header, rows):
    """Returns a Markdown table whose columns are as wide as their widest cells; tabulate's are two wider."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (header, *rows)]
    first, *lines = (f"| {' | '.join(row)} |" for row in padded)
    rule = "|".join(f":{'-' * (width + 1)}" for width in widths)
    return "\n".join([first, f"|{rule}|", *lines])


def display_name(dataset):
    """Returns what a dataset is called in tables."""
    entry = decathlon.CATALOG.get(dataset)
    return f"{dataset} (synthetic)" if entry is not None and entry.synthetic else dataset


def data_note(record):
    """Returns what a trial's data were, as `images_note` says, and its caveats.

    Args:
        record: The trial's record.
    """
    return "; ".join([images_note(record), *caveats(record)])


def place_of(record):
    """Returns what a network was trained on, which network it is, and what of it was trained.

    Args:
        record: The trial's record.
    """
    part = record.get("fine_tune")
    trained = {None: "", HEAD: ", heads on frozen features", ALL: ", fine-tuned"}
    return f"{record['dataset']}, {record['model']}" + trained.get(part, f", top {part} layers fine-tuned")


def images_note(record):
    """Returns what a trial's data were: images, size, classes, whether they are a subset.

    Args:
        record: The trial's record.
    """
    entry = decathlon.CATALOG.get(record["dataset"])
    subset = ""
    if entry is not None and record["train_images"] != entry.counts["train"]:
        subset = (
            f" (a subset: the catalogue's has {entry.counts['train']:,} training images in {entry.classes} classes)"
        )
    return (
        f"{record['train_images']:,} training and {record['evaluation_images']:,} evaluation images of "
        f"{record['image_size']} px in {record['classes']} classes{subset}"
    )


def reversed_note(aurocs):
    """Returns, as a tuple of notes, what AUROCs below one half mean; an empty one where there are none."""
    return (REVERSED,) if (aurocs < 0.5).any(axis=None) else ()


def percent(values):
    """Returns fractions as percent: the one value, or mean ± standard deviation (n - 1 in the denominator)."""
    return _mean_and_deviation(100 * values, digits=2)


def plain(values):
    """Returns numbers as they are: the one value, or mean ± standard deviation (n - 1 in the denominator)."""
    return _mean_and_deviation(values, digits=4)


def thousandths(values):
    """Returns numbers with three digits: the one value, or mean ± standard deviation (n - 1 in the denominator)."""
    return _mean_and_deviation(values, digits=3)


def cell_of(values, form=percent, bold=False):
    """Returns the cell of a number per network; a dash where there are none."""
    values = values.dropna()
    if values.empty:
        return "–"
    return Bold(form(values)) if bold else form(values)


def printed_cell(value):
    """Returns the cell of a number that a paper prints; a dash where it prints none."""
    return "–" if value is None else f"{value:.2f}"


def _mean_and_deviation(values, digits):
    if len(values) == 1:
        return f"{values.iloc[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
