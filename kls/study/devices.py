"""What Keras runs on, and in which precision."""

from contextlib import contextmanager

import keras


def has_accelerator():
    """Whether Keras sees a device beside the processor."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return any("cpu" not in device.lower() for device in keras.distribution.list_devices())


@contextmanager
def precision_policy(name):
    """Sets the global dtype policy of new layers within."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
