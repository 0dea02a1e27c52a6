from importlib import import_module

import pytest

from benchmarks.throughput import __main__ as command
from benchmarks.throughput.workers import WorkerError


@pytest.fixture
def called(monkeypatch):
    """The functions that are called, with their networks."""
    found = []
    monkeypatch.setattr(command, "measure", lambda place, options: found.append((place, options.networks)))
    return found


def test_all_parts_are_measured_with_networks_of_their_own(called):
    assert command.main([]) == 0
    assert called == list(command.PARTS.values())
    for place, _ in called:
        module, function = place.split(":")
        assert callable(getattr(import_module(f"benchmarks.throughput.{module}"), function))


def test_parts_and_networks_can_be_chosen(called):
    assert command.main(["startup", "sweep", "--networks", "wrn10-1"]) == 0
    assert called == [("startup:measure_startup", ["wrn10-1"]), ("startup:measure_sweep", ["wrn10-1"])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "argument WHAT: must be among steps, startup, sweep, metrics, guards. Received: 'speed'"),
        (["steps", "--seconds", "0"], "must be finite and above 0. Received: 0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--datasets", "cifar10"], "cifar10 is not prepared"),
        (
            ["--batch-sizes", "1438"],
            "--batch-sizes must be at most 1437, the training images of digits. Received: 1438.",
        ),
    ],
)
def test_data_that_do_not_fit_end_with_2(arguments, message, tmp_path, capsys):
    assert command.main(["steps", *arguments, "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "Stopped.\n"),
        (WorkerError("torch ended with exit code 9"), 1, "error: torch ended with exit code 9\n"),
        (NotADirectoryError("out is a file"), 2, "error: out is a file\n"),
    ],
)
def test_the_exit_code_says_why_it_ended(error, code, message, monkeypatch, capsys):
    def fail(*_):
        raise error

    monkeypatch.setattr(command, "measure", fail)
    assert command.main(["steps"]) == code
    assert capsys.readouterr().err == message
