"""What a class takes, read from its source: importing Lightning takes seconds, a wrong key none."""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Their decorators keep the signature; those of others may not.
KEEP_SIGNATURES = ("torch", "lightning")


def parameters_in_source(target: str) -> list[str] | None:
    """Names of the parameters of a class or function, found without importing its package.

    Looks for `class` or `def` on the top level of its module, and follows `from ... import`.

    Returns:
        The names without `self`; None where the source does not tell: there is none, the name is
        made in another way, the class has decorators or no `__init__` of its own, or anything may
        be passed (`**kwargs`).

    Example:
        >>> parameters_in_source("torch.nn.Dropout") is None  # no __init__ of its own
        True
        >>> parameters_in_source("milforge.training.BagDataModule")[:2]
        ['batch_size', 'eval_batch_size']
    """
    module, _, name = target.rpartition(".")
    return _look_up(module, name) if module else None


@cache
def _look_up(module: str, name: str) -> list[str] | None:
    path = _file_of(module)
    if path is None:
        return None
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _look_up(_absolute(module, path, node), alias.name)
        elif isinstance(node, ast.ClassDef) and node.name == name:
            return _of_class(node, module)
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(node, module)
    return None


def _file_of(module: str) -> Path | None:
    """The file of a module; a package's parent is not imported to find it."""
    package, *parts = module.split(".")
    try:
        spec = find_spec(package)
    except ValueError:
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    for part in parts:
        below = path.parent / part
        path = below / "__init__.py" if below.is_dir() else below.with_suffix(".py")
    return path if path.is_file() else None


def _absolute(module: str, path: Path, node: ast.ImportFrom) -> str:
    """The module that an import names, whose dots count from the package it stands in."""
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    kept = len(parts) - node.level + (path.name == "__init__.py")
    return ".".join([*parts[:kept], *([node.module] if node.module else [])])


def _of_class(node: ast.ClassDef, module: str) -> list[str] | None:
    if node.decorator_list or node.keywords:
        return None
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            parameters = _of_function(part, module)
            return None if parameters is None else parameters[1:]
    return None


def _of_function(node: ast.FunctionDef, module: str) -> list[str] | None:
    strange = node.decorator_list and module.split(".")[0] not in KEEP_SIGNATURES
    if strange or node.args.kwarg is not None:
        return None
    return [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
