"""How the papers' commands start, each in a process of its own."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, runpy, sys

class Watch:
    def find_spec(name, path=None, target=None):
        if name == "keras":
            print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), file=sys.stderr)

sys.meta_path.insert(0, Watch)
command = sys.argv[1]
sys.argv = ["-m", "--help"]  # as `python -m` has them while it looks for the command
runpy.run_module(command, run_name="__main__", alter_sys=True)
"""


def run(*arguments, **environment):
    environment = {name: value for name, value in (os.environ | environment).items() if value is not None}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("paper", "setting", "expected"), [("ldl", None, "1"), ("decathlon", "0", "0")])
def test_onednn_is_on_before_keras_and_nothing_else_is_said(paper, setting, expected):
    ended = run("-c", SCRIPT, f"benchmarks.{paper}", TF_ENABLE_ONEDNN_OPTS=setting, TF_CPP_MIN_LOG_LEVEL=None)
    assert (ended.returncode, ended.stderr) == (0, f"{expected}\n")
    assert ended.stdout.startswith(f"usage: python -m benchmarks.{paper}")


def test_the_library_leaves_onednn_alone():
    script = "import os, benchmarks; print(os.environ.get('TF_ENABLE_ONEDNN_OPTS'))"
    assert run("-c", script, TF_ENABLE_ONEDNN_OPTS=None).stdout == "None\n"
