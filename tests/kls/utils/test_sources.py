import importlib.util
import sys

import pytest

from kls.utils.sources import definitions_hash

SOURCE = """
import contextlib
import math
from os.path import *
SIDE = 2 ** 5
AREA = SIDE * SIDE
OPTIONS = {"factor": 1}
OPTIONS["factor"] = 2
OPTIONS.update(shift=5)
class Settings:
    pass
Settings.power = 6
setattr(Settings, "scale", 7)
def configure(value):
    global LATER
    LATER = value
configure(8)
match (9, 10):
    case first, [*others]:
        pass
    case first, second:
        pass
try:
    import no_such_package as fast
except ImportError:
    fast = None
    def slow(x):
        return 11 * x
async def waits():
    return 12
def rate(x):
    chosen = slow(x) if fast is None else len(waits.__name__)
    return math.sqrt(AREA) * chosen + OPTIONS["factor"] + Settings.power + LATER + first + second
OTHER = 3
class Mine:
    def call(self, x):
        return rate(x)
@contextlib.contextmanager
def wrapped():
    yield 13
found = rate(1)
print(OTHER)
if __name__ == "__main__":
    print(found)
"""


@pytest.fixture
def hash_of(tmp_path, monkeypatch):
    """Returns a function that imports a text as a module, and returns the hash of one of its names."""

    def load(text, name="Mine"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        specification = importlib.util.spec_from_file_location("own_module", path)
        loaded = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, "own_module", loaded)
        specification.loader.exec_module(loaded)
        return definitions_hash(getattr(loaded, name))

    return load


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 ** 5", "2 ** 6"),
        ("SIDE * SIDE", "SIDE + SIDE"),
        ("fast = None", "fast = 1"),
        ("sqrt(AREA) * chosen", "sqrt(AREA)"),
        ("return rate(x)", "return 1"),
        ("import math", "import cmath as math"),
        ("from os.path import *", ""),
        ("= 2\n", "= 4\n"),
        ("shift=5", "shift=6"),
        ("power = 6", "power = 7"),
        ('"scale", 7', '"scale", 8'),
        ("configure(8)", "configure(9)"),
        ("(9, 10)", "(9, 11)"),
        ("11 * x", "12 * x"),
        ("return 12", "return 13"),
    ],
)
def test_what_a_class_uses_in_its_module_counts(hash_of, old, new):
    assert SOURCE.count(old) == 1
    assert hash_of(SOURCE.replace(old, new)) != hash_of(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("print(found)", "print(2)"),
        ("print(OTHER)", "print(1)"),
        ("found = rate(1)", "found = rate(2)"),
        ("OTHER = 3", "OTHER = 4"),
        ("yield 13", "yield 14"),
        ("* chosen", "*  (chosen)"),
    ],
)
def test_what_else_a_module_does_and_its_layout_do_not(hash_of, old, new):
    assert SOURCE.count(old) == 1
    assert hash_of(SOURCE.replace(old, new)) == hash_of(SOURCE)


def test_what_a_decorator_of_another_module_wraps_counts(hash_of):
    assert hash_of(SOURCE.replace("yield 13", "yield 14"), "wrapped") != hash_of(SOURCE, "wrapped")


def test_of_a_function_without_a_name_all_of_the_module_counts(hash_of):
    source = "f = lambda x: x\nOTHER = 3\n"
    assert hash_of(source, "f") != hash_of(source.replace("3", "4"), "f")


def test_code_without_a_source_is_refused():
    names = {"__name__": "nowhere"}
    exec("class Mine: pass", names)
    with pytest.raises(ValueError, match=r"put it into a module. Received: Mine of nowhere"):
        definitions_hash(names["Mine"])
