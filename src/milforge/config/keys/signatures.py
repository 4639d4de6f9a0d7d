"""What a class or function takes, and what it says of it, read from its source.

To import torch and Lightning takes longer than a user waits to hear of a misspelt key.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

# Their decorators keep the signature; those of others may not.
KEEP_SIGNATURES = ("milforge", "torch", "lightning")

# Of a docstring: a name, perhaps a type in brackets, and its description, to the last line that is
# indented further.
_ARGUMENT = r"^ {4}(\w+)[^:\n]*:(.*(?:\n(?: {5}.*)?)*)"

# For a module that Python itself cannot import; its error says better what is wrong.
_UNREADABLE = (SyntaxError, ImportError, ValueError, RecursionError)

Definition = ast.ClassDef | ast.FunctionDef


def parameters_in_source(target: str) -> list[str] | None:
    """Names of the parameters of a class or function, found without importing its package.

    Follows imports. A class that has no `__init__` takes what its parent takes; one that hands all
    further keywords on (`super().__init__(**options)`) takes that too.

    Returns:
        The names without `self`; None where the source does not say: there is none, the name is
        made in another way, the class has decorators, a metaclass or a `__new__`, it takes what
        several parents take, or anything may be passed.

    Example:
        >>> parameters_in_source("milforge.training.MILDataModule")[:2]
        ['bags', 'task']
        >>> parameters_in_source("milforge.graph.AdjacencyBuilder") is None  # a dataclass
        True
    """
    try:
        return _parameters(_line(target))
    except _UNREADABLE:
        return None


def documented_arguments(target: str) -> dict[str, str]:
    """What docstrings say of each parameter under `Args:`, those of the parents included.

    Returns:
        Name to text on one line, in the order of the parameters; empty where there is no source,
        or there is no description.

    Example:
        >>> documented_arguments("milforge.graph.AdjacencyBuilder")["normalize"]
        '`sym` or `rw`.'
    """
    try:
        nodes = [node for _, found in _line(target) for node in (_method(found, "__init__"), found)]
    except _UNREADABLE:
        return {}
    found: dict[str, str] = {}
    for docstring in (ast.get_docstring(node) or "" for node in reversed(nodes) if node):
        section = re.search(r"^Args:\n((?:(?: .*)?\n)*)", f"{docstring}\n", re.M)
        entries = re.findall(_ARGUMENT, section[1], re.M) if section else []
        found |= {name: " ".join(text.split()) for name, text in entries}
    names = parameters_in_source(target)
    return found if names is None else {name: found[name] for name in names if name in found}


def annotated_arguments(target: str) -> dict[str, str]:
    """Types of the parameters as the source writes them, those of the parents included.

    Example:
        >>> annotated_arguments("milforge.nn.AttentionPool")["att_dim"]
        'int'
    """
    try:
        definitions = [node for _, node in _line(target)]
    except _UNREADABLE:
        return {}
    found: dict[str, str] = {}
    for node in reversed(definitions):
        init = _method(node, "__init__") if isinstance(node, ast.ClassDef) else node
        if isinstance(init, ast.FunctionDef):
            arguments = [*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs]
            found |= {a.arg: ast.unparse(a.annotation) for a in arguments if a.annotation}
        elif isinstance(node, ast.ClassDef):  # a dataclass
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            found |= {ast.unparse(part.target): ast.unparse(part.annotation) for part in fields}
    return found


def summary(target: str) -> str:
    """The first sentence of the docstring of a class or function; empty where there is none.

    Example:
        >>> summary("milforge.data.KFold")
        'Folds of a cross-validation, grouped by patient.'
    """
    try:
        found = next(_line(target), None)
    except _UNREADABLE:
        return ""
    docstring = ast.get_docstring(found[1]) if found else None
    return " ".join((docstring or "").split("\n\n")[0].split())


def _line(target: str) -> Iterator[tuple[str, Definition]]:
    """A definition and the classes that it comes from, each with its module, as far as is known."""
    found = _find(target)
    while found is not None:
        yield found
        module, node = found
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        if len(bases) != 1:
            return
        name = ast.unparse(bases[0].value if isinstance(bases[0], ast.Subscript) else bases[0])
        first, dot, rest = name.partition(".")
        bound = _bindings(module).get(first)
        found = _find(f"{bound}{dot}{rest}" if isinstance(bound, str) else f"{module}.{name}")
        if found is not None and isinstance(found[1], ast.FunctionDef):
            return  # as `typing.NamedTuple` is


def _find(path: str) -> tuple[str, Definition] | None:
    module, _, name = path.rpartition(".")
    bound = _bindings(module).get(name) if module else None
    if isinstance(bound, str):
        return _find(bound)
    return None if bound is None else (module, bound)


@cache
def _bindings(module: str) -> dict[str, Definition | str | None]:
    """What the names of a module stand for: a definition, the path of an import, None if unsure."""
    path = _file_of(module)
    bound: dict[str, Definition | str | None] = {}
    if path is None:
        return bound
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.parse(path.read_bytes()).body:
        new: dict[str, Definition | str | None]
        if isinstance(node, Definition):
            new = {node.name: node}
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            listed = [(each.asname or each.name, each.name) for each in node.names]
            if listed[0][0] == "*":
                listed = [(name, name) for name in _bindings(source) if not name.startswith("_")]
            new = {name: f"{source}.{there}" for name, there in listed}
        elif isinstance(node, ast.Import):
            new = {each.asname or each.name: each.name for each in node.names}
        else:
            names = (part for part in ast.walk(node) if isinstance(part, ast.Name))
            new = {name.id: None for name in names if isinstance(name.ctx, ast.Store)}
        for name, value in new.items():
            bound[name] = value if bound.get(name, value) == value else None
    return bound


def _file_of(module: str) -> Path | None:
    """The file of a module; a package's parent is not imported to find it."""
    package, *parts = module.split(".")
    spec = find_spec(package)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    for part in parts:
        below = path.parent / part
        path = below / "__init__.py" if below.is_dir() else below.with_suffix(".py")
    return path if path.is_file() else None


