"""Judges with an ONNX cross-encoder how well passages answer a question, and where in each of them the answer is.

One forward over pairs laid out as in training: [CLS] question [SEP] place, table header, text [SEP]. The probabilities
were calibrated on passages like those of the training set; how far they hold for other documents is not known here.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeai.errors import ModelRejected
from edgeai.onnx.onnxfile import OnnxFile, available_cpus, batches, encodable, load_tokenizer, pad
from edgeai.prompt import place
from edgeai.records import Passage, Reading
from edgeai.specs import ReaderSpec
from edgeai.text.sentences import is_complete, sentences

QUESTION_TOKENS, PLACE_TOKENS, HEADER_TOKENS = 48, 32, 48  # longer ones are cut; the first two as in training
SPAN_TOKENS = 40  # the longest answer, as in training
BATCH_TOKENS = 512  # padded tokens per forward: 8 passages take 92 ms instead of 113 with 2,048, and 80 MB less

_FULL_STOPS = ".!?…。！？｡؟।۔"
_WORD = re.compile(r"\d(?:[\d.,'’]*\d)?|[^\W\d_]+")

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A question and a passage in tokens; `offsets` are those of the text's tokens, in `passage.text`."""

    ids: tuple[int, ...]
    passage_from: int  # first token of the second segment
    text_from: int  # first token of the text
    offsets: tuple[tuple[int, int], ...]


class OnnxReader:
    """A cross-encoder as an ONNX file; implements `engines.Reader` and is safe to call from several threads.

    The model is loaded by the first `read` that has passages. Raises `EngineMissing` when ONNX Runtime or tokenizers
    do not load, `ModelMissing` when a file is not there, and `ModelRejected` when a file cannot be used as a reader.
    """

    def __init__(self, spec: ReaderSpec, *, threads: int | None = None) -> None:
        """`threads`: upper limit for one forward; None = every CPU this process may use."""
        self.spec = spec
        self._file = OnnxFile(spec.model, "reader", spec.name)
        self._threads = threads or available_cpus()
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer = load_tokenizer(spec.tokenizer, spec.name)
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a document is text, not a separator
        start, separator = self._tokenizer.token_to_id("[CLS]"), self._tokenizer.token_to_id("[SEP]")
        if start is None or separator is None:
            raise ModelRejected(f"The tokenizer {spec.tokenizer} has no [CLS] and [SEP]; choose another reader.")
        self._cls, self._sep = start, separator

    def load(self) -> None:
        """Load the model, where that was not done before."""
        self._opened()

    def read(
        self, question: str, passages: Sequence[Passage], checkpoint: Callable[[], None] = lambda: None
    ) -> tuple[Reading, ...]:
        """One reading for each passage, in the order given; it does not depend on the other passages.

        What exceeds `spec.max_tokens` tokens is cut off the end of the text: no answer is found there. `checkpoint` is
        called before every forward; what it raises ends the reading.
        """
        pairs = self._pairs(question, passages)
        readings: dict[int, Reading] = {}
        for batch in batches([len(pair.ids) for pair in pairs], BATCH_TOKENS):
            checkpoint()
            judged, spans = self._forward([pairs[row] for row in batch])
            for row, judgement, logits in zip(batch, judged, spans, strict=True):
                readings[row] = _reading(judgement, logits, pairs[row], passages[row].text)
        return tuple(readings[row] for row in range(len(pairs)))

    def close(self) -> None:
        """Free the model; a later call loads it again."""
        with self._lock:
            self._session = None

    def _pairs(self, question: str, passages: Sequence[Passage]) -> list[_Pair]:
        """The layout of tools/pairs.py: parts are tokenised apart and put together without separators."""
        parts = [part for passage in passages for part in (place(passage), passage.header, passage.text)]
        encodings = self._tokenizer.encode_batch(
            [encodable(text) for text in (question, *parts)], add_special_tokens=False
        )
        asked = [self._cls, *encodings[0].ids[:QUESTION_TOKENS], self._sep]
        pairs = []
        for front_place, header, text in zip(encodings[1::3], encodings[2::3], encodings[3::3], strict=True):
            front = (*asked, *front_place.ids[:PLACE_TOKENS], *header.ids[:HEADER_TOKENS])[: self.spec.max_tokens - 1]
            room = self.spec.max_tokens - 1 - len(front)
            ids = (*front, *text.ids[:room], self._sep)
            pairs.append(_Pair(ids, len(asked), len(front), tuple(text.offsets[:room])))
        return pairs

    def _forward(self, pairs: Sequence[_Pair]) -> tuple[Array, Array]:
        """Logits of the judgements (pairs, 2) and of the spans (pairs, longest, 2)."""
        token_ids, mask = pad([pair.ids for pair in pairs])
        types = np.zeros_like(token_ids)
        for row, pair in enumerate(pairs):
            types[row, pair.passage_from : len(pair.ids)] = 1
        values = {"input_ids": token_ids, "attention_mask": mask, "token_type_ids": types}
        judged, spans = self._file.run(self._opened(), ["judged", "spans"], values)
        if judged.shape != (len(pairs), 2) or spans.shape != (*token_ids.shape, 2):
            raise self._file.rejected("does not give two judgements of a pair and two span logits of a token")
        if not (np.isfinite(judged).all() and np.isfinite(spans).all()):
            raise self._file.rejected("gives values that are not finite")
        return judged.astype(np.float64), spans.astype(np.float64)

    def _opened(self) -> Any:
        with self._lock:
            if self._session is None:
                session = self._file.open(self._threads)
                if not {"judged", "spans"} <= {put.name for put in session.get_outputs()}:
                    raise self._file.rejected("has no outputs judged and spans")
                self._session = session
            return self._session


