"""What is held back while TensorFlow starts, and what is not."""

import os

import pytest

from decathlon import quiet
from decathlon.quiet import quiet_tensorflow

CHATTER = [
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1700000000.000000    1 port.cc:153] oneDNN custom operations are on.",
    "W0000 00:00:1700000000.000000    1 gpu_device.cc:2342] Cannot dlopen some GPU libraries.",
    "2024-01-02 03:04:05.678901: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.",
    "2024-01-02 03:04:05.678901: W tensorflow/stream_executor/cuda.cc:1] Unable to register cuFFT factory.",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow.",
]
NO_GPU = "E0000 00:00:1.0   1 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)"


def write_to_screen(line):
    os.write(2, f"{line}\n".encode())


@pytest.mark.parametrize("line", CHATTER)
def test_chatter_is_held_back(line, capfd):
    with quiet_tensorflow():
        write_to_screen(line)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "line",
    [
        "E0000 00:00:1700000000.000000    1 gpu.cc:1] out of memory",
        "2024-01-02 03:04:05.678901: E tensorflow/core/gpu.cc:1] out of memory",
        "2024-01-02 03:04:05.678901: F tensorflow/core/gpu.cc:1] Check failed",
        "Illegal instruction",
        "Warning: something of another library",
    ],
)
def test_errors_and_foreign_lines_come_through(line, capfd):
    with quiet_tensorflow():
        write_to_screen(line)
    assert capfd.readouterr().err == f"{line}\n"


def test_nothing_shows_before_the_end_and_order_is_kept(capfd):
    with quiet_tensorflow():
        write_to_screen("one")
        write_to_screen("two")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err.splitlines() == ["one", "two"]


@pytest.mark.parametrize(("has_driver", "shown"), [(True, f"{NO_GPU}\n"), (False, "")])
def test_missing_gpu_is_reported_only_where_there_is_a_driver(has_driver, shown, capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(quiet, "Path", lambda _: tmp_path if has_driver else tmp_path / "absent")
    with quiet_tensorflow():
        write_to_screen(NO_GPU)
    assert capfd.readouterr().err == shown


def test_a_failed_start_gives_the_screen_back_and_raises(capfd):
    @quiet_tensorflow()
    def fail_to_start():
        write_to_screen("reason")
        raise ImportError("no such library")

    with pytest.raises(ImportError, match="no such library"):
        fail_to_start()
    write_to_screen("after")
    assert capfd.readouterr().err == "reason\nafter\n"


def test_bytes_that_are_no_text_do_not_break_it(capfd):
    with quiet_tensorflow():
        os.write(2, b"\xff\xfe broken\n")
    assert "broken" in capfd.readouterr().err


def test_log_level_is_set_unless_the_user_chose_one(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with quiet_tensorflow():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet_tensorflow():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
