import sys
from pathlib import Path

import pytest

from benchmarks.throughput import peers
from benchmarks.throughput.peers.answering import WARM_UP_STEPS, prepare, resident
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


def test_a_round_lasts_as_long_as_asked_and_predicts_for_a_quarter():
    asked = []

    class Form:
        def train(self, steps):
            asked.append(steps)
            return 0.125

        infer = train

    found, one_round = prepare(Form, {"batch_size": 16, "seconds": 4})
    rates = one_round()
    assert found.keys() == {"prepare_seconds"}
    assert asked == [1, 1, WARM_UP_STEPS, WARM_UP_STEPS, 32, 8]
    assert rates["training"] == rates["inference"] == 16 / 0.125


def test_memory_is_in_bytes():
    assert 2**20 < resident("VmRSS") <= resident("VmHWM")
