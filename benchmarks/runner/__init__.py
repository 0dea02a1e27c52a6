"""What all studies share: trials, plans, training, the store of results, tables and figures.

Importing it imports Keras, as the studies want it: without TensorFlow's chatter and what only other parts need.
"""

import sys
from contextlib import contextmanager

from decathlon.quiet import quiet_tensorflow


@contextmanager
def without_optional(*packages):
    """Has optional packages that are not imported yet look as if they were not installed, within."""
    packages = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(packages))
    try:
        yield
    finally:
        for name in packages:
            sys.modules.pop(name, None)


# Keras imports both for parts that no study uses, its wrappers and galleries: a third of the time that it takes.
with quiet_tensorflow(), without_optional("sklearn", "matplotlib"):
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.list_physical_devices()
        tensorflow.get_logger().setLevel("ERROR")  # each trial is a new model: its tracing is no news
