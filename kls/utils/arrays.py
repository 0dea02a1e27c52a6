"""Checks of arguments: an error names the argument, what is allowed and what was received."""

import math
import numbers
import reprlib
from contextlib import contextmanager

import numpy as np

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
SUM_TOLERANCE = 1e-2  # of probabilities: bfloat16 rounds each by up to 0.4 %


def check_number(value, name, allowed):
    """Returns a real number as a float.

    Args:
        value: What was received; a `bool` or a string is no number.
        name: Name of the argument.
        allowed: The interval that it must lie in, as text: `"[0, 1)"`, or `"(0, inf)"` for any finite number above 0.

    Raises:
        ValueError: If it is no number of the interval.

    Example:

    >>> check_number(1, "gamma", "(0, 1]")
    1.0
    """
    low, high = (float(end) for end in allowed[1:-1].split(","))
    number = _as_float(value)
    above = low <= number if allowed[0] == "[" else low < number
    below = number <= high if allowed[-1] == "]" else number < high
    if above and below:
        return number
    raise ValueError(f"`{name}` must be a number in {allowed}. Received: {name}={shown(value)}")


def check_whole(value, name, least, most=math.inf):
    """Returns a whole number as an `int`.

    Args:
        value: What was received; a `bool`, or a float such as 2.0, is no whole number.
        name: Name of the argument.
        least: The least that it may be.
        most: The most that it may be.

    Raises:
        ValueError: If it is no whole number from `least` to `most`.

    Example:

    >>> check_whole(np.int64(15), "bins", 1)
    15
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    allowed = f"of at least {least}" if most == math.inf else f"in {least}..{most}"
    raise ValueError(f"`{name}` must be a whole number {allowed}. Received: {name}={shown(value)}")


def check_choice(value, name, choices):
    """Returns a value that is one of the choices.

    Raises:
        ValueError: If it is none of them.

    Example:

    >>> check_choice("guo", "convention", ("guo", "netcal"))
    'guo'
    """
    choices = list(choices)
    for choice in choices:
        kind = numbers.Integral if isinstance(choice, int) else type(choice)
        if isinstance(value, kind) and not isinstance(value, bool) and value == choice:
            return choice
    raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={shown(value)}")


def check_bool(value, name):
    """Returns a truth value as a `bool`.

    Raises:
        ValueError: If it is anything else, such as the string `"False"`, which is true.

    Example:

    >>> check_bool(np.True_, "from_logits")
    True
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"`{name}` must be True or False. Received: {name}={shown(value)}")


def as_numbers(values, name):
    """Returns an array of real numbers, as it is where it is one already.

    Args:
        values: Array, tensor or nested lists of booleans, integers or floats.
        name: Name of the argument.

    Raises:
        ValueError: If it holds anything else (strings, objects, complex numbers), if its rows differ in length, or if
            it is a masked array, whose mask would be lost.

    Example:

    >>> as_numbers([[1, 2], [3, 4]], "logits").shape
    (2, 2)
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(f"`{name}` must not be masked: leave those samples out. Received: a masked array")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"`{name}` must be an array of numbers. Received: {name}={shown(values)}") from error
    if array.dtype.kind in "biuf" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        return array
    raise ValueError(
        f"`{name}` must be an array of real numbers. Received: an array of dtype {array.dtype}"
        if array.ndim
        else f"`{name}` must be an array of numbers. Received: {name}={shown(values)}"
    )


@contextmanager
def naming(what):
    """Puts a name before what is wrong with the thing of that name.

    Example:

    >>> with naming("noise"):
    ...     check_whole(0, "batch_size", 1)
    Traceback (most recent call last):
    ValueError: noise: `batch_size` must be a whole number of at least 1. Received: batch_size=0
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def shown(value):
    """Returns a value as an error shows it: its `repr`, shortened; of an array or tensor dtype and shape."""
    if hasattr(value, "dtype") and getattr(value, "shape", ()) != ():
        return f"<{type(value).__name__} of dtype {value.dtype}, shape {tuple(value.shape)}>"
    return _repr.repr(value)


def _as_float(value):
    """Returns a real number as a float, and NaN for anything else."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.nan
