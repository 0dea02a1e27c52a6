import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.throughput import peers
from benchmarks.throughput.peers.answering import plan_round, resident
from benchmarks.throughput.workers import WorkerError, alternate

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(peers.__file__).parent)!r})
from answering import answer

def prepare():
    print("chatter of a library")
    rounds = iter((sys.argv[1] * n for n in range(1, 3)))
    return {{"prepared": sys.argv[1]}}, lambda: {{"found": next(rounds)}}

answer(prepare)
"""


def command(name):
    return [sys.executable, "-c", PROGRAM, name]


def test_workers_alternate_after_they_are_prepared(tmp_path):
    answers = list(alternate({"a": command("a"), "b": command("b")}, 2, tmp_path))
    assert answers[:2] == [(0, "a", {"prepared": "a"}), (0, "b", {"prepared": "b"})]
    rounds = [(number, name, answer["found"]) for number, name, answer in answers[2:]]
    assert rounds == [(1, "a", "a"), (1, "b", "b"), (2, "a", "aa"), (2, "b", "bb")]
    assert "chatter of a library" in (tmp_path / "a.log").read_text()


def test_an_error_quotes_the_log_of_a_process_that_died(tmp_path):
    with pytest.raises(WorkerError, match=r"a ended with exit code 1. The end of .*a\.log:\n(.*\n)+StopIteration"):
        list(alternate({"a": command("a")}, 3, tmp_path))


@settings(max_examples=20)
@given(seconds=st.floats(0.01, 10), step=st.floats(0.001, 10), longest=st.integers(1, 100))
def test_a_round_lasts_long_enough_and_not_a_pass_longer(seconds, step, longest):
    steps, passes = plan_round(seconds, step, longest)
    assert 1 <= steps <= longest
    assert steps * passes * step >= seconds * (1 - 1e-9)
    assert passes == 1 or steps * (passes - 1) * step < seconds


def test_memory_is_in_bytes():
    assert 2**20 < resident("VmRSS") <= resident("VmHWM")
