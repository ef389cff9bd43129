"""The questions of the last weeks, kept on this machine where the user wants that (`log_questions`), off otherwise.

Only what a comparison needs: the question with e-mail addresses and numbers masked, whether it was answered, how sure.
Names and anything else a question says stay as they are. Two processes that trim the file at once may lose a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from edgeai.config import data_dir
from edgeai.records import Answer, Piece
from edgeai.reply import Reply

LONGEST = 1_000_000  # bytes, about 5,000 questions; then the older half goes
_EMAIL = re.compile(r"[^\s@<>()]+@[^\s@<>()]+")
_NUMBER = re.compile(r"\d(?:[\d.,:/ -]*\d)?")


@dataclass(frozen=True, slots=True)
class Logged:
    """One question, masked, with what became of it."""

    question: str
    refused: bool
    confidence: float


def logged(reply: Reply, index: Path) -> Reply:
    """The same reply, which leaves a line in the log once its answer is complete."""
    return Reply(_run(reply, index))


def _run(reply: Reply, index: Path) -> Generator[Piece, None, Answer]:
    with reply:
        yield from reply
        answer = reply.answer
    append(index, answer)
    return answer


def mask(question: str) -> str:
    """A question without e-mail addresses and numbers."""
    return _NUMBER.sub("#", _EMAIL.sub("(e-mail)", question))


def path() -> Path:
    """The file of the log; it need not exist."""
    return data_dir() / "questions.jsonl"


def append(index: Path, answer: Answer) -> None:
    """Add a line; silently given up where the file cannot be written: the answer is worth more than its line."""
    line = {
        "asked": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "index": str(index.absolute()),
        "question": mask(answer.question),
        "status": answer.status,
        "confidence": round(answer.confidence, 4),
    }
    file = path()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        if file.stat().st_size > LONGEST:
            _trim(file)


def _trim(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").split("\n")  # splitlines would cut at U+2028 too
    part = file.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines[len(lines) // 2 :]))
    part.replace(file)


def recent(index: Path, count: int) -> list[Logged]:
    """The last `count` questions that were asked of an index, the oldest first; none where nothing was logged."""
    try:
        lines = path().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    wanted = str(index.absolute())
    found: list[Logged] = []
    for line in reversed(lines):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line that was cut off says nothing
            record = json.loads(line)
            if record["index"] == wanted:
                found.append(Logged(record["question"], record["status"] == "refused", float(record["confidence"])))
        if len(found) == count:
            break
    return found[::-1]
