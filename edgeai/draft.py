"""An answer in the making: what is known once retrieval is done, and what becomes of the model's words.

It decides which of two answers is shown, the generated one or the best sentence of the passages. Both can be wrong;
where the model is small and untrained, a sentence that both arrive at is right more often (benchmarks/LOG.md).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeai import check, cite, prompt
from edgeai.links import without_targets
from edgeai.records import Answer, Citation, Embedder, Mode, Passage, Piece, Retrieval, Timings, Verdict


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of an answer once retrieval is done."""

    question: str
    query: str
    passages: tuple[Passage, ...]
    found: Retrieval
    began: float
    budget_ms: float | None
    embedder: Embedder | None

    def refused(self, verdict: Verdict, mode: Mode = "extractive") -> Answer:
        """The fixed sentence; `mode` tells whether the model said so or was never asked."""
        return self._answer(prompt.REFUSAL, verdict, mode, ())

    def extractive(self, verdict: Verdict, *degraded: str) -> Answer:
        """The sentence of the passages that fits the question best."""
        return self._quoting(self._best_sentence(), verdict, degraded)

    def _quoting(self, best: tuple[str, Citation] | None, verdict: Verdict, degraded: tuple[str, ...]) -> Answer:
        if best is None:
            return self.refused(replace(verdict, status="refused", reasons=("no sentence fits the question",)))
        text, citation = best
        return self._answer(without_targets(text), verdict, "extractive", (citation,), degraded)

    def _best_sentence(self) -> tuple[str, Citation] | None:
        compare = self._similarity if self.embedder else None
        # The question as rewritten repeats what was asked before, so it comes second.
        return check.extract(self.question, self.passages, compare) or check.extract(self.query, self.passages, compare)

    def _similarity(self, question: str, texts: Sequence[str]) -> list[float]:
        if self.embedder is None:
            return [0.0] * len(texts)
        cosines: list[float] = (self.embedder.embed_passages(texts) @ self.embedder.embed_query(question)).tolist()
        return cosines

    def generated(
        self, pieces: list[Piece], shown: tuple[Passage, ...], verdict: Verdict, model: str, sent: float
    ) -> Answer:
        """The model's words when the passages support them and they rest on what fits the question best, else the
        extractive answer.
        """
        last = pieces[-1]
        said = "".join(piece.text for piece in pieces).strip()
        if last.finish == "length":
            said = cite.trim_to_sentences(said)
        if prompt.is_refusal(said):
            answer = self.refused(check.check(said, (), shown, verdict), "generated")
        else:
            text, citations = check.keep_supported(*cite.cite(said, shown), shown)
            verdict_on_text = check.check(text, citations, shown, verdict)
            best = self._best_sentence()
            if verdict_on_text.status != "answered" or not check.answers(self.query, citations):
                answer = self._quoting(best, verdict, ("unsupported",))
            elif best and not check.overlap(citations, best[1]):
                answer = self._quoting(best, verdict, ("not the best sentence",))
            else:
                answer = self._answer(text, verdict_on_text, "generated", citations)
        wait = (sent - self.began) * 1000
        timings = replace(
            answer.timings, prefill=last.prefill_ms, first_token=wait + last.first_token_ms, generate=last.generate_ms
        )
        tokens = {"prompt": last.prompt_tokens, "cached": last.cached_tokens, "output": last.output_tokens}
        return replace(answer, model=model, timings=timings, tokens=tokens)

    def _answer(
        self, text: str, verdict: Verdict, mode: Mode, citations: tuple[Citation, ...], degraded: tuple[str, ...] = ()
    ) -> Answer:
        total = (time.perf_counter() - self.began) * 1000
        timings = Timings(embed=self.found.embed_ms, search=self.found.search_ms, first_token=total, total=total)
        return Answer(
            self.question,
            text,
            verdict.status,
            mode,
            citations,
            confidence=verdict.confidence,
            degraded=degraded,
            timings=timings,
            budget_ms=self.budget_ms,
            passages=self.passages,
        )
