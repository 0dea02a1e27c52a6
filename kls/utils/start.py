"""How a command starts: its parts of TensorFlow are set before Keras is imported, and without chatter."""

import multiprocessing
import os
import sys
from pathlib import Path


def start_as_command():
    """Imports Keras as a command wants it, in `kls`, `python -m kls`, a paper's command and the workers of a study.

    TensorFlow leaves oneDNN off on processors without AVX-512, where it trains 1.4 to 1.8 times as fast with it.
    """
    is_command = Path(sys.argv[0]).stem in ("-m", "kls")
    if is_command:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if is_command or multiprocessing.current_process().name != "MainProcess":
        from decathlon.quiet import import_keras

        import_keras()