def _reading(judged: Array, spans: Array, pair: _Pair, text: str) -> Reading:
    relevance, answerable = (1 + np.tanh(judged / 2)) / 2  # the logistic, without overflow
    found = best_span(spans[pair.text_from : pair.text_from + len(pair.offsets)])
    if found is None:
        return Reading(float(relevance), float(answerable), 0, 0, 0.0)
    first, last, score = found
    # Training let a span be anywhere in the second segment, or at [CLS].
    possible = spans[[0, *range(pair.passage_from, len(pair.ids))]]
    peaks = possible.max(axis=0)
    total = (peaks + np.log(np.exp(possible - peaks).sum(axis=0))).sum()
    start, end = within_sentence(text, *trimmed(text, pair.offsets[first][0], pair.offsets[last][1]))
    return Reading(float(relevance), float(answerable), start, end, float(np.exp(score - total)))


def best_span(logits: Array, longest: int = SPAN_TOKENS) -> tuple[int, int, float] | None:
    """First and last token (inclusive) of the span with the highest sum of start and end logit, and that sum.

    `logits` has shape (tokens, 2); a span has at most `longest` tokens. None without tokens.
    """
    if not len(logits):
        return None
    ends = np.concatenate([logits[:, 1], np.full(longest - 1, -np.inf)])
    windows = np.lib.stride_tricks.sliding_window_view(ends, longest)  # (tokens, longest): the ends each start may have
    sums = logits[:, :1] + windows
    first, length = divmod(int(sums.argmax()), longest)
    return first, first + length, float(sums[first, length])


def within_sentence(text: str, start: int, end: int) -> tuple[int, int]:
    """The offsets up to the end of the sentence they begin in: what follows it answers something else, or is planted.

    Lists, whose items are sentences of their own without a full stop, stay whole.
    """
    if not any(mark in text[start:end] for mark in _FULL_STOPS):  # nearly always, and much cheaper
        return start, end
    ends = (stop for _, stop in sentences(text) if start < stop < end and is_complete(text[start:stop]))
    cut = next(ends, None)
    return start, end if cut is None else start + len(text[start:cut].rstrip(_FULL_STOPS))


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The offsets without white space at either side, with the combining marks that tokenizers strip at the end, and
    with the rest of a word or number that they cut in two: "608" of "1,204,608" would be another number.
    """
    while end < len(text) and unicodedata.combining(text[end]):
        end += 1
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    for word in _WORD.finditer(text) if start < end else ():
        if word.start() < start < word.end():
            start = word.start()
        if word.start() < end < word.end():
            end = word.end()
    return start, end
