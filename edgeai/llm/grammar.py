"""Which tokens an answer may consist of when it is held to a grammar: the likeliest one that fits, each time.

Whether a token fits is for llama.cpp to say. Near the length limit only what brings the text to an end is taken, so
that a text in JSON is always complete; whether it is true, or well cut, is not known here.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from edgeai.errors import EdgeAIError
from edgeai.llm.llama import Llama, last_complaint, library

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edgeai.records import Vectors

    Tokens = npt.NDArray[np.int64]

# Testing a token costs about 0.2 microseconds, and the likeliest one fits most of the time.
TRIED = (1, 64, 4096)
# What ends a JSON text soonest, tried in this order: in a string only its quote, outside it whichever bracket fits.
# The comma stands before a field that must be there.
CLOSERS = (b'"', b"]", b"}", b",")


class Grammar:
    """One answer of one model, held to a grammar in llama.cpp's notation whose first rule is "root".

    After `free` tokens the text is brought to an end. To be used on the model's thread and closed before the model.
    Raises `EdgeAIError` when llama.cpp does not accept the grammar.
    """

    def __init__(self, llama: Llama, text: str, free: int) -> None:
        self._llama = llama
        self._free = free
        self._library = library()
        last_complaint()
        data = text.encode("utf-8", "replace")
        self._sampler = self._library.llama_sampler_init_grammar(llama.vocabulary, data, b"root")
        if not self._sampler:
            raise EdgeAIError(f"llama.cpp does not accept the grammar ({last_complaint()}); simplify the schema.")

    def follow(self, draft: Sequence[int]) -> list[int]:
        """What the model says where the draft was put behind the text, as far as the draft agrees, and one token more.

        The logits of the token before the draft and of each token of it must be those of the last forward. Ends with a
        token that ends the answer where the text is complete.
        """
        said: list[int] = []
        for row, proposed in enumerate([*draft, None]):
            token = self._choose(self._llama.logits(len(draft) - row))
            said.append(token)
            if self._llama.is_end(token):
                break
            self._library.llama_sampler_accept(self._sampler, token)
            self._free -= 1
            if token != proposed:
                break
        return said

    def close(self) -> None:
        """Free the state; may be called twice."""
        if self._sampler:
            self._library.llama_sampler_free(self._sampler)
        self._sampler = None

    def __enter__(self) -> Grammar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _choose(self, logits: Vectors) -> int:
        if self._free <= 0:
            fitting = set(self._fitting(logits, self._closers))
            if ending := [int(token) for token in self._closers if token in fitting]:
                return ending[0]
        for count in (*(count for count in TRIED if count < len(logits)), len(logits)):
            for token in self._fitting(logits, _likeliest(logits, count)):
                if not self._is_control(token):
                    return token
        raise EdgeAIError("The model's vocabulary cannot write what is asked for; choose another one with --model.")

    def _fitting(self, logits: Vectors, tokens: Tokens) -> list[int]:
        """Those of some tokens that may come next, the likeliest first."""
        import numpy as np

        data = np.zeros(len(tokens), [("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data
        data["id"], data["logit"] = tokens, logits[tokens]
        pointer = data.ctypes.data_as(self._library.llama_token_data_p)
        array = self._library.llama_token_data_array(pointer, len(data), -1, False)
        self._library.llama_sampler_apply(self._sampler, ctypes.byref(array))
        kept = data[np.isfinite(data["logit"])]
        return [int(token) for token in kept["id"][np.argsort(-kept["logit"], kind="stable")]]

    def _is_control(self, token: int) -> bool:
        """Whether a token is none of text, which llama.cpp's grammar takes for the words of its name."""
        return self._llama.is_end(token) and not self._ends(token)

    def _ends(self, token: int) -> bool:
        return bool(self._library.llama_vocab_is_eog(self._llama.vocabulary, token))

    @cached_property
    def _closers(self) -> Tokens:
        """Tokens that end the answer or something in it, in the order of `CLOSERS`."""
        import numpy as np

        count = self._library.llama_vocab_n_tokens(self._llama.vocabulary)
        ranks = {piece: rank for rank, piece in enumerate(CLOSERS)}
        ranked = [
            (-1 if self._ends(token) else ranks[self._llama.piece(token)], token)
            for token in range(count)
            if self._ends(token) or self._llama.piece(token) in ranks
        ]
        return np.array([token for _, token in sorted(ranked)], np.int64)


def _likeliest(logits: Vectors, count: int) -> Tokens:
    import numpy as np

    if count == 1:
        return np.array([logits.argmax()], np.int64)
    return np.argpartition(-logits, count - 1)[:count].astype(np.int64)
