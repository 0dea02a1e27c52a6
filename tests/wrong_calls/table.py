"""What a row of the table is: a call that works, and for each of its arguments the values that it must refuse."""

import inspect
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from decathlon.sources import SourceError
from decathlon.store import DataError
from kls.utils.arrays import shown

OWN_PACKAGES = ("kls", "decathlon")


@dataclass(frozen=True)
class Made:
    """A value that is made when a call needs it, such as a model or a file.

    Attributes:
        words: What a report calls it.
        make: Makes it, for each call anew.
    """

    words: str
    make: Callable

    def __repr__(self):
        return self.words


@dataclass(frozen=True)
class Call:
    """A callable, a call of it that works, and what it must refuse and accept.

    Attributes:
        name: What reports call it.
        function: What is called, with keywords alone.
        valid: Arguments that work.
        wrong: `{argument: values}`, each of which makes the call wrong in the place of the valid one.
        fine: `{argument: values}`, each of which must be accepted likewise.
        says: `{argument: other names}` that an error may use for the argument.
        answers: What is an answer to nonsense besides an error: `"nan"` for a result of NaN, which compiled code gives
            since it cannot raise, `"warning"` for a warning that names the argument.
    """

    name: str
    function: Callable
    valid: dict = field(default_factory=dict)
    wrong: dict = field(default_factory=dict)
    fine: dict = field(default_factory=dict)
    says: dict = field(default_factory=dict)
    answers: tuple = ()

    def run(self, **changed):
        return self.function(**{name: _made(value) for name, value in (self.valid | changed).items()})

    def as_numpy(self):
        """Returns the plain numbers and lists of numbers of the valid call, defaults included, as NumPy has them."""
        parameters = inspect.signature(self.function).parameters
        defaults = {name: parameters[name].default for name in self.wrong if self.valid and name in parameters}
        twins = {name: _twin(value) for name, value in (defaults | self.valid).items()}
        return {name: twin for name, twin in twins.items() if twin is not None}

    def fault(self, argument, value):
        """Returns how the call failed to refuse a wrong value, or `None` if it refused it as it must."""
        names = [f"`{name}`" for name in (argument, *self.says.get(argument, ()))]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = self.run(**{argument: value})
            except Exception as error:
                return None if _is_clear(error, names) else f"{_place(error)}{type(error).__name__}: {_line(error)}"
        if "warning" in self.answers and any(name in str(warning.message) for warning in caught for name in names):
            return None
        if "nan" in self.answers and np.isnan(float(result)):
            return None
        return f"accepted: {shown(result)}"


def _twin(value):
    """Returns what NumPy has for a plain number or for a list of numbers, `None` for anything else."""
    if isinstance(value, bool | int | float):
        return {bool: np.bool_, int: np.int64, float: np.float32}[type(value)](value)
    is_numeric = isinstance(value, list) and value and np.asarray(value).dtype.kind in "if"
    return np.asarray(value) if is_numeric else None


def _made(value):
    return value.make() if isinstance(value, Made) else value


def _is_clear(error, names):
    """Whether this project wrote the error, and it tells which argument is wrong and what was received."""
    if isinstance(error, DataError | SourceError):
        return not _place(error)
    return (
        isinstance(error, ValueError | TypeError | IndexError)
        and any(name in str(error) for name in names)
        and "Received" in str(error)
    )


def _place(error):
    """Returns the package that an error comes from, `""` for one of our own."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    root = Path(__file__).parents[2]
    if any(Path(frame.filename).is_relative_to(root / package) for package in OWN_PACKAGES):
        return ""
    parts = Path(frame.filename).parts
    package = parts[parts.index("site-packages") + 1] if "site-packages" in parts else "Python"
    return f"[{package}] "


def _line(error):
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else f"{text[:160]}..."
