"""The rates of a large matrix product and of a large copy, as a process that takes turns.

`limits.py LIBRARY SIDE BYTES`: the side of the matrices, and how much is copied.
"""

import math
import sys
import time

import numpy as np
from answering import answer

TRIES = 3


def with_numpy(side, copied):
    """NumPy: no product of bfloat16."""
    matrix = np.random.default_rng(0).random((side, side), np.float32)
    return {
        "float32": (lambda: matrix @ matrix, _copy_of_array(np.float32, copied)),
        "bfloat16": (None, _copy_of_array(np.uint16, copied)),
    }


def _copy_of_array(dtype, copied):
    source = np.ones(copied // np.dtype(dtype).itemsize, dtype)
    target = np.empty_like(source)
    return lambda: np.copyto(target, source)


def with_tensorflow(side, copied):
    """TensorFlow: products alone, since its copies of whole tensors are none."""
    import tensorflow as tf

    def product(dtype):
        matrix = tf.random.uniform((side, side), dtype=dtype)
        multiply = tf.function(lambda: tf.reduce_max(tf.matmul(matrix, matrix)))
        return lambda: multiply().numpy()

    return {"float32": (product(tf.float32), None), "bfloat16": (product(tf.bfloat16), None)}


def with_jax(side, copied):
    """JAX, on the graphics card where there is one."""
    import jax
    import jax.numpy as jnp

    multiply, double = jax.jit(jnp.matmul), jax.jit(lambda values: values * 2)

    def functions(dtype):
        matrix = jax.random.uniform(jax.random.key(0), (side, side)).astype(dtype)
        source = jnp.ones(copied // matrix.dtype.itemsize, dtype)
        return lambda: multiply(matrix, matrix).block_until_ready(), lambda: double(source).block_until_ready()

    return {"float32": functions(jnp.float32), "bfloat16": functions(jnp.bfloat16)}


def with_torch(side, copied):
    """PyTorch, on the graphics card where there is one, in TensorFloat-32 for float32 as convolutions are."""
    import torch

    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    def functions(dtype):
        matrix = torch.rand((side, side), device=device).to(dtype)
        source = torch.ones(copied // matrix.element_size(), dtype=dtype, device=device)
        target = torch.empty_like(source)
        return lambda: (matrix @ matrix, wait()), lambda: (target.copy_(source), wait())

    return {"float32": functions(torch.float32), "bfloat16": functions(torch.bfloat16)}


LIBRARIES = {"numpy": with_numpy, "tensorflow": with_tensorflow, "jax": with_jax, "torch": with_torch}


def prepare(library, side, copied):
    """Makes the matrices; returns nothing and the function of the turns."""
    functions = LIBRARIES[library](side, copied)
    work = (2 * side**3, 2 * copied)  # operations; bytes read and written

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
    """Returns the work per second of the fastest of some calls, NaN where there is no function."""
    if function is None:
        return math.nan
    seconds = []
    for _ in range(TRIES):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return work / min(seconds)


answer(lambda: prepare(sys.argv[1], *map(int, sys.argv[2:])))
