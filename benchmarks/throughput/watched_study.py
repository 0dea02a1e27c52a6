"""The gamma study with a watch on it: `python -m benchmarks.throughput.watched_study FILE ARGUMENTS ...`.

Runs `python -m benchmarks.decathlon ARGUMENTS ...` and writes to FILE, as JSON, when all was imported and, of each
trial, when it began, when `fit` did, when its first training step ended and when its last one did: seconds since 1970.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.decathlon.__main__ import main
from benchmarks.runner import command, keras
from benchmarks.runner.store import RunStore


def watch():
    """Returns a dictionary to which a study run from now on adds `"imported"`, and trained trials to its `"trials"`.

    Of each trial `{"begin", "fit", "first", "last"}`.
    """
    watched = {"trials": []}
    trials = watched["trials"]
    run_study, begin, fit = command.run_study, RunStore.begin, keras.Model.fit
    batch_end = keras.callbacks.CallbackList.on_train_batch_end

    def watched_run_study(*args, **kwargs):
        watched["imported"] = time.time()
        return run_study(*args, **kwargs)

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

    command.run_study = watched_run_study
    RunStore.begin = watched_begin
    keras.Model.fit = watched_fit
    keras.callbacks.CallbackList.on_train_batch_end = watched_batch_end
    return watched


if __name__ == "__main__":
    watched = watch()
    code = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(watched))
    sys.exit(code)