def _parameters(line: Iterator[tuple[str, Definition]]) -> list[str] | None:
    found = next(line, None)
    if found is None:
        return None
    module, node = found
    if isinstance(node, ast.FunctionDef):
        return None if node.args.kwarg else _names(module, node)
    if node.decorator_list or node.keywords or _method(node, "__new__"):
        return None
    init = _method(node, "__init__")
    if init is None:
        return _parameters(line)
    own = _names(module, init)
    if own is None or init.args.kwarg is None:
        return own and own[1:]
    call = _hands_on(init, init.args.kwarg.arg)
    inherited = None if call is None else _parameters(line)
    if inherited is None or call is None:
        return None
    first = inherited[: sum(not isinstance(each, ast.Starred) for each in call.args)]
    taken = [*own, *first, *(each.arg for each in call.keywords)]
    return own[1:] + [name for name in inherited if name not in taken]


def _names(module: str, node: ast.FunctionDef) -> list[str] | None:
    if node.decorator_list and module.split(".")[0] not in KEEP_SIGNATURES:
        return None
    return [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]


def _method(node: Definition, name: str) -> ast.FunctionDef | None:
    methods = [p for p in node.body if isinstance(p, ast.FunctionDef) and p.name == name]
    return methods[-1] if methods else None


def _hands_on(init: ast.FunctionDef, options: str) -> ast.Call | None:
    """The call of the parent's `__init__` that gets all further keywords, if nothing else does."""
    parts = list(ast.walk(init))
    uses = [part for part in parts if isinstance(part, ast.Name) and part.id == options]
    for part in parts:
        if isinstance(part, ast.Call) and ast.unparse(part.func) == "super().__init__":
            values = [each.value for each in part.keywords if each.arg is None]
            return part if len(uses) == 1 and uses == values else None
    return None
