"""What the commands do before they import Keras, each in a process of its own."""

import os
import subprocess
import sys

import pytest

HEAVY = ("keras", "tensorflow", "jax", "torch", "kls", "pandas", "matplotlib", "scipy", "sklearn")
SCRIPT = f"""
import runpy, sys
del sys.argv[0]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print(sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
"""
STUDIES = [f"benchmarks.{name}" for name in ("decathlon", "ood", "ldl", "mnist_zero")]
COMMANDS = [*STUDIES, "benchmarks.tables", "benchmarks.throughput", "decathlon"]


def run(*arguments, **environment):
    environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_no_keras(command):
    ended = run("-c", SCRIPT, command, "--help")
    assert ended.returncode == 0
    assert ended.stdout.startswith(f"usage: python -m {command}")
    assert ended.stderr == "[]\n"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        *((command, ["--epochs", "0"]) for command in STUDIES),
        ("benchmarks.tables", []),
        ("benchmarks.tables", ["run", "--bins", "x"]),
        ("benchmarks.throughput", ["steps", "--seconds", "0"]),
        ("decathlon", ["prepare"]),
    ],
)
def test_wrong_arguments_are_told_before_keras_is_imported(command, arguments):
    ended = run("-c", SCRIPT, command, *arguments)
    assert ended.returncode == 2
    *_, message, imported = ended.stderr.splitlines()
    assert message.startswith(f"python -m {command}")
    assert "error: " in message
    assert imported == "[]"


@pytest.mark.parametrize(("setting", "expected"), [(None, "1"), ("0", "0")])
def test_commands_turn_onednn_on_unless_it_is_set(setting, expected):
    script = "import os, benchmarks; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    assert run("-c", script, TF_ENABLE_ONEDNN_OPTS=setting).stdout == f"{expected}\n"


def test_the_library_leaves_onednn_alone():
    script = "import os, kls; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    assert run("-c", script, TF_ENABLE_ONEDNN_OPTS=None).stdout == "None\n"
