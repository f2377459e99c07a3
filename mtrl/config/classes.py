"""What a class is, read from its source: bases and arguments, without the seconds that importing torch takes."""

import ast
import inspect
import re
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from mtrl.config.types import is_number, load_class, no_such_class


class Described(NamedTuple):
    """What is known of a class."""

    bases: list[str]
    """Dotted paths of the class and of its bases, where each is defined, the nearest first."""
    arguments: dict[str, str]
    """Annotations of the constructor's arguments, "" without one; its bases' too where it passes ``**kwargs`` on."""


@cache
def describe(path: str) -> Described:
    """Return what the class at a dotted path is; it is imported only where its source does not say.

    Raises:
        ConfigurationError: There is no such class.
    """
    try:
        lineage = _lineage(path)
    except ImportError as error:
        raise no_such_class(path, error) from error
    except (LookupError, ValueError, SyntaxError, OSError, RecursionError):
        return _imported(path)
    arguments: dict[str, str] = {}
    for _, body in lineage:
        init = next((node.args for node in body if getattr(node, "name", "") == "__init__"), None)
        if init is not None:
            own = {each.arg: each.annotation for each in (*init.args, *init.kwonlyargs)}
            arguments = {name: ast.unparse(text) if text else "" for name, text in own.items()} | arguments
            if init.kwarg is None:
                break
    return Described([name for name, _ in lineage], _public(arguments))


def _imported(path: str) -> Described:
    mro, arguments = load_class(path).__mro__, {}
    for base in (base for base in mro if "__init__" in vars(base)):
        parameters = inspect.signature(base.__init__).parameters.values()
        known = [each for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
        said = {each.name: each.annotation for each in known if each.annotation is not each.empty}
        texts = {name: inspect.formatannotation(annotation) for name, annotation in said.items()}
        arguments = {each.name: texts.get(each.name, "") for each in known} | arguments
        if not any(each.kind is each.VAR_KEYWORD for each in parameters):
            break
    return Described([f"{base.__module__}.{base.__qualname__}" for base in mro], _public(arguments))


def _public(arguments: dict[str, str]) -> dict[str, str]:
    return {name: arguments[name] for name in sorted(arguments) if name != "self" and name[0] != "_"}


def _lineage(path: str) -> list[tuple[str, list[ast.stmt]]]:
    """Return the dotted paths and the bodies of a class and of its bases; LookupError where only an import helps."""
    module, _, name = path.rpartition(".")
    text, package = _source(module)
    tree, imported = ast.parse(text), {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: 1 - node.level or None] if node.level else []
            origin = ".".join([*parents, *filter(None, [node.module])])
            imported |= {alias.asname or alias.name: f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ClassDef) and node.name == name:
            found = [(path, node.body)]
            for base in node.bases:
                plain = base.value if isinstance(base, ast.Subscript) else base
                head, dot, rest = ast.unparse(plain).partition(".")
                origin = imported.get(head, f"{module}.{head}") + dot + rest
                standard = origin.partition(".")[0] in sys.stdlib_module_names
                found += [(origin, [])] if standard else _lineage(origin)
            return found
    if name in imported:
        return _lineage(imported[name])
    if not re.search(rf"\b{re.escape(name)}\b|import \*|__getattr__", text):
        raise ImportError(f"module '{module}' has no attribute '{name}'")
    raise LookupError(path)


@cache
def _source(module: str) -> tuple[str, str]:
    """Return a module's text and the package it is in, none of them imported; LookupError if it is not found so."""
    text, places = "", None
    for name in accumulate(module.split("."), "{}.{}".format):
        spec = find_spec(name) if places is None else PathFinder.find_spec(name, places)
        if spec is None:
            raise LookupError(name) if "sys.modules" in text else ImportError(f"No module named '{name}'")
        places = list(spec.submodule_search_locations or [])
        text = Path(spec.origin or "").read_text()
    return text, module if places else module.rpartition(".")[0]


_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "None": type(None)}
_TYPES |= {"dict": dict, "list": list, "tuple": list}


def fits(value: Any, annotation: str) -> bool:
    """Return whether a value of a configuration is what an annotation says, as far as it names plain types alone."""

    def kinds(node: ast.expr) -> list[str]:
        if isinstance(node, ast.BinOp):
            return kinds(node.left) + kinds(node.right)
        if isinstance(node, ast.Subscript):
            outer = ast.unparse(node.value).rpartition(".")[2]
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            unions = {"Optional": ["None"], "Union": []}
            return [outer] if outer not in unions else sum(map(kinds, inner), unions[outer])
        return [ast.unparse(node)]

    named = kinds(ast.parse(annotation or "Any", mode="eval").body)
    if not set(named) <= set(_TYPES):
        return True
    if is_number(value):
        return "float" in named or ("int" in named and isinstance(value, int))
    return type(value) in {_TYPES[name] for name in named}
