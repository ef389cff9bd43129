"""Whether an HTML page is well formed and needs nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

EMPTY = {"meta", "circle", "line", "rect", "path", "polyline"}  # elements without an end tag, or closed at once


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href"} & dict(attrs).keys()
        self.seen.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag


def tags_of(page: str) -> list[str]:
    """All tags of a page in order; fails unless every element is closed and nothing can be fetched or run."""
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "default-src 'none'" in page
    return tags.seen
