"""The site: `make docs` builds it, without warnings."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "MilForge"
author = "MilForge contributors"
release = version = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "schemas", "notebooks"]
html_theme = "alabaster"
html_theme_options = {
    "description": PROJECT["description"],
    "fixed_sidebar": True,
    "page_width": "1100px",
    "sidebar_width": "260px",
}
html_show_sphinx = False
html_show_copyright = False

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
# Links to files outside of the site, such as scripts and the README, are those of the repository.
suppress_warnings = ["myst.xref_missing"]
# `console` and `text` blocks hold what a person types and what answers, not a language.
highlight_language = "none"

autodoc_typehints = "none"  # the docstrings give shapes and types
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False
# Shapes are written as `(N, D)`: single backticks are code here, as in Markdown.
default_role = "code"


SPLIT = re.compile(r"(?<![`\w])`[^`\n]+\n[^`\n]+`(?![`\w])")  # code over two lines
CODE = re.compile(r"(`+[^`]+`+)")


def as_rst(lines):
    """The lines of a docstring, which is written in Markdown, as autodoc wants them.

    Code is in single backticks, formulas are between dollars; what else has a meaning in
    reStructuredText alone, such as `|` around a norm, is text.
    """
    found, in_math, margin = [], False, ""
    whole = SPLIT.sub(lambda span: re.sub(r"\s*\n\s*", " ", span[0]), "\n".join(lines))
    for line in whole.split("\n"):
        margin = line[: len(line) - len(line.lstrip())] if not in_math else margin
        text = line.strip()
        if text.startswith("$$"):
            in_math = True
            found += ["", f"{margin}.. math::", ""]
            text = text.removeprefix("$$").strip()
        if in_math:
            ends = text.endswith("$$")
            if text := text.removesuffix("$$").strip():
                found.append(f"{margin}   {text}")
            if ends:
                in_math = False
                found.append("")
            continue
        is_item = re.match(r"- ", text)
        before = found[-1].strip() if found else ""
        if is_item and before and not re.match(r"- ", before):
            found.append("")
        if text.startswith(">>>") or text.startswith("..."):
            found.append(line)
            continue
        found.append(margin + "".join(map(_words, CODE.split(text))))
    return found


def _words(part):
    if part.startswith("`"):
        return f"``{part.strip('`')}``"
    part = re.sub(r"\[([^]]+)\]\((https?://[^)]+)\)", r"`\1 <\2>`__", part)
    pieces = re.split(r"(\$[^$]+\$|`[^`]+`__)", part)
    return "".join(
        f":math:`{each[1:-1]}`"
        if each.startswith("$") and each.endswith("$") and len(each) > 2
        else each
        if each.startswith("`")
        else re.sub(r"([*|])|(?<=\w)(_)(?!\w)", r"\\\g<0>", each)
        for each in pieces
    )


def setup(app):
    """Docstrings are turned before napoleon, which has priority 500, reads their sections."""

    def turn(app, what, name, obj, options, lines):
        lines[:] = as_rst(lines)

    app.connect("autodoc-process-docstring", turn, priority=400)
