"""The frozen records that pass between modules.

Nothing here does I/O or imports a third-party package. Offsets are half-open `[start, end)` Unicode code points
(Python `str` indices) into `Document.text`; times are milliseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]

BlockKind = Literal["heading", "paragraph", "list", "table", "code", "record"]
Status = Literal["answered", "refused", "conflict"]
Mode = Literal["generated", "extractive"]
Support = Literal["strong", "weak", "none"]  # of an answer by the documents; "none" for a refusal
Finish = Literal["", "stop", "length", "cancelled"]
Owner = tuple[str, float]  # path of a document and when it was modified


# documents and chunks ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Block:
    """One structural unit of a document, in reading order; blocks never overlap."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0  # headings: 1-6
    page: int | None = None  # 1-based
    header_end: int = 0  # tables: where the header rows end, 0 when there are none


@dataclass(frozen=True, slots=True)
class Document:
    """The extracted text of one file, with its structure and metadata."""

    path: str  # absolute, with forward slashes; the identity of the document in an index
    text: str
    type: str  # "markdown", "text", "html", "pdf", "docx", "csv", "json", "epub", "email", "rst", "code"
    title: str
    modified: float  # seconds since the epoch
    digest: str  # SHA-256 of the file's bytes, hex
    blocks: tuple[Block, ...] = ()
    tags: tuple[str, ...] = ()
    label: str = ""  # access label
    size: int = 0  # bytes of the file


def outer_headings(heading: tuple[str, ...], text: str) -> tuple[str, ...]:
    """The heading path of a text, without the last heading where the text itself opens with it."""
    return heading[:-1] if heading and text.lstrip("#=* ").startswith(heading[-1]) else heading


