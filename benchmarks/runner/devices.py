"""What Keras runs on."""

import keras


def has_accelerator():
    """Whether Keras sees a device beside the processor."""
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.is_available()
    return any("cpu" not in device.lower() for device in keras.distribution.list_devices())
