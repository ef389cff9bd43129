"""Which tokens stay resident between prompts, so that only the others are computed.

A model reads a prompt in one of two ways, and must have been trained for the second. `Sequential`: every token sees all
tokens before it, so what can be kept is the beginning that two prompts have in common. `Independent`: a passage sees
the prefix and itself, all passages begin at the same position right behind the prefix, and what follows them sees
everything and begins behind the longest. The state of a passage is then the same whatever stands beside it, so each can
be kept and used again in any company and order: in the cells of the context while there is room, as a copy in memory,
and on a shelf that outlives the process. Nothing here knows what the tokens mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeai.errors import ContextTooLong, EdgeAIError, UsageProblem
from edgeai.llm.llama import BATCH, Llama, Span
from edgeai.llm.shelf import Shelf
from edgeai.llm.states import Ids, States

PREFIX, WORK, COPY, FIRST = 0, 1, 2, 3  # sequences: the prefix, the current prompt, what is copied, the first passage
# Sequences for passages that stay resident; a prompt may show more. Decoding takes the same time with 1, 66 and 256
# sequences; 66 take 12 MB more than 1, and 256 take 49 MB (135M, vocabulary of 49,152: a row of logits for each).
PASSAGES = 64
SEQUENCES = FIRST + PASSAGES
# Cells that a prompt may share with passages of earlier ones: each token that is computed looks through all cells up to
# the last one in use. With 1,800 in use 77 new tokens take 130 to 202 ms, with 80 118 to 122 (two cores).
RESIDENT = 512
# For copies: about 6 passages of 160 tokens at 22.5 KiB a token (135M, half precision); more are on the shelf. Putting
# one back takes 1 to 2 milliseconds, from the shelf 2 to 3 more, computing it 200 and more.
COPIED_BYTES = 24_000_000


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt as token ids, by what they may see; `answer` is how many more tokens to leave room for."""

    prefix: Ids
    passages: tuple[Ids, ...]
    rest: Ids  # earlier turns, question, suffix
    answer: int = 0

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.passages)) + len(self.rest)

    @property
    def distinct(self) -> tuple[Ids, ...]:
        """The passages, each once: a second copy could only see and be seen like the first."""
        return tuple(dict.fromkeys(self.passages))


class Sequential:
    """Prompts as one sequence of tokens."""

    def __init__(self, llama: Llama) -> None:
        self.llama = llama

    def use(self, adapter: str) -> None:
        """Go on with another LoRA adapter, "" for none; raises what `Llama.use` raises."""
        self.llama.use(adapter)

    def knows(self, passage: Ids) -> bool:
        """Whether a passage can be shown without computing it: never, its state depends on what stands before it."""
        return False

    def reuse(self, parts: Parts) -> int:
        """Forget what the prompt has no use for; how many of its tokens are resident. To be called before `evaluate`.

        At least one token is not, because logits are not kept.
        """
        return self.llama.reuse(self._tokens(parts))

    def evaluate(self, parts: Parts, draft: Ids = ()) -> list[int]:
        """Compute what is not resident and a draft behind it; the likeliest token after the prompt and each of those.

        Raises what `Llama.evaluate` raises.
        """
        return self._go_on((*self._tokens(parts)[len(self.llama.resident) :], *draft), 1 + len(draft))

    def keep(self) -> None:
        """Nothing outlives its cells: what a token's state is depends on all before it."""

    def close(self) -> None:
        """Free the model."""
        self.llama.close()

    def append(self, tokens: Ids) -> list[int]:
        """Go on with tokens of the answer; the likeliest next one after each."""
        return self._go_on(tokens, len(tokens))

    def retract(self, count: int) -> None:
        """Forget the last tokens, of a draft that was wrong."""
        self.llama.retract(count)

    def _go_on(self, tokens: Ids, wanted: int) -> list[int]:
        for part in _batches(tokens, wanted):
            self.llama.evaluate(part, logits=wanted)
        return self.llama.likeliest(wanted)

    @staticmethod
    def _tokens(parts: Parts) -> list[int]:
        return [*parts.prefix, *(token for passage in parts.passages for token in passage), *parts.rest]


