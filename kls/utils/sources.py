"""What a user's own code is, so that other code is another recipe."""

import ast
import builtins
import hashlib
import inspect
import sys
from functools import lru_cache

LIBRARIES = {"keras", "kls", "decathlon", "tensorflow", "jax", "flax", "torch", "numpy", *sys.stdlib_module_names}
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def is_own(module):
    """Whether a module, by its name, is a user's own: of none of the libraries that trainings rest on."""
    return module.partition(".")[0] not in LIBRARIES


def definitions_hash(*things):
    """Returns a hash of classes or functions and of all in their modules that they use.

    What a module does or defines beside is not in it, nor how its code is laid out.

    Args:
        *things: Classes or functions; of one that wraps another, both count.

    Raises:
        ValueError: If there is no source of them, as in some interactive sessions.
    """
    digest = hashlib.sha256()
    for thing in dict.fromkeys([*things, *map(inspect.unwrap, things)]):
        try:
            source = inspect.getsource(sys.modules[module_of(thing)])
            code = _used_code(thing.__qualname__.partition(".")[0], source)
        except (OSError, TypeError, KeyError, SyntaxError):
            raise ValueError(
                "The source of your own code is part of the recipe: put it into a module. "
                f"Received: {thing.__qualname__} of {module_of(thing)}"
            ) from None
        digest.update(code.encode())
    return digest.hexdigest()[:12]


def module_of(thing):
    """Returns the name of the module in which a class or function is written."""
    return thing.__globals__["__name__"] if inspect.isfunction(thing) else thing.__module__  # a wrapper's is another's


@lru_cache
def _used_code(name, source):
    """Returns the code of a module that makes a name what it is, without its layout; a network has many such layers."""
    return "".join(map(ast.unparse, _used_by(name, ast.parse(source).body)))


def _used_by(name, statements):
    """Returns the statements that make a name what it is, what these use, and so on; all where none defines it."""
    used, found = {name, "*"}, []
    while more := [node for node in statements if node not in found and _made(node) & used]:
        found += more
        used |= {part.id for node in more for part in ast.walk(node) if isinstance(part, ast.Name)}
        used |= {made for node in more for made in _made(node)}
    defines_it = any(name in _made(node) for node in found)
    return [node for node in statements if node in found] if defines_it else statements


def _made(statement):
    """Returns the names that a statement of a module defines or changes; `*` for all names."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name, *_globals(statement)}
    made = _globals(statement)
    for part in ast.walk(statement):
        match part:
            case ast.Name(ctx=ast.Store()):
                made.add(part.id)
            case ast.Attribute(ctx=ast.Store()) | ast.Subscript(ctx=ast.Store()):
                made.add(_root(part))
            case ast.Expr(value=ast.Call(func=ast.Name("setattr" | "delattr"), args=[changed, *_])):
                made.add(_root(changed))
            case ast.Expr(value=ast.Call(func=called)):  # `OPTIONS.update(...)`, or a function that sets a global
                made.add(_root(called))
            case ast.alias():
                made.add((part.asname or part.name).partition(".")[0])
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.MatchAs() | ast.MatchStar():
                made.add(part.name)
            case ast.MatchMapping():
                made.add(part.rest)
    return made - {None, *dir(builtins)}


def _globals(statement):
    return {name for part in ast.walk(statement) if isinstance(part, ast.Global) for name in part.names}


def _root(node):
    """Returns the name that attributes and items are taken of; `None` of anything else."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
