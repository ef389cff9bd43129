"""reStructuredText to HTML. It can include no file and no raw markup.

Directives and roles of Sphinx are taken for what they hold, since most documentation in this format is written for
it: their text stays, what Sphinx would generate from code does not.
"""

from __future__ import annotations

import io
import re
from functools import cache
from typing import Any

_TITLE_AND_TARGET = re.compile(r"^(.+?)\s*<[^<>]*>$", re.DOTALL)
_DIRECTIVES = """versionadded versionchanged deprecated versionremoved seealso todo glossary centered hlist rst-class
    only tab tabs tab-set tab-item dropdown card grid grid-item grid-item-card details function class method attribute
    data exception module confval option envvar describe object property staticmethod classmethod decorator
    automodule autoclass autofunction automethod currentmodule literalinclude productionlist"""
_DOMAINS = ("", "py:", "c:", "cpp:", "js:", "std:")
_ROLES = """ref doc func meth class mod attr exc data obj const any term file guilabel menuselection kbd command program
    option envvar samp abbr dfn download numref keyword token pep source cve issue pr confval user gh"""
_SILENT = "toctree index"


def rst_to_html(text: str) -> str:
    """The body of a document as HTML."""
    from docutils.core import publish_parts
    from docutils.writers.html5_polyglot import Writer

    _accept_sphinx()
    parts = publish_parts(
        text,
        writer=Writer(),
        settings_overrides={
            "_disable_config": True,
            "doctitle_xform": False,
            "embed_stylesheet": False,
            "file_insertion_enabled": False,
            "halt_level": 6,  # never raise for what the author got wrong,
            "report_level": 5,  # never write about it into the document,
            "warning_stream": io.StringIO(),  # nor onto the terminal
            "initial_header_level": 1,
            "raw_enabled": False,
            "smart_quotes": False,
            "stylesheet_path": None,
            "syntax_highlight": "none",
            "toc_backlinks": False,
        },
    )
    return f"<main>{parts['body']}</main>"  # all of it is content, also what a page would put aside


class _AnyOption(dict[str, Any]):
    """An option specification that accepts every option."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        return str


@cache
def _accept_sphinx() -> None:
    """Register Sphinx's names, which docutils keeps for the whole process."""
    from docutils import nodes
    from docutils.parsers.rst import Directive, directives, roles

    class Kept(Directive):
        optional_arguments = 1
        final_argument_whitespace = True
        has_content = True
        option_spec = _AnyOption()

        def run(self) -> list[Any]:
            container = nodes.container()
            if self.arguments:
                container += nodes.paragraph("", self.arguments[0])
            self.state.nested_parse(self.content, self.content_offset, container)
            return [container]

    class Silent(Kept):
        def run(self) -> list[Any]:
            return []

    def words(_role: str, raw: str, text: str, *_: Any, **__: Any) -> tuple[list[Any], list[Any]]:
        title = _TITLE_AND_TARGET.match(text)
        return [nodes.inline(raw, title[1] if title else text.lstrip("~!"))], []

    for domain in _DOMAINS:
        for name in _DIRECTIVES.split():
            directives.register_directive(domain + name, Kept)
        for name in _ROLES.split():
            roles.register_local_role(domain + name, words)
    for name in _SILENT.split():
        directives.register_directive(name, Silent)
