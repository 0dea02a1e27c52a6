"""What Keras runs on."""

import keras


def has_accelerator():
    """Whether Keras sees a device beside the processor."""
    return any("cpu" not in device.lower() for device in keras.distribution.list_devices())