class Independent:
    """Prompts whose passages do not see each other, each in a sequence of its own.

    The context needs `SEQUENCES` sequences. Beyond `RESIDENT` cells the passages not shown for longest give theirs up.
    """

    def __init__(self, llama: Llama, copied_bytes: int = COPIED_BYTES, shelf: Shelf | None = None) -> None:
        self.llama = llama
        self.shelf = shelf or Shelf()
        self._copies = States(copied_bytes)
        self._prefix: Ids = ()
        self._passages: dict[Ids, int] = {}  # the sequence of each resident one, the one not shown for longest first
        self._end = 0  # position behind the current prompt

    def use(self, adapter: str) -> None:
        """Go on with another LoRA adapter, "" for none; raises what `Llama.use` raises."""
        if self.llama.use(adapter):
            self.clear()
            self.shelf.use(adapter)

    def knows(self, passage: Ids) -> bool:
        """Whether a passage can be shown without computing it."""
        return passage in self._passages or passage in self._copies or passage in self.shelf

    def reuse(self, parts: Parts) -> int:
        """Make room for a prompt; how many of its tokens are resident. To be called before `evaluate`.

        Another prefix makes everything resident useless. Raises `ContextTooLong` when prompt and answer have more
        tokens than there are cells, and `UsageProblem` when nothing follows the passages.
        """
        if parts.answer and not parts.rest:
            raise UsageProblem("There is nothing to answer: the prompt ends with its passages.")
        self.llama.remove(WORK)
        if parts.prefix != self._prefix:
            self.clear()
            self.shelf.choose(parts.prefix)
        self._make_room(parts)
        self._fetch(parts.distinct)
        for passage in parts.distinct:
            if passage in self._passages:
                self._passages[passage] = self._passages.pop(passage)  # now the one shown last
        return len(self._prefix) + sum(len(passage) for passage in parts.passages if self.knows(passage))

    def _fetch(self, passages: Sequence[Ids]) -> None:
        """Copy from the shelf what is not in memory, 2 to 3 ms each; what turns out to be gone is then not known."""
        for passage in passages:
            if passage not in self._passages and passage not in self._copies and passage in self.shelf:
                state = self.shelf.get(passage)
                if state is not None:
                    self._copies.add(passage, state)

    def _make_room(self, parts: Parts) -> None:
        shown = set(parts.distinct)
        needed = len(parts.prefix) + sum(map(len, shown)) + len(parts.rest) + parts.answer
        if needed > self.llama.context:
            raise ContextTooLong(
                f"{needed} tokens do not fit into a context of {self.llama.context}; raise the context setting."
            )
        others = [passage for passage in self._passages if passage not in shown]
        excess = needed + sum(map(len, others)) - max(needed, min(RESIDENT, self.llama.context))
        for passage in others:
            if excess <= 0:
                break
            self._forget(passage)
            excess -= len(passage)

    def evaluate(self, parts: Parts, draft: Ids = ()) -> list[int]:
        """Compute what is not resident and a draft behind it; the likeliest token after the prompt and each of those.

        Raises `Interrupted` when stopped, after which whatever was completed is resident, and `EdgeAIError` when
        llama.cpp fails, after which nothing is.
        """
        if not self._prefix:
            self._decode([Span(parts.prefix, 0, PREFIX)], logits=0)
            self._prefix = parts.prefix
        self.llama.share(PREFIX, WORK)
        for passage in parts.distinct:
            if passage in self._passages:
                self.llama.share(self._passages[passage], WORK, len(self._prefix))
            elif passage in self._copies:
                self._put_back(passage)
        self._end = len(self._prefix) + max(map(len, parts.passages), default=0)
        tokens = (*parts.rest, *draft)
        missing = [passage for passage in parts.distinct if passage not in self._passages]
        if missing and len(parts.distinct) == 1 and tokens and len(missing[0]) + len(tokens) <= BATCH:
            return self._go_on_with(missing[0], tokens, 1 + len(draft))
        for start in range(0, len(missing), PASSAGES):
            self._add(missing[start : start + PASSAGES])
        return self._go_on(tokens, 1 + len(draft))

    def append(self, tokens: Ids) -> list[int]:
        """Go on with tokens of the answer; the likeliest next one after each."""
        return self._go_on(tokens, len(tokens))

    def retract(self, count: int) -> None:
        """Forget the last tokens, of a draft that was wrong."""
        self._end -= count
        self.llama.remove(WORK, self._end)

    def keep(self) -> None:
        """Copy the state of every passage in the context, so that it outlives its cells. Takes 1 to 2 ms each."""
        for passage, sequence in self._passages.items():
            if passage and passage not in self._copies:
                self.llama.share(sequence, COPY, len(self._prefix))
                self._copies.add(passage, self.llama.save(COPY))
                self.llama.remove(COPY)

    def settle(self, stopped: Callable[[], bool]) -> None:
        """Put copies on the shelf, until stopped. It takes time: to be called while nobody waits."""
        self.shelf.settle(self._copies, stopped)

    def clear(self) -> None:
        """Forget everything that is in memory."""
        self.llama.clear()
        self._copies.clear()
        self._prefix = ()
        self._passages.clear()

    def close(self) -> None:
        """Free the model and close the shelf."""
        self.shelf.close()
        self.llama.close()

    def _add(self, passages: Sequence[Ids]) -> None:
        """Compute passages together and show them to the current prompt, which keeps their cells if they must go."""
        placed = dict(zip(passages, self._unused(len(passages)), strict=False))
        for sequence in placed.values():
            self.llama.share(PREFIX, sequence)
        start = len(self._prefix)
        self._decode([Span(passage, start, sequence) for passage, sequence in placed.items()], logits=0)
        for sequence in placed.values():
            self.llama.share(sequence, WORK, start)
        self._passages |= placed

    def _go_on_with(self, passage: Ids, tokens: Ids, wanted: int) -> list[int]:
        """Compute the only passage of a prompt and what follows it in one forward, a sixth quicker than in two."""
        (sequence,) = self._unused(1)
        self.llama.share(PREFIX, sequence)
        start = len(self._prefix)
        self._decode([Span(passage, start, sequence, shown_to=WORK), Span(tokens, self._end, WORK)], logits=wanted)
        self._passages[passage] = sequence
        self._end += len(tokens)
        return self.llama.likeliest(wanted)

    def _put_back(self, passage: Ids) -> None:
        """Show a copied passage to the current prompt; a copy that does not go back is given up."""
        (sequence,) = self._unused(1)
        if self.llama.restore(sequence, self._copies.get(passage)):
            self.llama.share(sequence, WORK, len(self._prefix))
            self._passages[passage] = sequence
        else:
            self._copies.drop(passage)

    def _unused(self, count: int) -> list[int]:
        """Empty sequences, after the passages not shown for longest had to go if there were too few."""
        while len(self._passages) + count > PASSAGES:
            self._forget(next(iter(self._passages)))
        used = set(self._passages.values())
        unused = [sequence for sequence in range(FIRST, SEQUENCES) if sequence not in used][:count]
        for sequence in unused:
            self.llama.remove(sequence)  # an interrupted passage left the prefix in it
        return unused

    def _forget(self, passage: Ids) -> None:
        self.llama.remove(self._passages.pop(passage))

    def _go_on(self, tokens: Ids, wanted: int) -> list[int]:
        for part in _batches(tokens, wanted):
            self._decode([Span(part, self._end, WORK)], logits=wanted)
            self._end += len(part)
        return self.llama.likeliest(wanted) if tokens else []

    def _decode(self, spans: Sequence[Span], *, logits: int) -> None:
        try:
            self.llama.decode(spans, logits=logits)
        except EdgeAIError:
            self.clear()
            raise


def _batches(tokens: Ids, together: int) -> list[Ids]:
    """Parts of at most `BATCH` tokens, the last `together` of them in one."""
    cut = max(0, len(tokens) - together) if len(tokens) > BATCH else 0
    return [part for part in (tokens[:cut], tokens[cut:]) if part]


Residence = Sequential | Independent
