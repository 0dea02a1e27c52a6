"""Methods by name, and in the text form of the command line."""

import ast
import inspect
import re
from dataclasses import MISSING, fields
from importlib import import_module

from kls.study.methods.base import Method
from kls.utils.arrays import shown
from kls.utils.sources import definitions_hash, is_own

METHODS = {}
ALIASES = {"cross_entropy": ("label_smoothing", {"gamma": 1.0})}


def register(name):
    """Returns a decorator that gives a `Method` a name, by which studies, records and the command line know it.

    A method from outside this package is known by its code too, and by what that uses in its module: once these are
    edited, its trials are others.

    Args:
        name: Letters, digits and underscores.

    Raises:
        ValueError: If the name is none, if another class has it, or if the class has no source.
        TypeError: If what is decorated is no subclass of `Method`.
    """
    if not (isinstance(name, str) and re.fullmatch(r"\w+", name)):
        raise ValueError(f"`name` must consist of letters, digits and '_'. Received: name={shown(name)}")

    def add(method):
        if not (inspect.isclass(method) and issubclass(method, Method)):
            raise TypeError(f"`register` must decorate a subclass of `Method`. Received: {shown(method)}")
        known = METHODS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
            raise ValueError(f"`name` must be new. Received: name={name!r}, which is {known.__module__}'s already.")
        method.name = name
        own = [base for base in method.__mro__ if is_own(base.__module__)]
        if own:
            method.code = definitions_hash(*own)
        METHODS[name] = method
        return method

    return add


def check_registered(method):
    """Raises `ValueError` unless a method, and those that it starts from, are of registered classes of their own."""
    if METHODS.get(method.name) is not type(method):
        raise ValueError(f"`methods` must be registered, with `@register(NAME)`. Received: {type(method).__name__}")
    for part in method.inner:
        check_registered(part)


def parse(text):
    """Returns the `Method` that a text names.

    Args:
        text: `NAME` or `NAME:PARAMETER=VALUE,...`, where `NAME` is a registered name or `package.module:Class`. A value
            is a Python literal or a text; one in brackets, `teacher=(outlier_exposure:outliers=photos)`, is a method.

    Raises:
        ValueError: If there is no such method or parameter.

    Example:

    >>> parse("label_smoothing:gamma=0.8,mixing=cutmix").gamma
    0.8
    """
    name, _, parameters_text = text.partition(":")
    if name not in METHODS | ALIASES and parameters_text:
        attribute, _, parameters_text = parameters_text.partition(":")
        name = f"{name}:{attribute}"
    method, fixed = _class_named(name)
    parameters = {}
    for part in _split(parameters_text):
        parameter, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"Parameters of a method must be NAME=VALUE, with commas between. Received: {part!r}")
        parameters[parameter.strip()] = _value(value.strip())
    known = [parameter for parameter in inspect.signature(method).parameters if parameter not in fixed]
    required = {field.name for field in fields(method) if field.init and _is_required(field)}
    if not required <= parameters.keys() <= set(known):
        raise ValueError(f"{name} must have parameters among {', '.join(known)}. Received: {text!r}")
    return method(**fixed, **parameters)


def _is_required(field):
    return field.default is MISSING and field.default_factory is MISSING


def _class_named(name):
    """Returns the class that a name means, and the parameters that the name fixes."""
    if name in ALIASES:
        alias, fixed = ALIASES[name]
        return METHODS[alias], fixed
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in METHODS:
            known = ", ".join(sorted(METHODS | ALIASES))
            raise ValueError(f"A method must be one of {known}, or package.module:Class. Received: {name!r}")
        return METHODS[name], {}
    try:
        method = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The method {name!r} cannot be imported: {error}") from None
    if not (inspect.isclass(method) and issubclass(method, Method) and METHODS.get(method.name) is method):
        raise ValueError(
            f"{name!r} must be a subclass of `kls.study.methods.Method`, registered with "
            f"`@kls.study.methods.register(NAME)`. Received: {shown(method)}"
        )
    return method, {}


def _split(text):
    """Splits at the commas that are outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    if depth:
        raise ValueError(f"Brackets of a method must be closed. Received: {text!r}")
    return [part for part in parts if part.strip()]


def _value(text):
    inner = text[1:-1]
    if text.startswith("(") and (":" in inner or inner in METHODS | ALIASES):
        return parse(inner)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
