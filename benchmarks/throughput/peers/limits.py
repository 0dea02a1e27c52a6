"""The rates of a large matrix product and of a large copy: `limits.py LIBRARY SIDE`, as a process that takes turns."""

import sys
import time

import numpy as np
from answering import answer

COPIED = 2**28  # bytes
TRIES = 3


def with_numpy(side):
    """NumPy: no product of bfloat16."""
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    return {
        "float32": (lambda: matrix @ matrix, _copy_of_array(np.float32)),
        "bfloat16": (None, _copy_of_array(np.uint16)),
    }


def _copy_of_array(dtype):
    source = np.ones(COPIED // np.dtype(dtype).itemsize, dtype)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def with_tensorflow(side):
    """TensorFlow: products alone, since its copies of whole tensors are none."""
    import tensorflow as tf

    def product(dtype):
        matrix = tf.random.uniform((side, side), dtype=dtype)
        multiply = tf.function(lambda: tf.reduce_max(tf.matmul(matrix, matrix)))
        return lambda: multiply().numpy()

    return {"float32": (product(tf.float32), None), "bfloat16": (product(tf.bfloat16), None)}


def with_torch(side):
    """PyTorch, on the graphics card where there is one."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def functions(dtype):
        matrix = torch.rand((side, side), device=device).to(dtype)
        source = torch.ones(COPIED // matrix.element_size(), dtype=dtype, device=device)
        target = torch.empty_like(source)
        return lambda: (matrix @ matrix, wait()), lambda: (target.copy_(source), wait())

    return {"float32": functions(torch.float32), "bfloat16": functions(torch.bfloat16)}


LIBRARIES = {"numpy": with_numpy, "tensorflow": with_tensorflow, "torch": with_torch}


def prepare(library, side):
    """Makes the matrices; returns nothing and the function of the turns."""
    functions = LIBRARIES[library](side)
    work = (2 * side**3, 2 * COPIED)  # operations; bytes read and written

    def turn():
        return {
            precision: {
                kind: _rate(function, done)
                for kind, function, done in zip(("product", "copy"), pair, work, strict=True)
            }
            for precision, pair in functions.items()
        }

    turn()
    return {}, turn


def _rate(function, work):
    """Returns the work per second of the fastest of some calls, 0 where there is no function."""
    if function is None:
        return 0.0
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return work / min(seconds)


answer(lambda: prepare(sys.argv[1], int(sys.argv[2])))
