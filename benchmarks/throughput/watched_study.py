"""The gamma study with a watch on it: `python -m benchmarks.throughput.watched_study FILE ARGUMENTS ...`.

Runs `python -m benchmarks.decathlon ARGUMENTS ...` and writes to FILE, as JSON, when it was imported and, of each call
of `fit`, when it began, when its first training step ended and when its last one did: seconds since 1970.
"""

import json
import sys
import time
from pathlib import Path

import keras

from benchmarks import decathlon


def watch():
    """Returns a list that each call of `fit` from now on adds `{"begin", "first", "last"}` to."""
    fits = []
    fit, batch_end = keras.Model.fit, keras.callbacks.CallbackList.on_train_batch_end

    def watched_fit(*args, **kwargs):
        fits.append({"begin": time.time()})
        return fit(*args, **kwargs)

    def watched_batch_end(*args, **kwargs):
        fits[-1]["last"] = time.time()
        fits[-1].setdefault("first", fits[-1]["last"])
        return batch_end(*args, **kwargs)

    keras.Model.fit = watched_fit
    keras.callbacks.CallbackList.on_train_batch_end = watched_batch_end
    return fits


if __name__ == "__main__":
    imported = time.time()
    fits = watch()
    code = decathlon.main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps({"imported": imported, "fits": fits}))
    sys.exit(code)
