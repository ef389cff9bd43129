"""An answer in the making: what is known once retrieval is done, and what becomes of the model's words.

It decides which of two answers is shown, the generated one or what the passages say in their own words, or neither.
With a reader the second is the span it found, and its judgement of whether there is an answer weighs against the
model's; without one it is the sentence that shares most with the question.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgeai import prompt
from edgeai.budget import ATTENDED, FORWARD_OVERHEAD, PAIR_OVERHEAD, Budget
from edgeai.config import Settings
from edgeai.engines import Embedder, Generator, Reader
from edgeai.grounding import cells, check, cite, conflict, definitions, extent, read
from edgeai.grounding.calibrated import SHIPPED, Calibration
from edgeai.records import (
    Answer,
    Citation,
    Mode,
    Passage,
    Piece,
    Prompt,
    Reading,
    Retrieval,
    Segment,
    Status,
    Support,
    Timings,
    Turn,
    Verdict,
)
from edgeai.scores import contains, normalised
from edgeai.specs import ChatTemplate, GeneratorSpec
from edgeai.text.links import inert

PORTION = 3  # passages read at a time, best first
ROW_WORDS = 20  # a longer row of a table is not shown whole
EXTRA_WORDS = 6  # more than this beside the reader's span may be a claim of its own
_YES_OR_NO = re.compile(
    r"\W*(?:and |but |so |then )?(?:am|is|are|was|were|do|does|did|can|could|may|might|must|shall|should|will|would|"
    r"has|have|had)\b(?!.*\bor\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of an answer once retrieval is done; `readings` are those of `passages`, or none."""

    question: str
    query: str
    passages: tuple[Passage, ...]
    found: Retrieval
    began: float
    budget: Budget
    embedder: Embedder | None
    readings: tuple[Reading, ...] = ()
    read_ms: float = 0.0
    cut: tuple[str, ...] = ()  # what there was no time for
    calibration: Calibration | None = None  # of this index; where it does not apply, the constants decide
    prepared_ms: float = 0.0  # spent before the question was asked

    def read(
        self,
        reader: Reader,
        candidates: Sequence[Passage],
        limit: int,
        *,
        generating: bool,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> Draft:
        """The draft with the best `limit` of these passages, as fusion and reader together rank them, and readings.

        Only as many are read as there is time for, and no more once one plainly holds the answer, or, if an answer is
        to be generated, once one probably does and reading on would leave no time for that. Raises what `checkpoint`
        raises.
        """
        lengths = [len(passage.text) for passage in candidates]
        count = self.budget.pairs(lengths)
        began = time.perf_counter()
        readings: tuple[Reading, ...] = ()
        while (done := len(readings)) < count and not read.settled(readings):
            following = slice(done, min(count, done + PORTION))
            if generating and read.probable(readings) and self.budget.leaves_no_answer(lengths[following]):
                break
            found = reader.read(self.query, candidates[following], checkpoint)
            readings += tuple(map(self._completed, candidates[following], found))
        short = done < len(candidates) and not read.settled(readings)
        cut = (f"{done} of {len(candidates)} passages read",) if short else ()
        candidates = candidates[: len(readings)]
        read_ms = (time.perf_counter() - began) * 1000
        self.budget.costs.note(read=(sum(len(passage.text) + PAIR_OVERHEAD for passage in candidates), read_ms))
        best = read.order([hit.score for hit in self.found.hits[: len(readings)]], readings, self.found.trust)[:limit]
        return replace(
            self,
            passages=tuple(replace(candidates[row], number=number) for number, row in enumerate(best, 1)),
            readings=tuple(readings[row] for row in best),
            read_ms=read_ms,
            cut=cut,
        )

    def _completed(self, passage: Passage, reading: Reading) -> Reading:
        """The reading, its span put right where the form of the text tells more than its words."""
        questions = (self.question, self.query)
        return extent.whole(questions, passage, cells.pointed(questions, passage, reading))

    def outlook(self) -> Verdict:
        """Whether the passages are worth showing to a language model."""
        if self.readings:
            return self._verdict(None)
        fitted = self._fitted()
        return check.answerable(self.found, fitted.floor) if fitted else check.answerable(self.found)

    def asked(self, began: float, budget: Budget) -> Draft:
        """The draft of a question that arrives now, at `began`, with all this done before."""
        return replace(
            self,
            began=began,
            budget=budget,
            found=replace(self.found, embed_ms=0.0, search_ms=0.0),
            read_ms=0.0,
            prepared_ms=self.found.embed_ms + self.found.search_ms + self.read_ms,
        )

    def whole(self, template: ChatTemplate) -> tuple[Segment, ...]:
        """The prefix of all prompts and the passages, none cut, for a model that was trained on them apart."""
        prefix = prompt.prefix_segments(template, numbered=False)
        texts = (Segment(prompt.passage_text(one, numbered=False), "passage", owner=one.owner) for one in self.passages)
        return (*prefix, *texts)

    def waited(self, seconds: float) -> Draft:
        """The draft after a wait that is not the question's fault, for a model to be loaded."""
        return replace(self, budget=replace(self.budget, began=self.budget.began + seconds))

    def hint(self) -> str:
        """What the reader takes for the answer; "" without a reader."""
        return read.hint(self.passages, self.readings) if self.readings else ""

    def lay_out(
        self, passages: Sequence[Passage], generator: Generator, settings: Settings, history: Sequence[Turn] = ()
    ) -> Prompt:
        """The prompt that asks a model to answer from these passages, with the reader's span where it knows of it."""
        return prompt.build_prompt(
            self.question,
            passages,
            generator.spec.template,
            count=generator.count_tokens,
            context=min(settings.context, generator.spec.context),
            max_tokens=settings.max_tokens,
            history=history,
            numbered=not generator.spec.independent,
            hint=self.hint() if generator.spec.independent else "",
            favour=read.FAVOUR,
        )

    def refused(self, verdict: Verdict, mode: Mode = "extractive") -> Answer:
        """The fixed sentence; `mode` tells whether the model said so or was never asked."""
        return self._answer(prompt.REFUSAL, verdict, mode, ())

    def extractive(self, verdict: Verdict, *degraded: str) -> Answer:
        """What the passages say in their own words, as far as it can be believed without a language model."""
        if self.readings:
            verdict = self._verdict(read.UNHEARD)
            if verdict.status == "refused":
                return self.refused(verdict)
        return self._quoting(verdict, degraded)

    def asks(self, spec: GeneratorSpec) -> bool:
        """Whether the words of this model could be shown: what a small one says about a yes or no is too often made up,
        where the reader knows the sentence that decides it, and of several cells of a table it would say one.
        """
        if not (spec.independent and self.readings):
            return True
        return not (_YES_OR_NO.match(self.question) or "|" in self.hint())

    def defined(self) -> Answer | None:
        """What an acronym stands for, None where that is not the question or no passage says so."""
        if (found := definitions.find(self.question, self.passages)) is None:
            return None
        text, quote = found
        return self._answer(text, Verdict("answered", definitions.SURE), "extractive", (quote,))

    def differing(self) -> Answer | None:
        """Both values where two documents contradict each other, None where none does.

        No language model is asked: what it would have to say is known, and it might say only half of it.
        """
        if (found := conflict.find(self.query, self.passages, self.readings)) is None:
            return None
        verdict = self._verdict(read.UNHEARD)
        if verdict.status == "refused":
            return None
        text, citations = conflict.told(found, self.passages, self.readings)
        status: Status = "conflict" if found.kind == "conflict" else "answered"
        return self._answer(text, replace(verdict, status=status), "extractive", citations)

    def generated(
        self, pieces: list[Piece], shown: tuple[Passage, ...], verdict: Verdict, spec: GeneratorSpec, sent: float
    ) -> Answer:
        """The model's words when they can be believed, else what the passages say in their own words, else neither."""
        last = pieces[-1]
        new = last.prompt_tokens - last.cached_tokens
        computed = round(new + ATTENDED * last.cached_tokens) + FORWARD_OVERHEAD
        if last.finish == "cancelled" and not last.output_tokens:
            self.budget.costs.missed(computed, last.prefill_ms)
        else:
            self.budget.costs.note(prefill=(computed, last.prefill_ms), forward=(last.forwards, last.generate_ms))
        if last.finish == "cancelled":
            return self.extractive(verdict, "out of time")
        said = "".join(piece.text for piece in pieces).strip()
        if last.finish == "length":
            said = cite.trim_to_sentences(said)
        decide = self._weighed if self.readings and spec.independent else self._checked
        return self.timed(decide(said, shown, verdict), last, spec, sent)

    def timed(self, answer: Answer, last: Piece, spec: GeneratorSpec, sent: float) -> Answer:
        """The answer with what it took, by the last piece of what the model said since `sent`."""
        wait = (sent - self.began) * 1000
        timings = replace(
            answer.timings, prefill=last.prefill_ms, first_token=wait + last.first_token_ms, generate=last.generate_ms
        )
        tokens = {"prompt": last.prompt_tokens, "cached": last.cached_tokens, "output": last.output_tokens}
        return replace(answer, model=spec.name, timings=timings, tokens=tokens)

    def _weighed(self, said: str, shown: tuple[Passage, ...], outlook: Verdict) -> Answer:
        """Decide by the reader's judgement of the passages and the word of a model that has learnt to decline."""
        if prompt.is_refusal(said):
            verdict = self._verdict(read.DECLINED)
            if verdict.status == "refused":
                return self.refused(verdict, "generated")
            return self._quoting(verdict, ("the model declined",))
        text, citations = self._attributed(said, shown)
        supported = check.check(text, citations, shown, outlook)
        stated = supported.status == "answered"
        verdict = self._verdict(read.STATED if stated else read.UNHEARD)
        if verdict.status == "refused":
            return self.refused(verdict)
        if not stated:
            return self._quoting(verdict, ("unsupported",))
        if not self._agrees(said):
            return self._quoting(verdict, ("not what the reader found",))
        return self._answer(text, replace(verdict, reasons=supported.reasons), "generated", citations)

    def _agrees(self, said: str) -> bool:
        """Whether one holds the words of the other: the model's answer and the reader's span.

        Where they differ, the reader is right far more often (benchmarks/LOG.md).
        """
        span = self.hint()
        return contains(said, [span]) or contains(span, [said])

    def _attributed(self, said: str, shown: tuple[Passage, ...]) -> tuple[str, tuple[Citation, ...]]:
        """The model's words with their citations.

        Where they are little more than the reader's span they rest on its passage, whatever others share those words.
        """
        best = self._best()
        extra = len(normalised(said)) - len(normalised(self.hint()))
        if best and extra <= EXTRA_WORDS and contains(said, [self.hint()]):
            return cite.with_mark(said, best[1].n), (best[1],)
        return cite.cite(said, shown)

    def _checked(self, said: str, shown: tuple[Passage, ...], verdict: Verdict) -> Answer:
        """Decide by words alone: those of the passages, and those of the sentence that fits the question best.

        For models that were not trained to answer from passages: what they say counts only beside a second witness.
        """
        if self.readings:
            verdict = self._verdict(read.UNHEARD)
            if verdict.status == "refused":
                return self.refused(verdict)
        if prompt.is_refusal(said):
            if self.readings:  # such a model declines at random; the reader has been asked
                return self._quoting(verdict, ("the model declined",))
            return self.refused(check.check(said, (), shown, verdict), "generated")
        text, citations = check.keep_supported(*cite.cite(said, shown), shown)
        verdict_on_text = check.check(text, citations, shown, verdict)
        best = self._best()
        if verdict_on_text.status != "answered" or not check.answers(self.query, citations):
            return self._quoting(verdict, ("unsupported",))
        if best and not check.overlap(citations, best[1]):
            return self._quoting(verdict, ("not the best sentence",))
        return self._answer(text, verdict_on_text, "generated", citations)

    def _quoting(self, verdict: Verdict, degraded: tuple[str, ...]) -> Answer:
        best = self._best()
        if best is None:
            return self.refused(replace(verdict, status="refused", reasons=("no sentence fits the question",)))
        text, citation = best
        return self._answer(text, verdict, "extractive", (citation,), degraded)

    def _best(self) -> tuple[str, Citation] | None:
        if self.readings:
            return self._read()
        compare = self._similarity if self.embedder else None
        # The question as rewritten repeats what was asked before, so it comes second.
        return check.extract(self.question, self.passages, compare) or check.extract(self.query, self.passages, compare)

    def _read(self) -> tuple[str, Citation] | None:
        """The reader's span; the sentence it stands in where a span says too little: for a yes or no, and of a table
        the row, with its columns named.
        """
        row = read.chosen(self.passages, self.readings)
        passage = self.passages[row]
        best = read.extract(passage, self.readings[row])
        if best is None:
            return None
        words, quote = best
        sentence = check.as_sentence(passage, (quote.start - passage.start, quote.end - passage.start))
        row = quote.quote.lstrip().startswith("|") and len(sentence.split()) <= ROW_WORDS
        if row or "|" in words or _YES_OR_NO.match(self.question):
            return cite.with_mark(sentence, quote.n), quote
        return best

    def _similarity(self, question: str, texts: Sequence[str]) -> list[float]:
        if self.embedder is None:
            return [0.0] * len(texts)
        cosines: list[float] = (self.embedder.embed_passages(texts) @ self.embedder.embed_query(question)).tolist()
        return cosines

    def _fitted(self) -> Calibration | None:
        """The calibration of these signals: of the index, where it has one, else the general one of the reader."""
        if self.calibration and self.calibration.applies(read=bool(self.readings)):
            return self.calibration
        return SHIPPED if self.readings else None

    def _verdict(self, witness: float | None) -> Verdict:
        fitted = self._fitted() or SHIPPED
        best = self.readings[read.chosen(self.passages, self.readings)]
        return read.verdict(best, witness, fitted.floor)

    def _support(self, verdict: Verdict, confidence: float) -> Support:
        if verdict.status == "refused":
            return "none"
        return "weak" if confidence < read.WEAK or check.WEAKLY_SUPPORTED in verdict.reasons else "strong"

    def _answer(
        self, text: str, verdict: Verdict, mode: Mode, citations: tuple[Citation, ...], degraded: tuple[str, ...] = ()
    ) -> Answer:
        total = (time.perf_counter() - self.began) * 1000
        timings = Timings(
            embed=self.found.embed_ms,
            search=self.found.search_ms,
            read=self.read_ms,
            first_token=total,
            total=total,
            prepared=self.prepared_ms,
        )
        quotes = tuple(replace(one, quote=self._stored(one.path, one.start, one.end, one.quote)) for one in citations)
        passages = (replace(one, text=self._stored(one.path, one.start, one.end, one.text)) for one in self.passages)
        fitted = self._fitted()
        strict = fitted is not SHIPPED  # the general floor is about the passages, not about the words
        if fitted and strict and verdict.status != "refused" and verdict.confidence < fitted.floor:
            return self.refused(replace(verdict, status="refused"), mode)
        confidence = fitted.probability(verdict.confidence) if fitted else verdict.confidence
        return Answer(
            self.question,
            inert(text),
            verdict.status,
            mode,
            quotes,
            confidence=confidence,
            degraded=(*self.cut, *degraded),
            timings=timings,
            budget_ms=self.budget.ms,
            passages=tuple(passages),
            support=self._support(verdict, confidence),
        )

    def _stored(self, path: str, start: int, end: int, read: str) -> str:
        """The words of a document where models may have read blanks; `read` itself where no hit holds them."""
        for hit in self.found.hits:
            if hit.path == path and hit.chunk.start <= start and end <= hit.chunk.end:
                return hit.chunk.text[start - hit.chunk.start : end - hit.chunk.start]
        return read
