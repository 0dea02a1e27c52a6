"""Which formats a guarded model can be exported to, told before anything is written."""

from importlib.util import find_spec

import keras

from kls.utils.arrays import check_choice
from kls.utils.files import as_path

FORMATS = {"tf_saved_model": "", "onnx": ".onnx", "litert": ".tflite"}
NEEDS = {
    ("tf_saved_model", "tensorflow"): ("tensorflow",),
    ("tf_saved_model", "jax"): ("tensorflow", "jax"),
    ("onnx", "tensorflow"): ("tf2onnx", "onnx"),
    ("onnx", "jax"): ("jax2onnx", "onnx"),
    ("litert", "tensorflow"): ("tensorflow",),
}


def check_export(path, format):
    """Raises what speaks against writing a format.

    Args:
        path: Where to write it.
        format: Name of the format.

    Raises:
        ValueError: If there is no such format, if it does not go with the backend, if packages for it are not
            installed, or if the path is none.

    Example:

    >>> check_export("guarded.onnx", "pickle")
    Traceback (most recent call last):
    ValueError: `format` must be one of 'tf_saved_model', 'onnx', 'litert'. Received: format='pickle'
    """
    check_choice(format, "format", FORMATS)
    path = as_path(path, "filepath")
    if format == "litert" and path.suffix != FORMATS[format]:
        raise ValueError(f"`filepath` must end in {FORMATS[format]} for {format!r}. Received: filepath={str(path)!r}")
    backend = keras.backend.backend()
    if (format, backend) not in NEEDS:
        raise ValueError(f"`format` {format!r} cannot be written on Keras's backend {backend!r}. Received: {format!r}")
    absent = [name for name in NEEDS[format, backend] if find_spec(name) is None]
    if absent:
        raise ValueError(
            f"`format` {format!r} needs packages that are not installed: {', '.join(absent)}; "
            f"pip install 'kls[export]'. Received: format={format!r}"
        )
