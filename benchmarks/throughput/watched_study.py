"""The gamma study with a watch on it: `python -m benchmarks.throughput.watched_study FILE ARGUMENTS ...`.

Runs `python -m benchmarks.decathlon ARGUMENTS ...` and writes to FILE, as JSON, when `fit` of each trial began and when
its first and last training steps ended: seconds since 1970.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.decathlon.__main__ import main
from decathlon.quiet import import_keras


def watch():
    """Returns a list to which Keras adds `{"fit", "first", "last"}` of each training from now on."""
    import_keras()
    import keras

    trainings = []
    fit, batch_end = keras.Model.fit, keras.callbacks.CallbackList.on_train_batch_end

    def watched_fit(*args, **kwargs):
        trainings.append({"fit": time.time()})
        return fit(*args, **kwargs)

    def watched_batch_end(*args, **kwargs):
        trainings[-1]["last"] = time.time()
        trainings[-1].setdefault("first", trainings[-1]["last"])
        return batch_end(*args, **kwargs)

    keras.Model.fit = watched_fit
    keras.callbacks.CallbackList.on_train_batch_end = watched_batch_end
    return trainings


if __name__ == "__main__":
    trainings = watch()
    code = main(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(trainings))
    sys.exit(code)
