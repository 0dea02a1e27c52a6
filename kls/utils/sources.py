"""What a user's own code is, so that other code is another recipe."""

import ast
import hashlib
import inspect
import sys

LITERALS = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.UnaryOp)


def definitions_hash(*things):
    """Returns a hash of all that the modules of classes or functions define: functions, classes, constants and imports.

    What a script does beside is not in it, nor how its code is laid out.

    Args:
        *things: Classes or functions.

    Raises:
        ValueError: If there is no source of them, as in some interactive sessions.
    """
    digest = hashlib.sha256()
    for name in dict.fromkeys(thing.__module__ for thing in things):
        try:
            tree = ast.parse(inspect.getsource(sys.modules[name]))
        except (OSError, TypeError, KeyError, SyntaxError):
            shown = ", ".join(thing.__qualname__ for thing in things if thing.__module__ == name)
            raise ValueError(
                f"The source of your own code is part of the recipe: put it into a module. Received: {shown} of {name}"
            ) from None
        for node in tree.body:
            if _defines(node):
                digest.update(ast.dump(node).encode())
    return digest.hexdigest()[:12]


def _defines(node):
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return isinstance(node.value, LITERALS)
    return isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
