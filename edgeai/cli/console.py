"""How things look on a terminal, and plain when they are piped.

Results go to standard output, everything else to standard error; progress is drawn only on a terminal. Text from
documents and models is cleaned of terminal control sequences before it is printed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from edgeai.records import Answer, Citation, Hit, Progress, ProgressCallback, SyncReport

# Escape sequences go with their payload (ECMA-48 CSI, OSC, DCS and the two-character ones); then every other C0/C1.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x07|\x1b\\|$)|[ -/]*[0-~])|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL
)
_PIPED_WIDTH = 200  # columns of a table that nobody's window limits

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text without anything a terminal would obey; line feeds and tabs stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


@cache
def out() -> Console:
    """The console for results."""
    from rich.console import Console

    piped = not sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=piped, width=_PIPED_WIDTH if piped else None)


@cache
def err() -> Console:
    """The console for progress and notices."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def say(text: str, style: str = "") -> None:
    """A result, as literal text."""
    out().print(clean(text), style=style, markup=False)


def notice(text: str) -> None:
    """Something the user should know that is not the result."""
    err().print(clean(text), style="yellow", markup=False)


def aside(text: str) -> None:
    """Something said in passing."""
    err().print(clean(text), style="dim", markup=False)


def short_path(path: str) -> str:
    """A path relative to the working directory when it lies below it."""
    try:
        return Path(path).relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path


def place(path: str, heading: str = "", page: int | None = None) -> str:
    """Where something is, in one line: file, page, heading."""
    parts = [short_path(path), f"page {page}" if page else "", heading]
    # A file name may hold line feeds.
    return re.sub(r"[\n\t]", " ", clean(" · ".join(part for part in parts if part)))


@contextmanager
def progress_bar(label: str) -> Iterator[ProgressCallback]:
    """A progress callback drawn as a bar with rate and time left on a terminal, and silent elsewhere."""
    if not err().is_terminal:
        yield lambda _: None
        return
    from rich import progress as bars

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=30),
        bars.TextColumn("{task.fields[amount]}"),
        bars.TimeRemainingColumn(compact=True),
    )
    drawn = bars.Progress(*columns, console=err(), transient=True)
    task = drawn.add_task(label, total=None, amount="")

    def show(step: Progress) -> None:
        amount = _amount(step, drawn.tasks[0].speed)
        description = clean(step.message) or label
        drawn.update(task, completed=step.done, total=step.total or None, amount=amount, description=description)
        if step.total and step.done >= step.total:
            drawn.stop()
        else:
            drawn.start()  # not before there is something to wait for

    try:
        yield show
    finally:
        drawn.stop()


def _amount(step: Progress, speed: float | None) -> str:
    if step.unit == "bytes":
        rate = f" · {speed / 1e6:.1f} MB/s" if speed else ""
        return f"{step.done / 1e6:.0f}/{step.total / 1e6:.0f} MB{rate}"
    rate = f" · {speed:.0f} {step.unit}/s" if speed else ""
    return f"{step.done}/{step.total} {step.unit}{rate}"


def count_steps(step: Progress) -> None:
    """Draws between two questions only: a bar of its own thread would compete with what is measured."""
    if err().is_terminal:
        end = "\n" if step.done == step.total else ""
        err().file.write(f"\r{step.done}/{step.total} {step.unit}{end}")
        err().file.flush()


def show_hit(number: int, hit: Hit, terms: tuple[str, ...]) -> None:
    """One search result: place, then the passage with the words of the query highlighted."""
    from rich.text import Text

    where = place(hit.path, " > ".join(hit.chunk.heading), hit.chunk.page)
    out().print(Text(f"{number}. ", "bold") + Text(where, "cyan"))
    quote = Text(clean(_shorten(hit.chunk.text)))
    quote.highlight_words([term for term in terms if len(term) > 1], "bold yellow", case_sensitive=False)
    out().print(quote)
    out().print()


def _shorten(text: str, limit: int = 500) -> str:
    return text if len(text) <= limit else text[:limit].rsplit(None, 1)[0] + " …"


def show_sources(citations: Iterable[Citation]) -> None:
    """The list of sources under an answer: number, place and the quoted words."""
    from rich.text import Text

    for citation in citations:
        line = Text(f"  [{citation.n}] ", "bold") + Text(place(citation.path, citation.heading, citation.page), "cyan")
        out().print(line)
        out().print(Text(f"      “{clean(_quoted(citation))}”", "dim"))


def _quoted(citation: Citation) -> str:
    return _shorten(" ".join(citation.quote.split()), 200)


def show_in_context(text: str, start: int, end: int, around: int) -> None:
    """A quote, highlighted, between up to `around` characters of what stands before and after it."""
    from rich.text import Text

    before = text[:start] if start <= around else "… " + text[start - around : start].partition(" ")[2]
    after = text[end:] if len(text) - end <= around else text[end : end + around].rpartition(" ")[0] + " …"
    quote = Text(clean(text[start:end]), "bold yellow")
    out().print(Text(clean(before.lstrip()), "dim") + quote + Text(clean(after.rstrip()), "dim"))


def show_closest(answer: Answer) -> None:
    """What a refusal offers instead: where the nearest passages are."""
    if answer.closest:
        notice("Closest passages:")
        for passage in answer.closest:
            notice(f"  {place(passage.path, ' > '.join(passage.heading), passage.page)}")


def show_timing(answer: Answer) -> None:
    """One line on what the answer took."""
    times = answer.timings
    parts = [
        f"{times.total:.0f} ms",
        f"retrieval {times.embed + times.search:.0f}",
        *([f"prepared {times.prepared:.0f}"] if times.prepared else []),
        f"first token {times.first_token:.0f}",
        answer.mode,
        *answer.degraded,
    ]
    err().print(" · ".join(parts), style="dim", markup=False)


def show_report(report: SyncReport, *, verbose: bool = True) -> None:
    """What a sync did, and every file it skipped with the reason."""
    counts = {
        "added": len(report.added),
        "changed": len(report.changed),
        "moved": len(report.moved),
        "removed": len(report.removed),
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
    }
    changes = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to do"
    rate = f" ({report.chunks / report.embed_seconds:.0f} chunks/s)" if report.embed_seconds > 0.05 else ""
    err().print(f"{changes}; {report.chunks} chunks in {report.seconds:.1f} s{rate}", style="dim", markup=False)
    for item in report.skipped if verbose else ():
        err().print(clean(f"skipped {short_path(item.path)}: {item.reason}"), style="yellow", markup=False)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """A JSON document on standard output, untouched by terminal width or colour."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # an old code page, or half a surrogate pair: escapes are valid JSON everywhere
        text = json.dumps(value, indent=indent)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