@dataclass(frozen=True, slots=True)
class Chunk:
    """A contiguous piece of a document: `document.text[start:end] == text`."""

    start: int
    end: int
    text: str
    heading: tuple[str, ...] = ()  # outermost first
    header: str = ""  # header row of the table this chunk continues, "" when `text` has it
    page: int | None = None

    @property
    def context(self) -> str:
        """What a reader needs before `text`: heading path, then the table header; "" when there is neither."""
        path = " > ".join(outer_headings(self.heading, self.text))
        return "\n".join(part for part in (path, self.header) if part)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not indexed, and why, in words for the user."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one `sync` did; every tuple holds absolute paths."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    skipped: tuple[Skipped, ...] = ()
    chunks: int = 0  # embedded and written by this run
    seconds: float = 0.0
    embed_seconds: float = 0.0  # of which inside ONNX Runtime

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long job is; `done` and `total` are in `unit`."""

    done: int
    total: int
    unit: str  # "files", "chunks", "bytes"
    message: str = ""


ProgressCallback = Callable[[Progress], None]


# retrieval --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hit:
    """One retrieved chunk with where it came from and how it was ranked."""

    chunk_id: int
    chunk: Chunk
    path: str
    title: str
    type: str
    modified: float
    score: float  # fused score, higher is better; comparable only within one question
    keyword_rank: int | None = None  # 1-based rank in each list, None when absent from it
    vector_rank: int | None = None
    keyword_score: float | None = None  # BM25 as a positive number
    similarity: float | None = None  # cosine of question and chunk, -1..1

    def as_dict(self) -> dict[str, Any]:
        """The object `edgeai search --json` prints."""
        return {
            "path": self.path,
            "title": self.title,
            "start": self.chunk.start,
            "end": self.chunk.end,
            "text": self.chunk.text,
            "heading": " > ".join(self.chunk.heading),
            "page": self.chunk.page,
            "score": self.score,
            "keyword_rank": self.keyword_rank,
            "vector_rank": self.vector_rank,
            "similarity": self.similarity,
        }


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The result of one search: hits best first, the signals refusal needs, and what it cost."""

    hits: tuple[Hit, ...]
    coverage: float  # 0..1, idf-weighted share of the question's content words found in the best chunk
    similarity: float  # best cosine, 0 when there is no vector hit
    embed_ms: float = 0.0
    search_ms: float = 0.0
    trust: float = 1.0  # 0..1, how far models of English can be relied on for this question


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader says of one question and one passage: probabilities, and where in the passage the answer is.

    `passage.text[start:end]` is the likeliest answer, however unlikely; `start == end` when the text has no token.
    """

    relevance: float  # that the passage is about what is asked
    answerable: float  # that it holds the answer
    start: int
    end: int
    span: float  # that this is the answer, against all other spans and "nowhere"


# prompt and generation --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Passage:
    """A numbered piece of a document as shown to the generator: `document.text[start:end] == text`."""

    number: int  # 1-based, what `[n]` refers to
    text: str
    path: str
    start: int
    end: int
    title: str = ""
    heading: tuple[str, ...] = ()
    header: str = ""
    page: int | None = None
    modified: float = 0.0

    @property
    def owner(self) -> Owner:
        """The version of the document that it is a part of, however little of it."""
        return self.path, self.modified


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier exchange of a chat."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a prompt, tokenised on its own so that its ids never depend on its neighbours.

    `special` segments hold exactly one control token of the template. All others are tokenised with special tokens
    off: text from documents or users can never become a control token.
    """

    text: str
    role: Literal["prefix", "passage", "history", "question", "suffix"]
    special: bool = False
    owner: Owner | None = None  # of a passage; what is computed of it outlives the process only where that is known


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the generator is asked to continue."""

    segments: tuple[Segment, ...]
    passages: tuple[Passage, ...]
    max_tokens: int  # length limit of the answer
    hint: str = ""  # the answer to expect: costs nothing if it is wrong, and much time is saved if it is right
    favour: float = 0.0  # nats added to the log-probability of the hint's next token, as long as the answer follows it
    grammar: str = ""  # what the answer must match, in llama.cpp's notation (GBNF), a text of JSON or a choice
    closing: int = 0  # of `max_tokens`, kept for bringing that to an end


@dataclass(frozen=True, slots=True)
class Piece:
    """A streamed part of an answer; the last one has `finish` set and carries the totals."""

    text: str
    finish: Finish = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, taken from resident state instead of being computed
    output_tokens: int = 0
    prefill_ms: float = 0.0  # until the prompt was evaluated
    first_token_ms: float = 0.0  # until the first piece was ready, counted from the call
    generate_ms: float = 0.0  # from the evaluated prompt to the end
    forwards: int = 0  # of the model, in that time


# answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a statement comes from: `document.text[start:end] == quote`."""

    n: int
    path: str
    start: int
    end: int
    quote: str
    heading: str = ""
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer may be shown, and how sure we are."""

    status: Status
    confidence: float  # 0..1
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds per stage; `first_token` and `total` count from the question's arrival."""

    embed: float = 0.0
    search: float = 0.0
    read: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0
    generate: float = 0.0
    total: float = 0.0
    prepared: float = 0.0  # of embedding, search and reading, before the question arrived (`Assistant.prepare`)

    def as_dict(self) -> dict[str, float]:
        """Rounded to a hundredth of a millisecond."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


CLOSEST = 3  # passages that a refusal offers instead


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete reply with its evidence and its cost."""

    question: str
    text: str
    status: Status
    mode: Mode
    citations: tuple[Citation, ...] = ()
    confidence: float = 0.0
    degraded: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)
    tokens: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    budget_ms: float | None = None
    passages: tuple[Passage, ...] = ()  # everything the answer could have used, cited or not
    support: Support = "strong"
    value: Any = None  # of an answer in a form: the JSON value or the choice, which `text` is in writing
    value_sources: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # JSON Pointer to passages cited

    @property
    def closest(self) -> tuple[Passage, ...]:
        """What a refusal offers instead of an answer, the most likely first; nothing beside an answer."""
        return self.passages[:CLOSEST] if self.status == "refused" else ()

    def as_dict(self) -> dict[str, Any]:
        """The object `edgeai ask --json` prints; a contract (README, "JSON")."""
        return {
            "question": self.question,
            "answer": self.text,
            "status": self.status,
            "mode": self.mode,
            "citations": [asdict(citation) for citation in self.citations],
            "confidence": round(self.confidence, 4),
            "support": self.support,
            "closest": [_place(passage) for passage in self.closest],
            "degraded": list(self.degraded),
            "timings_ms": self.timings.as_dict(),
            "tokens": dict(self.tokens),
            "model": self.model,
            "budget_ms": self.budget_ms,
            **({} if self.value is None else {"value": self.value, "value_sources": dict(self.value_sources)}),
        }


def _place(passage: Passage) -> dict[str, Any]:
    heading = " > ".join(passage.heading)
    place = {"path": passage.path, "start": passage.start, "end": passage.end, "text": passage.text}
    return {**place, "heading": heading, "page": passage.page}
