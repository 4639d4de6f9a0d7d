"""Pages that stand alone. Whatever comes from outside is text, and is escaped here."""

import base64
import hashlib
import html
from collections.abc import Sequence


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any text, escaped, unless it is HTML already.

    Example:
        >>> text("<b>"), text(Markup("<b>"))
        ('&lt;b&gt;', '<b>')
    """
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def tag(name: str, *content: object, **attributes: object) -> Markup:
    """An element; `_` in the name of an attribute stands for `-`, and is dropped at its end.

    Example:
        >>> tag("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(text(each) for each in content)
    return Markup(f"<{name}{pairs}>{inner}</{name}>")


def join(*parts: object) -> Markup:
    """Pieces, one after the other."""
    return Markup("".join(text(part) for part in parts))


def paragraph(*content: object) -> Markup:
    """A paragraph."""
    return tag("p", *content)


def bullets(lines: Sequence[object]) -> Markup:
    """A list."""
    return tag("ul", *(tag("li", line) for line in lines))


def document(title: object, style: str, scripts: Sequence[str], *body: object) -> str:
    """A page that loads nothing, and runs no script but its own.

    Args:
        title: of the page.
        style: CSS.
        scripts: JavaScript; they run one after the other when the body is there.
        body: what the body holds.
    """
    # These are the only ones that a browser runs, should any text ever be taken for markup, and no
    # picture is shown but those that the page holds.
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}"
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        tag("title", title),
        tag("style", Markup(style)),
    )
    whole = tag("body", *body, *(tag("script", Markup(script)) for script in scripts))
    return f'<!doctype html>\n<html lang="en">{head}{whole}</html>\n'


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
