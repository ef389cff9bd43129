"""HTML to Markdown text, so that all markup shares one structure parser.

What is navigation, advertisement or hidden is told from element names, roles and a few class names; styles in
external sheets are not looked at. Links and images keep their words and lose their addresses.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

from edgeai.errors import DocumentUnreadable

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

MAX_MARKUP = 32 * 1024 * 1024  # characters; the parser takes many times as much memory
MAX_DEPTH = 500  # the parser's time grows with the square of the depth: 1 s at 2,000
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9-]*)(?=[\s>])[^<>]*(?<!/)>")
_NEVER_CLOSED = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
    | {"p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option"}
)
_NOISE = frozenset(
    {"script", "style", "noscript", "template", "nav", "dialog", "svg", "canvas", "iframe", "object"}
    | {"button", "input", "select", "textarea"}
)
_PAGE_PARTS = frozenset({"header", "footer", "aside"})
_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "dialog", "alertdialog", "menu"})
_HIDING = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SHRUNK = re.compile(r"font-size\s*:\s*0(?:\.0*)?(?:px|pt|r?em|%)?\s*(?:!|;|$)", re.IGNORECASE)
_BARS = re.compile(
    r"\b(?:cookie[-_]?(?:banner|bar|notice|consent|popup|law)|consent[-_]?(?:banner|bar)|gdpr|onetrust|breadcrumbs?"
    r"|headerlink|skip[-_]?(?:link|nav)|to[-_]?content)\b",
    re.IGNORECASE,
)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)


def declared_encoding(data: bytes) -> str:
    """The encoding an HTML or XML file names in its first 2048 bytes, "" when it names none."""
    found = _CHARSET.search(data[:2048])
    return found[1].decode("ascii", errors="replace") if found else ""


def html_to_markdown(text: str) -> tuple[str, str]:
    """Markdown of the main content of a page or fragment, and the page's `<title>`.

    Raises `DocumentUnreadable` for a page of more than 32 million characters or with absurdly deep nesting.
    """
    from bs4 import BeautifulSoup

    if len(text) > MAX_MARKUP:
        raise DocumentUnreadable(f"more than {MAX_MARKUP >> 20} MB of markup")
    if _depth(text) > MAX_DEPTH:
        raise DocumentUnreadable("its elements are nested too deeply")
    # A leading doctype keeps the parser from warning that short texts look like file names or addresses.
    soup = BeautifulSoup("<!DOCTYPE html>\n" + _DECLARATION.sub("", text), "lxml")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    if soup.head:
        soup.head.decompose()
    _remove_noise(soup)
    content = _main(soup)
    _unwrap_layout_tables(content)
    return _converter()(content).strip(), title


def _depth(text: str) -> int:
    """How deeply elements that have to be closed are nested, at most."""
    depth = deepest = 0
    for closing, name in _TAG.findall(text):
        if name.lower() not in _NEVER_CLOSED:
            depth = max(0, depth - 1) if closing else depth + 1
            deepest = max(deepest, depth)
    return deepest


def _remove_noise(soup: BeautifulSoup) -> None:
    for element in soup.find_all(True):
        if not element.decomposed and _is_noise(element):
            element.decompose()
    everything = len(soup.get_text())
    for form in soup.find_all("form"):
        # Some frameworks put the whole page into one form.
        if not form.decomposed and len(form.get_text()) * 2 < everything:
            form.decompose()


def _is_noise(element: Tag) -> bool:
    """Whether no reader of the page would take this element for its content."""
    if element.name in _NOISE:
        return True
    if element.name in _PAGE_PARTS:
        return element.find_parent(("main", "article", "section")) is None
    if not element.attrs or element.name in ("html", "body", "main"):
        return False
    if "hidden" in element.attrs or element.get("aria-hidden") == "true" or element.get("role") in _ROLES:
        return True
    names = f"{element.get('class', '')} {element.get('id', '')}"
    return _is_invisible(element) or _BARS.search(names) is not None


def _is_invisible(element: Tag) -> bool:
    """Whether its own style hides it; text of size 0 may hold elements of another size, which are seen."""
    style = str(element.get("style", ""))
    if _SHRUNK.search(style):
        return not any("font" in str(inner.get("style", "")) for inner in element.find_all(style=True))
    return _HIDING.search(style) is not None


def _main(soup: BeautifulSoup) -> Tag:
    main = soup.select('main, [role="main"]')
    return main[0] if len(main) == 1 and main[0].get_text(strip=True) else soup


def _unwrap_layout_tables(content: Tag) -> None:
    """Tables that only arrange a page are no tables to a reader."""
    for table in content.find_all("table"):
        rows = table.find_all("tr")
        single = all(len(row.find_all(("td", "th"), recursive=False)) < 2 for row in rows)
        if single or table.get("role") == "presentation" or table.find("table"):
            for element in (table, *table.find_all(("tr", "td", "th", "tbody", "thead", "tfoot"))):
                if element.find_parent("table") in (table, None):
                    element.name = "div"


@cache
def _converter() -> Any:
    from markdownify import ATX, MarkdownConverter

    class Converter(MarkdownConverter):
        """Markdown as plain as it can be while the blocks stay recognisable."""

        def convert_a(self, _element: Any, text: str, parent_tags: Any) -> str:
            return text

        def convert_img(self, element: Any, _text: str, parent_tags: Any) -> str:
            return str(element.get("alt") or "")

    return Converter(
        heading_style=ATX,
        bullets="-",
        escape_asterisks=False,
        escape_underscores=False,
        table_infer_header=True,
        strip=["b", "strong", "i", "em", "u", "s", "del", "video", "audio"],
    ).convert_soup
