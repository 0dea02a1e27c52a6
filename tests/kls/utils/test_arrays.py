import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kls.utils.arrays import as_numbers, check_bool, check_choice, check_number, check_whole, shown

NO_NUMBERS = [None, "1", b"1", True, np.True_, [1.0], (), {}, 1j, float("nan"), np.zeros((2, 3)), object()]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"`rate` must be a number in \[0, inf\). Received: rate="):
        check_number(value, "rate", "[0, inf)")
    with pytest.raises(ValueError, match=r"`count` must be a whole number of at least 1. Received: count="):
        check_whole(value, "count", 1)


@given(value=st.floats(allow_nan=False), low=st.integers(-5, 5), length=st.integers(1, 5))
def test_intervals_hold_and_leave_out_their_ends(value, low, length):
    high = low + length
    for allowed, inside in {
        f"[{low}, {high}]": low <= value <= high,
        f"({low}, {high}]": low < value <= high,
        f"[{low}, {high})": low <= value < high,
        f"({low}, {high})": low < value < high,
    }.items():
        if inside:
            assert check_number(value, "x", allowed) == value
        else:
            with pytest.raises(ValueError, match="`x` must be a number in"):
                check_number(value, "x", allowed)


def test_an_integer_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match=r"`rate` must be a number in \[0, inf\). Received: rate=1000"):
        check_number(10**400, "rate", "[0, inf)")


@pytest.mark.parametrize(("allowed", "end"), [("[0, 1)", 0), ("(0, 1]", 1), ("[0, inf]", float("inf"))])
def test_a_closed_end_belongs_to_the_interval(allowed, end):
    assert check_number(end, "x", allowed) == end


@pytest.mark.parametrize(("allowed", "end"), [("(0, 1)", 0), ("(0, 1)", 1), ("[0, inf)", float("inf"))])
def test_an_open_end_does_not_belong_to_the_interval(allowed, end):
    with pytest.raises(ValueError, match="Received: x="):
        check_number(end, "x", allowed)


def test_numpy_scalars_become_pythons_numbers():
    assert type(check_number(np.float32(0.5), "x", "[0, 1]")) is float
    assert type(check_whole(np.uint8(3), "x", 1)) is int


@pytest.mark.parametrize("value", [0, 11, 2.0, np.float32(2)])
def test_whole_numbers_have_a_least_and_a_most(value):
    with pytest.raises(ValueError, match=r"`bins` must be a whole number in 1..10. Received: bins="):
        check_whole(value, "bins", 1, 10)


def test_a_choice_is_returned_as_it_was_offered():
    assert type(check_choice(np.str_("guo"), "convention", ("guo", "netcal"))) is str


@pytest.mark.parametrize("value", ["Guo", None, True, ["guo"], np.array(["guo"])])
def test_what_is_no_choice_is_refused(value):
    with pytest.raises(ValueError, match=r"`norm` must be one of 1, 'guo'. Received: norm="):
        check_choice(value, "norm", (1, "guo"))


@pytest.mark.parametrize("value", [True, False, np.True_])
def test_a_truth_value_is_returned_as_a_bool(value):
    assert check_bool(value, "from_logits") is bool(value)


@pytest.mark.parametrize("value", ["False", 0, 1, None, [], np.array([True])])
def test_what_is_no_truth_value_is_refused(value):
    with pytest.raises(ValueError, match=r"`from_logits` must be True or False\. Received: from_logits="):
        check_bool(value, "from_logits")


NO_ARRAYS = [None, "abc", {1: 2}, [[1], [1, 2]], ["1"], [1j], [None], [object()], np.array(["2020"], "M8[Y]")]


@pytest.mark.parametrize(
    "values",
    [*NO_ARRAYS, np.ma.array([1])],
    ids=lambda values: type(values).__name__,
)
def test_what_is_no_array_of_numbers_is_refused(values):
    with pytest.raises(ValueError, match="`logits` must"):
        as_numbers(values, "logits")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float32", "float64"])
def test_arrays_and_tensors_of_numbers_pass(dtype):
    tensor = keras.ops.cast(keras.ops.ones((2, 3)), dtype)
    assert as_numbers(tensor, "x").shape == (2, 3)
    array = np.asarray(tensor)
    assert as_numbers(array, "x") is array


def test_errors_show_little_of_what_is_large():
    assert shown(np.zeros((5, 7), np.float32)) == "<ndarray of dtype float32, shape (5, 7)>"
    assert len(shown("a" * 1000)) < 100
    assert shown("a\nb") == r"'a\nb'"
