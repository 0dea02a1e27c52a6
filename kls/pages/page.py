"""A page of sections as one HTML file that needs nothing else, and the data behind it as files beside it."""

from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from urllib.parse import quote

from kls.utils.arrays import shown
from kls.utils.escaping import csv_of
from kls.utils.files import as_path, write_atomically
from kls.version import __version__


@dataclass(frozen=True)
class File:
    """A file beside the page.

    Attributes:
        name: Its name.
        text: What it holds.
    """

    name: str
    text: str

    @classmethod
    def of_frame(cls, name, frame):
        """Returns the CSV file of a `pandas.DataFrame`, called `NAME.csv`."""
        return cls(f"{name}.csv", csv_of(frame))


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: What it says.
        look: `"lead"` for what is read first, `"note"` for what is read last, `"caveat"` for a warning.
    """

    text: str
    look: str = ""
    file: None = None
    kind = "text"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        look: `"better"`, `"worse"`, `"same"`, `"unknown"` or `"bold"`.
    """

    text: str
    look: str = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        caption: What it shows, with n.
        header: Names of the columns.
        rows: Cells, each a string or a `Cell`.
        file: The `File` of its unrounded numbers.
        notes: Sentences to stand below.
    """

    caption: str
    header: tuple
    rows: tuple
    file: File | None = None
    notes: tuple = ()
    kind = "grid"

    @property
    def cells(self):
        """The rows with every cell as a `Cell`, whose numbers keep their deviations on the line."""
        found = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]
        return [[replace(cell, text=cell.text.replace(" ± ", "\xa0±\xa0")) for cell in row] for row in found]


@dataclass(frozen=True)
class Figures:
    """Figures side by side, one below the other on a narrow screen.

    Attributes:
        figures: Pairs of a sentence that says what is seen, for those who cannot see it, and the SVG text.
        caption: What they show.
        file: The `File` of their numbers.
        key: Pairs of the look and the text of what stands for what.
    """

    figures: tuple
    caption: str
    file: File | None = None
    key: tuple = ()
    kind = "figures"


@dataclass(frozen=True)
class Picture:
    """A small image with what is to be read below it.

    Attributes:
        uri: Its `data:` URI.
        lines: The lines of text.
        is_small: Whether it has fewer pixels than are shown.
    """

    uri: str
    lines: tuple
    is_small: bool


@dataclass(frozen=True)
class Pictures:
    """Rows of `Picture`s.

    Attributes:
        pictures: These.
        caption: What they show.
        file: The `File` of what is known of them.
    """

    pictures: tuple
    caption: str
    file: File | None = None
    kind = "pictures"


@dataclass(frozen=True)
class Code:
    """A text to copy.

    Attributes:
        text: The text.
        caption: What it is.
        file: The `File` that holds it too.
    """

    text: str
    caption: str = ""
    file: File | None = None
    kind = "code"


@dataclass(frozen=True)
class Section:
    """Parts under one heading.

    Attributes:
        title: The heading.
        parts: `Text`, `Grid`, `Figures`, `Pictures` and `Code`.
    """

    title: str
    parts: tuple


@dataclass(frozen=True)
class Chapter:
    """Sections under one heading.

    Attributes:
        title: The heading.
        sections: The `Section`s.
        summary: What is found in them, for the list of several chapters.
    """

    title: str
    sections: tuple
    summary: str = ""


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: Its title.
        about: Paragraphs that stand before all chapters.
        chapters: The `Chapter`s.
    """

    title: str
    about: tuple
    chapters: tuple

    @cached_property
    def files(self):
        """The `File`s behind its parts, each once."""
        parts = [part for chapter in self.chapters for section in chapter.sections for part in section.parts]
        return list(dict.fromkeys(part.file for part in parts if part.file is not None))

    def html(self, folder):
        """Returns the page.

        Args:
            folder: Name of the folder of its files, for the links to them.
        """
        from jinja2 import Environment, StrictUndefined

        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
        environment.filters["url"] = quote
        template = environment.from_string(resources.files("kls.pages").joinpath("page.html").read_text("utf-8"))
        return template.render(page=self, folder=folder, version=__version__)

    def write(self, path):
        """Writes the page, and its files into the folder of the same name without `.html`.

        Args:
            path: Path of the page.

        Raises:
            ValueError: If `path` is no path that ends in `.html`.
            OSError: If a file cannot be written.
        """
        path = page_path(path)
        folder = path.with_suffix("")
        for file in self.files:
            write_atomically(folder / file.name, file.text)
        write_atomically(path, self.html(folder.name))


def page_path(path):
    """Returns the path of a page; raises `ValueError` unless it is one that ends in `.html`.

    Example:

    >>> page_path("runs/mine.html").name
    'mine.html'
    """
    found = as_path(path, "path")
    if found.suffix != ".html":
        raise ValueError(f"`path` must end in .html. Received: path={shown(path)}")
    return found
