"""The gamma study with a watch on it: `python -m benchmarks.throughput.watched_study FILE ARGUMENTS ...`.

Runs `python -m benchmarks.decathlon ARGUMENTS ...` and writes to FILE, as JSON, when it was imported and, of each
trial, when it began, when `fit` did, when its first training step ended and when its last one did: seconds since 1970.
"""

import json
import sys
import time
from pathlib import Path

import keras

from benchmarks import decathlon
from benchmarks.runner.store import RunStore


def watch():
    """Returns a list that each trial trained from now on adds `{"begin", "fit", "first", "last"}` to."""
    trials = []
    begin, fit, batch_end = RunStore.begin, keras.Model.fit, keras.callbacks.CallbackList.on_train_batch_end

    def watched_begin(*args, **kwargs):
        trials.append({"begin": time.time()})
        return begin(*args, **kwargs)

    def watched_fit(*args, **kwargs):
        trials[-1]["fit"] = time.time()
        return fit(*args, **kwargs)

    def watched_batch_end(*args, **kwargs):
        trials[-1]["last"] = time.time()
        trials[-1].setdefault("first", trials[-1]["last"])
        return batch_end(*args, **kwargs)

    RunStore.begin = watched_begin
    keras.Model.fit = watched_fit
    keras.callbacks.CallbackList.on_train_batch_end = watched_batch_end
    return trials


if __name__ == "__main__":
    imported = time.time()
    trials = watch()
    code = decathlon.main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({"imported": imported, "trials": trials}))
    sys.exit(code)
