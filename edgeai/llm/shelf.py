"""What is computed of passages and outlives the process, under names that say everything it depends on.

A state is found by its tokens and those before it, by nothing else: who may not see a document cannot find what was
computed of it, and who has the same words learns from a hit only that they were shown before.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgeai.llm.llama import library
from edgeai.llm.states import Ids, States
from edgeai.records import Owner
from edgeai.specs import GeneratorSpec

if TYPE_CHECKING:
    from edgeai.store.kept_states import KeptStates


def engine(spec: GeneratorSpec, *, flash_attention: bool, gpu_layers: int) -> str:
    """All that the bytes of a state depend on besides adapter and tokens; "" for a model whose bytes are not known."""
    if not spec.digest:
        return ""
    llama = library()
    parameters = llama.llama_context_default_params()
    build = (metadata.version("llama-cpp-python"), llama.llama_print_system_info().decode("utf-8", "replace"))
    types = (int(parameters.type_k), int(parameters.type_v))
    return json.dumps([spec.digest, *build, *types, flash_attention, gpu_layers])


class Shelf:
    """The states on disk that fit what is loaded. Without `states`, or for no `engine`, there are none.

    Nothing is written before `settle`.
    """

    def __init__(self, states: KeptStates | None = None, engine: str = "") -> None:
        self._states = states if engine else None
        self._engine = engine
        self._adapter = ""  # digest of its file
        self._prefix: Ids | None = None
        self._maker = b""
        self._named = hashlib.blake2b()  # what all names of this prefix begin with
        self._noted: dict[Ids, tuple[str, str]] = {}  # shown or prepared since the last `settle`: path and digest
        self.choose(())
        if self._states:
            self._states.refresh()
            self._states.version(("", 0.0))  # opens what that needs on this thread, before anybody waits

    def __contains__(self, ids: Ids) -> bool:
        return self._states is not None and self._name(ids) in self._states

    def use(self, adapter: str) -> None:
        """From now on states are computed with this adapter, "" for none."""
        if self._states:
            self._adapter = hashlib.sha256(Path(adapter).read_bytes()).hexdigest() if adapter else ""
            self._prefix, prefix = None, self._prefix
            self.choose(prefix or ())

    def choose(self, prefix: Ids) -> None:
        """From now on passages stand behind this prefix."""
        if prefix != self._prefix:
            self._prefix = prefix
            self._maker = hashlib.blake2b(f"{self._engine} {self._adapter}".encode(), digest_size=32).digest()
            self._named = hashlib.blake2b(self._maker, digest_size=32)
            self._named.update(array("q", (len(prefix), *prefix)).tobytes())

    def get(self, ids: Ids) -> bytes | None:
        """The state of a passage, None where there is none."""
        return self._states.get(self._name(ids)) if self._states else None

    def note(self, owners: Mapping[Ids, Owner]) -> None:
        """Remember what passages were shown, and which version of which document they are of.

        The version is looked up at once: a passage whose document has changed since it was found is not written.
        """
        if self._states:
            for ids, owner in owners.items():
                if ids and (digest := self._states.version(owner)):
                    self._noted[ids] = owner[0], digest

    def settle(self, computed: States, stopped: Callable[[], bool]) -> None:
        """Write what was noted and is computed, one after another until stopped; takes 10 to 50 ms each."""
        if self._states is None or not self._noted:
            return
        self._states.refresh()
        self._states.used(self._name(ids) for ids in self._noted if ids in self)
        for ids in list(self._noted):
            if stopped():
                return
            path, digest = self._noted.pop(ids)
            if ids in computed and ids not in self:
                self._states.put(self._name(ids), computed.get(ids), maker=self._maker, path=path, digest=digest)

    def close(self) -> None:
        """Close the file."""
        if self._states:
            self._states.close()

    def _name(self, ids: Ids) -> bytes:
        named = self._named.copy()
        named.update(array("q", ids).tobytes())
        return named.digest()
