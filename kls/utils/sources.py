"""What a user's own code is, so that other code is another recipe."""

import ast
import hashlib
import inspect
import sys


def definitions_hash(*things):
    """Returns a hash of classes or functions and of all in their modules that they use.

    What a module does or defines beside is not in it, nor how its code is laid out.

    Args:
        *things: Classes or functions.

    Raises:
        ValueError: If there is no source of them, as in some interactive sessions.
    """
    digest = hashlib.sha256()
    for thing in things:
        try:
            tree = ast.parse(inspect.getsource(sys.modules[module_of(thing)]))
        except (OSError, TypeError, KeyError, SyntaxError):
            raise ValueError(
                "The source of your own code is part of the recipe: put it into a module. "
                f"Received: {thing.__qualname__} of {module_of(thing)}"
            ) from None
        for statement in _used_by(thing.__qualname__.partition(".")[0], tree.body):
            digest.update(ast.dump(statement).encode())
    return digest.hexdigest()[:12]


def module_of(thing):
    """Returns the name of the module in which a class or function is written."""
    return thing.__globals__["__name__"] if inspect.isfunction(thing) else thing.__module__  # a wrapper's is another's


def _used_by(name, statements):
    """Returns the statements that define a name, what these use, and so on; all where none defines it."""
    used, found = {name, "*"}, []
    while more := [node for node in statements if node not in found and _defined(node) & used]:
        found += more
        used |= {part.id for node in more for part in ast.walk(node) if isinstance(part, ast.Name)}
    defines_it = any(name in _defined(node) for node in found)
    return [node for node in statements if node in found] if defines_it else statements


def _defined(statement):
    """Returns the names that a statement of a module defines, perhaps with names within; `*` for those of all names."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    parts = list(ast.walk(statement))
    names = {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    names |= {part.name for part in parts if isinstance(part, ast.FunctionDef | ast.ClassDef)}
    return names | {(part.asname or part.name).partition(".")[0] for part in parts if isinstance(part, ast.alias)}
