"""Keeps TensorFlow's start-up messages off the screen."""

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

CHATTER = re.compile(
    r"^(WARNING: All log messages before absl::InitializeLog|[IW]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] "
    r"|To enable the following instructions)"
)
NO_GPU = re.compile(r"failed call to cuInit")


@contextlib.contextmanager
def quiet_tensorflow():
    """Holds back what TensorFlow writes while it starts, then passes on everything but information and warnings.

    The log level that TensorFlow reads from the environment does not reach what it says before it has read it,
    so the start itself is wrapped: import TensorFlow within. Errors come through, save the one about a missing
    CUDA driver where there is none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            for line in held.read().decode(errors="replace").splitlines():
                if not _is_chatter(line):
                    print(line, file=sys.stderr)


def import_keras():
    """Imports Keras, with TensorFlow and its devices where that is the backend, without their chatter."""
    with quiet_tensorflow():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices()


def _is_chatter(line):
    return bool(CHATTER.match(line) or (NO_GPU.search(line) and not Path("/proc/driver/nvidia").exists()))
