"""The comments of YAML files: beside a key, above it, and at the head."""

import re
from collections.abc import Iterator
from typing import Any

import yaml


def key_comments(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    r"""Each key of a YAML text with its comment: on its line, and on the lines right above.

    Example:
        >>> list(key_comments("# Above.\na: 1 # beside\nb:\n  c: x\n"))
        [(('a',), 'beside. Above.'), (('b',), ''), (('b', 'c'), '')]
    """
    lines = text.splitlines()
    root = yaml.compose(text)

    def walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            if path == () and key.value == "defaults":
                continue
            line = key.start_mark.line
            nested = isinstance(value, yaml.CollectionNode) and not value.flow_style
            end = key.end_mark if nested else value.end_mark
            beside = re.match(r"[:\s]*# (.*)", lines[end.line][end.column :])
            above: list[str] = []
            while line - len(above) > 0:
                comment = re.match(
                    r"\s*# (?!@|yaml-language-server:)(.*)", lines[line - len(above) - 1]
                )
                if comment is None:
                    break
                above.insert(0, comment[1])
            texts = [beside[1] if beside else "", " ".join(above)]
            texts = [text for text in texts if text]
            yield (*path, key.value), ". ".join(texts)
            yield from walk(value, (*path, key.value))

    yield from walk(root, ())


def header(text: str) -> str:
    r"""The comment at the head of a YAML file.

    Example:
        >>> modeline = "# yaml-language-server: $schema=data.json"
        >>> header(f"{modeline}\n# @package _global_\n# A folder\n# of features.\na: 1\n")
        'A folder of features.'
    """
    no_words = ("# @", "# yaml-language-server:")
    lines = [line for line in text.splitlines() if not line.startswith(no_words)]
    found = []
    for line in lines:
        if not line.startswith("# "):
            break
        found.append(line[2:])
    return " ".join(found)
