"""A question with its acronyms spelled out, as the user's own documents spell them out.

Who asks about an HWP may have to be answered from a page on hot work permits, and the other way round a model that has
never met the letters can read the words. What is looked up is the documents that may be seen, as they are now.
"""

from __future__ import annotations

from edgeai.filters import EVERYTHING, Filter
from edgeai.store import Store
from edgeai.text.acronyms import acronyms, definition, spelled_out
from edgeai.text.terms import query_terms

LOOKED_AT = 24  # chunks that hold an acronym, best first by BM25: where it is explained it stands among few words
MOST = 2  # acronyms of one question
COMMON = 2_000  # chunks; what more of them hold needs no explanation, and would take milliseconds to rank


def spell_out(question: str, store: Store, where: Filter = EVERYTHING) -> str:
    """The question with "(hot work permit)" behind "HWP", where a document says so; as it is otherwise.

    Raises what the store raises.
    """
    for acronym in acronyms(question)[:MOST]:
        if meaning := _meaning(acronym, store, where):
            question = spelled_out(question, acronym, meaning)
    return question


def _meaning(acronym: str, store: Store, where: Filter) -> str:
    """The first meaning found, "" for none; one that the documents do not agree on is as good as another."""
    terms = query_terms(acronym)
    if max(store.document_frequency(terms, where=where).values(), default=0) > COMMON:
        return ""
    found = store.matching(terms, limit=LOOKED_AT, where=where)
    chunks = store.hydrate([chunk_id for chunk_id, _ in found], where=where).values()
    return next((meaning for one in chunks if (meaning := definition(acronym, one.chunk.text))), "")
