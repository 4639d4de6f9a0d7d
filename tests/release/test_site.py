"""Docstrings, which are written in Markdown, are turned for the site."""

import runpy

from project_copy import ROOT

DOCSTRING = """Norms |a - b| of `x`, as in $a_b$ and z_,
or `{1: 2,
    3: 4}` over two lines.

$$ c = \\mu_j
   + 2 $$

See [Paper 2024](https://example.org/z_):
- one `a_`
- two

Example:
    >>> f(`x`)
"""
EXPECTED = """Norms \\|a - b\\| of ``x``, as in :math:`a_b` and z\\_,
or ``{1: 2, 3: 4}`` over two lines.


.. math::

   c = \\mu_j
   + 2


See `Paper 2024 <https://example.org/z_>`__:

- one ``a_``
- two

Example:
    >>> f(`x`)
"""


def test_code_formulas_links_and_lists_are_turned():
    conf = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    assert conf["as_rst"](DOCSTRING.splitlines()) == EXPECTED.splitlines()
    assert conf["author"] == "MilForge contributors"
