import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.throughput import peers
from benchmarks.throughput.peers.answering import plan_turn, resident
from benchmarks.throughput.race import RaceError, Racer, alternate

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(peers.__file__).parent)!r})
from answering import answer

def prepare():
    print("chatter of a library")
    turns = iter((sys.argv[1] * n for n in range(1, 3)))
    return {{"prepared": sys.argv[1]}}, lambda: {{"turn": next(turns)}}

answer(prepare)
"""


@pytest.fixture
def race(tmp_path):
    """Returns a function that starts racers by name."""
    racers = []

    def start(*names):
        racers.extend(Racer(name, [sys.executable, "-c", PROGRAM, name], tmp_path / f"{name}.log") for name in names)
        return dict(zip(names, racers, strict=True))

    yield start
    for racer in racers:
        racer.__exit__(None, None, None)


def test_racers_take_turns_after_they_are_prepared(race, tmp_path):
    racers = race("a", "b")
    assert [racer.ask() for racer in racers.values()] == [{"prepared": "a"}, {"prepared": "b"}]
    turns = [(number, name, answer["turn"]) for number, name, answer in alternate(racers, 2)]
    assert turns == [(1, "a", "a"), (1, "b", "b"), (2, "a", "aa"), (2, "b", "bb")]
    assert "chatter of a library" in (tmp_path / "a.log").read_text()


def test_an_error_quotes_the_log_of_a_process_that_died(race, tmp_path):
    racer = race("a")["a"]
    for _ in range(3):
        racer.ask()
    with pytest.raises(RaceError, match=r"a ended with exit code 1. The end of .*a\.log:\n(.*\n)+StopIteration"):
        racer.ask()
    with pytest.raises(RaceError, match="a ended with exit code 1"):
        racer.ask()


@settings(max_examples=20)
@given(seconds=st.floats(0.01, 10), step=st.floats(0.001, 10), longest=st.integers(1, 100))
def test_a_turn_lasts_long_enough_and_not_a_pass_longer(seconds, step, longest):
    steps, passes = plan_turn(seconds, step, longest)
    assert 1 <= steps <= longest
    assert steps * passes * step >= seconds * (1 - 1e-9)
    assert passes == 1 or steps * (passes - 1) * step < seconds


def test_memory_is_in_bytes():
    assert 2**20 < resident("VmRSS") <= resident("VmHWM")
