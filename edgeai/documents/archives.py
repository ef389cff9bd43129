"""DOCX and EPUB, which are zip archives of XML, to Markdown text.

Archives are measured while they are inflated, before a parser sees them; sizes they claim are not trusted. Images,
comments and tracked deletions are left out.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from edgeai.documents.decoding import decode
from edgeai.documents.markup import declared_encoding, html_to_markdown
from edgeai.errors import DocumentUnreadable

MAX_INFLATED = 256 * 1024 * 1024  # bytes, all members together
MAX_MARKUP = 32 * 1024 * 1024  # bytes of the members a parser will see, which takes many times their size in memory
MAX_MEMBERS = 10_000
_PIECE = 1 << 20  # bytes inflated at a time
_CONTAINER = "META-INF/container.xml"
_TITLE_STYLES = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"


def docx_to_markdown(data: bytes) -> tuple[str, str]:
    """Markdown, and "" for Word's title, mostly a leftover. Raises `DocumentUnreadable` for hostile archives."""
    import mammoth

    for name, member in _members(data):
        # Word writes no document types; entities declared in one can expand without bound.
        if name.endswith((".xml", ".rels")) and b"<!DOCTYPE" in member.replace(b"\0", b""):
            raise DocumentUnreadable("its XML declares a document type, which Word files never do")
    html = mammoth.convert_to_html(
        io.BytesIO(data), style_map=_TITLE_STYLES, convert_image=lambda _: [], include_embedded_style_map=False
    ).value
    return html_to_markdown(html)[0], ""


def epub_to_markdown(data: bytes) -> tuple[str, str]:
    """Markdown of the chapters in reading order, and the book's title.

    Raises `DocumentUnreadable` for hostile archives, for what is no book, and for a protected one.
    """
    members = dict(_members(data))
    root = _xml(members, _CONTAINER)
    package = str(next(iter(root.xpath("//*[local-name()='rootfile']/@full-path")), ""))
    opf = _xml(members, package)
    hrefs = {item.get("id"): item.get("href", "") for item in opf.xpath("//*[local-name()='item']")}
    folder = posixpath.dirname(package)
    spine = [hrefs.get(reference, "") for reference in opf.xpath("//*[local-name()='itemref']/@idref")]
    chapters = [posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0]))) for href in spine if href]
    protected = members.get("META-INF/encryption.xml", b"")
    if any(chapter.encode() in protected for chapter in chapters):
        raise DocumentUnreadable("it is protected against copying (DRM)")
    texts = [html_to_markdown(decode(page, declared_encoding(page)))[0] for page in _present(members, chapters)]
    title = " ".join(str(next(iter(opf.xpath("//*[local-name()='title']/text()")), "")).split())
    return "\n\n".join(filter(None, texts)), title


def _present(members: dict[str, bytes], names: list[str]) -> Iterator[bytes]:
    return (members[name] for name in dict.fromkeys(names) if name in members)


def _xml(members: dict[str, bytes], name: str) -> Any:
    from lxml import etree

    if name not in members:
        raise DocumentUnreadable(f"not an EPUB book: {name or 'its package file'} is missing")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    return etree.fromstring(members[name], parser)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the members that hold text; all are inflated and measured."""
    inflated = markup = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_MEMBERS:
            raise DocumentUnreadable(f"it holds more than {MAX_MEMBERS:,} files")
        for info in infos:
            if info.flag_bits & 1:
                raise DocumentUnreadable("it is encrypted; save a copy without a password")
            kept: list[bytes] = []
            textual = info.filename.lower().endswith((".xml", ".rels", ".opf", ".xhtml", ".html", ".htm"))
            with archive.open(info) as member:
                while piece := member.read(_PIECE):
                    inflated += len(piece)
                    markup += len(piece) if textual else 0
                    if inflated > MAX_INFLATED or markup > MAX_MARKUP:
                        raise DocumentUnreadable(f"it inflates to more than {inflated >> 20} MB")
                    if textual:
                        kept.append(piece)
            yield info.filename, b"".join(kept)
