"""How the packages stand to each other: imports go one way, tests mirror the packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
START = ROOT / "kls" / "utils" / "start.py"  # quietens TensorFlow before Keras is imported, by the data package's means


def modules(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def imported(path):
    """Returns the names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(path):
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", modules("decathlon"), ids=lambda path: path.name)
def test_data_know_nothing_of_the_library(path):
    assert packages(path).isdisjoint({"kls", "benchmarks"})


@pytest.mark.parametrize("path", modules("kls"), ids=lambda path: path.name)
def test_the_library_knows_data_in_studies_alone(path):
    found = imported(path)
    assert not any(name.partition(".")[0] == "benchmarks" for name in found)
    within = path.relative_to(ROOT / "kls")
    if within.parts[0] not in ("study", "commands.py", "__main__.py") and path != START:
        assert not any(name.partition(".")[0] == "decathlon" for name in found)
        assert within.name == "__init__.py" or not any(name.startswith("kls.study") for name in found)


@pytest.mark.parametrize("path", modules("examples"), ids=lambda path: path.name)
def test_examples_know_what_users_install_alone(path):
    assert packages(path).isdisjoint({"benchmarks", "tests", "examples"})


@pytest.mark.parametrize("path", modules("tests/kls"), ids=lambda path: path.name)
def test_the_librarys_tests_know_no_paper(path):
    assert "benchmarks" not in packages(path)


@pytest.mark.parametrize("path", modules("kls/study/methods"), ids=lambda path: path.name)
def test_methods_know_nothing_of_the_engine(path):
    engine = {name for name in imported(path) if name.startswith("kls.study")}
    assert all(name.startswith("kls.study.methods") for name in engine)


def test_the_engine_asks_no_method_for_its_name():
    engine = [path for path in modules("kls/study") if "methods" not in path.parts]
    names = {"label_smoothing", "cross_entropy", "outlier_exposure", "distillation", "overfitting", "denoising"}
    texts = {
        node.value
        for path in engine
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not names & texts


@pytest.mark.parametrize("path", modules("tests"), ids=lambda path: path.name)
def test_names_of_tests_say_the_case_in_sixty_characters(path):
    functions = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    too_long = [name for name in functions if name.startswith("test_") and len(name.removeprefix("test_")) > 60]
    assert too_long == []
