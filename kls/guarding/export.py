"""Which formats a guarded model can be exported to, told before anything is written."""

from importlib.util import find_spec

import keras

from kls.ood.scores import KNN
from kls.utils.arrays import check_choice
from kls.utils.files import as_path

FORMATS = {"tf_saved_model": "", "onnx": ".onnx", "litert": ".tflite"}
NEEDS = {
    ("tf_saved_model", "tensorflow"): ("tensorflow",),
    ("tf_saved_model", "jax"): ("tensorflow", "jax"),
    ("onnx", "tensorflow"): ("tf2onnx", "onnx"),
    ("litert", "tensorflow"): ("tensorflow",),
}
UNHELD = {"onnx": ("bfloat16",), "litert": ("bfloat16", "float16")}  # runtimes of these have no convolutions in them
UNREADABLE = {("tf_saved_model", "jax"): KNN}  # TensorFlow 2.21 cannot read what JAX 0.10 makes of `top_k`


def check_export(path, format, score, model):
    """Raises what speaks against writing a format.

    Args:
        path: Where to write it.
        format: Name of the format.
        score: The `Score` of the guard.
        model: Its classifier.

    Raises:
        ValueError: If there is no such format, if it does not go with the backend, score or classifier, if packages
            for it are not installed, or if the path is none.

    Example:

    >>> check_export("guarded.onnx", "pickle", KNN(), keras.Sequential())
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
    if isinstance(score, UNREADABLE.get((format, backend), ())):
        raise ValueError(
            f"`format` {format!r} cannot hold {type(score).__name__} on Keras's backend {backend!r}, whose search for "
            f"neighbours TensorFlow cannot read. Received: format={format!r}"
        )
    half = {layer.compute_dtype for layer in model._flatten_layers()} & set(UNHELD.get(format, ()))
    if half:
        raise ValueError(
            f"`format` {format!r} cannot hold layers that compute in {min(half)}: give their weights to a classifier "
            f"built under the dtype policy float32. Received: format={format!r}"
        )
    absent = [name for name in NEEDS[format, backend] if find_spec(name) is None]
    if absent:
        raise ValueError(
            f"`format` {format!r} needs packages that are not installed: {', '.join(absent)}; "
            f"pip install 'kls[export]'. Received: format={format!r}"
        )
