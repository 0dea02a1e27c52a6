"""Checks of arguments: what passes, and what is refused with its name, what is allowed and what was received."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from decathlon import arguments
from decathlon.arguments import check_array, check_kind, check_number, check_path, check_whole, shown
from kls.utils import arrays

NO_NUMBERS = (None, "1", True, 1j, float("nan"), float("inf"), 10**400, np.ones(2), [1])


@pytest.mark.parametrize("value", [0, 0.25, np.float32(0.25), np.int64(0), Fraction(1, 4)])
def test_number_of_the_interval_is_returned_as_a_float(value):
    assert check_number(value, "share", "[0, 0.5)") == float(value)
    assert type(check_number(value, "share", "[0, 0.5)")) is float


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 0.5])
def test_number_outside_or_of_another_type_is_refused(value):
    with pytest.raises(ValueError, match=r"^`share` must be a number in \[0, 0.5\)\. Received: share="):
        check_number(value, "share", "[0, 0.5)")


@pytest.mark.parametrize("value", [8, 1024, np.uint16(9)])
def test_whole_number_is_returned_as_an_int(value):
    assert type(check_whole(value, "size", 8, 1024)) is int


@pytest.mark.parametrize("value", [*NO_NUMBERS, 7, 1025, 8.0, "8/../x"])
def test_whole_number_outside_or_of_another_type_is_refused(value):
    with pytest.raises(ValueError, match=r"^`size` must be a whole number in 8\.\.1024\. Received: size="):
        check_whole(value, "size", 8, 1024)


def test_wording_is_that_of_the_library():
    calls = [
        ("check_number", "x", "share", "(0, inf)"),
        ("check_whole", -1, "seed", 0),
        ("check_whole", "9", "n", 1, 5),
    ]
    for name, *given in calls:
        messages = []
        for module in (arguments, arrays):
            with pytest.raises(ValueError, match="must be") as caught:
                getattr(module, name)(*given)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_other_kinds_masked_arrays_and_empty_paths_are_refused():
    assert check_kind("a", "text", str, "a string") == "a"
    assert check_path("a/b", "path") == Path("a/b")
    with pytest.raises(ValueError, match=r"`text` must be a string\. Received: text=5"):
        check_kind(5, "text", str, "a string")
    for path in ("", 5, None):
        with pytest.raises(ValueError, match=r"`path` must be a path\. Received: path="):
            check_path(path, "path")
    for array in ([1, 2], np.ma.masked_array([1, 2], [0, 1]), None):
        with pytest.raises(ValueError, match=r"`labels` must be a NumPy array without a mask\. Received: labels="):
            check_array(array, "labels")


def test_what_was_received_is_shown_in_short():
    assert shown(np.zeros((9, 9))) == "<ndarray of dtype float64, shape (9, 9)>"
    assert len(shown("x" * 10_000)) < 100
