import importlib.util
import sys

import pytest

from kls.utils.sources import definitions_hash

SOURCE = """
import math
from os.path import *
SIDE = 2 ** 5
AREA = SIDE * SIDE
try:
    import no_such_package as fast
except ImportError:
    fast = None
def rate(x):
    return math.sqrt(AREA) * x if fast is None else 1.0
OTHER = 3
class Mine:
    def call(self, x):
        return rate(x)
found = rate(1)
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
        ("sqrt(AREA) * x", "sqrt(AREA)"),
        ("return rate(x)", "return 1"),
        ("import math", "import cmath as math"),
        ("from os.path import *", ""),
    ],
)
def test_what_a_class_uses_in_its_module_counts(hash_of, old, new):
    assert hash_of(SOURCE.replace(old, new)) != hash_of(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [("print(found)", "print(2)"), ("rate(1)", "rate(2)"), ("OTHER = 3", "OTHER = 4"), ("* x if", "*  (x)  if")],
)
def test_what_else_a_module_does_and_its_layout_do_not(hash_of, old, new):
    assert hash_of(SOURCE.replace(old, new)) == hash_of(SOURCE)


def test_of_a_function_without_a_name_all_of_the_module_counts(hash_of):
    source = "f = lambda x: x\nOTHER = 3\n"
    assert hash_of(source, "f") != hash_of(source.replace("3", "4"), "f")


def test_code_without_a_source_is_refused():
    names = {"__name__": "nowhere"}
    exec("class Mine: pass", names)
    with pytest.raises(ValueError, match=r"put it into a module. Received: Mine of nowhere"):
        definitions_hash(names["Mine"])
