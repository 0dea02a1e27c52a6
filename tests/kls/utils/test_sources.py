import importlib.util
import sys

import pytest

from kls.utils.sources import definitions_hash

SOURCE = """
import math
RATE = 0.1
def rate(x):
    return RATE * x
class Mine:
    pass
if __name__ == "__main__":
    print(rate(1))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Returns a function that imports a text as a module."""

    def load(text, name="own_module"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        specification = importlib.util.spec_from_file_location(name, path)
        loaded = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, loaded)
        specification.loader.exec_module(loaded)
        return loaded

    return load


@pytest.mark.parametrize(
    ("old", "new"), [("RATE = 0.1", "RATE = 0.2"), ("RATE * x", "x"), ("    pass", "    a = 1"), ("import math", "")]
)
def test_what_is_defined_beside_a_class_counts(module, old, new):
    first = definitions_hash(module(SOURCE).Mine)
    assert definitions_hash(module(SOURCE.replace(old, new)).Mine) != first


@pytest.mark.parametrize(("old", "new"), [("print(rate(1))", "print(2)"), ("RATE * x", "RATE*x  # faster")])
def test_what_a_script_does_and_its_layout_do_not(module, old, new):
    first = definitions_hash(module(SOURCE).rate)
    assert definitions_hash(module(SOURCE.replace(old, new)).rate) == first


def test_code_without_a_source_is_refused():
    names = {"__name__": "nowhere"}
    exec("class Mine: pass", names)
    with pytest.raises(ValueError, match=r"put it into a module. Received: Mine of nowhere"):
        definitions_hash(names["Mine"])
