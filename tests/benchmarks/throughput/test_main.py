from importlib import import_module

import pytest

from benchmarks.throughput import __main__ as command
from benchmarks.throughput.race import RaceError


@pytest.fixture
def called(monkeypatch):
    """The functions that are called, with their networks."""
    found = []
    monkeypatch.setattr(command, "measure", lambda place, options: found.append((place, options.networks)))
    return found


def test_all_parts_are_measured_with_networks_of_their_own(called):
    assert command.main([]) == 0
    assert [place for place, _ in called] == [place for place, _ in command.PARTS.values()]
    assert dict(called)["steps:measure"] == ("resnet20v1", "resnet83v2", "wrn40-2", "densenet40-12")
    assert dict(called)["startup:measure_sweep"] == ("resnet20v1", "resnet83v2")


@pytest.mark.parametrize("place", [place for place, _ in command.PARTS.values()])
def test_each_part_is_a_function(place):
    module, function = place.split(":")
    assert callable(getattr(import_module(f"benchmarks.throughput.{module}"), function))


def test_parts_and_networks_can_be_chosen(called):
    assert command.main(["startup", "sweep", "--networks", "wrn10-1"]) == 0
    assert called == [("startup:measure_startup", ["wrn10-1"]), ("startup:measure_sweep", ["wrn10-1"])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "must be among steps, startup, sweep, measures, profile, roofline. Received: 'speed'"),
        (["steps", "--networks", "resnet9"], "argument --networks: invalid choice: 'resnet9'"),
        (["steps", "--forms", "theano"], "argument --forms: invalid choice: 'theano'"),
        (["steps", "--precisions", "float8"], "argument --precisions: invalid choice: 'float8'"),
        (["steps", "--seconds", "0"], "must be finite and above 0. Received: 0"),
        (["measures", "--classes", "1"], "must be at least 2. Received: 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("part", ["steps", "roofline"])
def test_a_data_set_that_is_not_prepared_ends_with_2(part, tmp_path, capsys):
    arguments = [part, "--datasets", "cifar10", "--data-dir", str(tmp_path), "--out", str(tmp_path / "out")]
    assert command.main(arguments) == 2
    assert "error: cifar10 is not prepared" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["steps", "profile"])
def test_a_batch_of_more_images_than_there_are_ends_with_2(part, tmp_path, capsys):
    arguments = [part, "--batch-sizes", "1438", "--image-size", "8", "--data-dir", str(tmp_path / "data")]
    assert command.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    message = "error: --batch-sizes must be at most 1437, the training images of colour_digits. Received: 1438.\n"
    assert capsys.readouterr().err == message


def test_an_out_that_is_a_file_ends_with_2(tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = ["steps", "--image-size", "8", "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "file")]
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_key_stops_it_with_130(monkeypatch, capsys):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", press)
    assert command.main(["steps"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_a_process_that_dies_ends_with_1(monkeypatch, capsys):
    def die(*_):
        raise RaceError("torch ended with exit code 9")

    monkeypatch.setattr(command, "measure", die)
    assert command.main(["steps"]) == 1
    assert capsys.readouterr().err == "error: torch ended with exit code 9\n"
