"""Functions of other packages, replaced for a while where these packages have no argument for it."""

from contextlib import contextmanager


@contextmanager
def replaced(owner, **functions):
    """Puts functions in the place of a module's or a class's own within the block.

    Args:
        owner: The module or class.
        **functions: `{name: function}` of attributes that it has.

    Example:

    >>> import math
    >>> with replaced(math, floor=math.ceil):
    ...     math.floor(0.5)
    1
    """
    before = {name: vars(owner)[name] for name in functions}
    try:
        for name, function in functions.items():
            setattr(owner, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)
