"""Wrong calls of all that is public: each is refused in this project's own words, and valid ones are not.

The table is in `tests/wrong_calls`. An error must be a `ValueError` or a `TypeError`, of an index an `IndexError`, that
names the argument in backticks and shows what was received, or a `DataError` or `SourceError` of the data package. A
public callable without a row fails a test below.
"""

import importlib
import inspect
import pkgutil

import keras
import pytest

import decathlon
import kls
from kls.utils.arrays import shown

from .wrong_calls import CALLS, NEED_NO_ROW

ARGUMENTS = [(call, argument) for call in CALLS for argument in call.wrong]
DATA_MODULES = (
    *("augmentation", "batches", "mixing", "preparation", "selection", "store"),
    *("sources", "sources.folder", "sources.npz"),
)


@pytest.fixture(scope="module", autouse=True)
def _in_a_directory_of_its_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("wrong_calls"))
        patch.setenv("KLS_DATA", "data")
        yield


@pytest.fixture(scope="module", autouse=True)
def _eager():
    """Runs compiled functions as they stand: thousands of calls would each be traced."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_valid_call_works(call):
    call.run()


@pytest.mark.parametrize("call", [call for call in CALLS if call.as_numpy()], ids=lambda call: call.name)
def test_numpy_numbers_and_arrays_are_as_good_as_plain_ones(call):
    call.run(**call.as_numpy())


@pytest.mark.parametrize("call", [call for call in CALLS if call.fine], ids=lambda call: call.name)
def test_other_valid_values_are_accepted(call):
    for argument, values in call.fine.items():
        for value in values:
            call.run(**{argument: value})


@pytest.mark.parametrize(("call", "argument"), ARGUMENTS, ids=[f"{call.name}-{name}" for call, name in ARGUMENTS])
def test_wrong_values_are_refused(call, argument):
    faults = [(shown(value), call.fault(argument, value)) for value in call.wrong[argument]]
    report = [f"{argument}={value}: {fault}" for value, fault in faults if fault]
    assert not report, f"{len(report)} of {len(faults)} wrong values of {call.name}:\n" + "\n".join(report)


def test_the_table_holds_a_thousand_wrong_calls():
    assert sum(len(values) for call in CALLS for values in call.wrong.values()) >= 1000


def test_every_public_callable_has_a_row():
    have_rows = [value for call in CALLS for value in _named(call.name)]
    data_modules = [importlib.import_module(f"decathlon.{name}") for name in DATA_MODULES]
    found = dict(item for module in (*_modules(kls), decathlon, *data_modules) for item in _public_callables(module))
    lacking = {name for name, value in found.items() if not any(value is other for other in have_rows)}
    assert lacking == NEED_NO_ROW.keys()


def _named(name):
    """Returns what the row of a name is of; of a method its class too."""
    path = name.partition("(")[0]
    return [pkgutil.resolve_name(path), pkgutil.resolve_name(path.rpartition(".")[0])]


def _modules(module):
    """Returns a module and those that it lists in `__all__`, and so on."""
    listed = [getattr(module, name) for name in getattr(module, "__all__", ())]
    inner = [
        value for value in listed if inspect.ismodule(value) and value is not kls.study
    ]  # has wrong calls of its own
    return [module, *(found for value in inner for found in _modules(value))]


def _public_callables(module):
    """Returns `(place, value)` of the callables that a module lists in `__all__`, or defines by a public name."""
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    values = [getattr(module, name) for name in getattr(module, "__all__", defined) if not name.startswith("_")]
    callables = [value for value in values if inspect.isclass(value) or inspect.isfunction(value)]
    return [(f"{value.__module__}.{value.__qualname__}", value) for value in callables]
