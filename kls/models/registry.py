"""Names of models: `build("resnet20v1", input_shape, classes)`."""

import difflib

from kls.utils.arrays import shown

_BUILDERS = {}


def register(name, function, **arguments):
    """Makes `build(name, ...)` call `function(..., **arguments)`.

    Args:
        name: The name on the command line and in result tables.
        function: Takes `input_shape`, `classes` and further keywords, returns a `keras.Model`.
        **arguments: Fixed keyword arguments, the depth for instance.

    Raises:
        ValueError: If the name is taken or no string, or if the function is none.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"`name` must be a string that is not empty. Received: name={shown(name)}")
    if name in _BUILDERS:
        raise ValueError(f"`name` must be new. Received: name={name!r}, which is registered already.")
    if not callable(function):
        raise ValueError(f"`function` must be a function that returns a model. Received: function={shown(function)}")
    _BUILDERS[name] = lambda **options: function(**arguments, **options)


def names():
    """Returns the registered names, sorted: a list of strings."""
    return sorted(_BUILDERS)


def build(name, input_shape, classes, **options):
    """Builds a registered model.

    Args:
        name: One of `names()`.
        input_shape: `(height, width, channels)`.
        classes: Number of classes.
        **options: Passed on to the model's function, e.g. `classifier_activation=None`; not what the name fixes.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If the name is not registered, with the nearest names, or an argument is not as the function has it.
        TypeError: If the function has no such option, or the name fixes it.

    Example:

    >>> build("resnet20v1", (32, 32, 3), classes=10).count_params()
    274442
    """
    if not isinstance(name, str) or name not in _BUILDERS:
        near = difflib.get_close_matches(str(name), _BUILDERS, n=3, cutoff=0.4) or names()
        raise ValueError(
            f"`name` must be a registered model: {', '.join(names())}. Received: name={shown(name)}. "
            f"Did you mean {' or '.join(near)}?"
        )
    return _BUILDERS[name](input_shape=input_shape, classes=classes, **options)
