"""How many threads TensorFlow shares an operation among."""

import os
from contextlib import suppress

import keras


def threads_per_operation(workers):
    """Returns how many threads are to share an operation in each of several processes, one thread per core in all.

    Args:
        workers: Number of processes that train side by side.
    """
    return max(1, cores() // workers)


def cores():
    """Returns how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def limit_threads(threads):
    """Has TensorFlow share an operation among so many threads, unless it runs already; others are left alone."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
