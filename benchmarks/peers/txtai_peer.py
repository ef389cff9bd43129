"""txtai (https://github.com/neuml/txtai): its RAG pipeline over a keyword index, the same GGUF through its llama.cpp.

Run with 9.14 (benchmarks/LOG.md). BM25 instead of its default of dense vectors, because that one takes
its model from a hub; this spares it the embedding of the question. Everything else is its default: three paragraphs of
context, one thread for every second CPU, the chat template inside the model file. Floor: like every stack that computes
its prompt anew, prefill of about 2 x parameters x prompt tokens FLOPs, and the weights read once for every token.

    python benchmarks/peers/txtai_peer.py --docs DIR --questions FILE --model MODEL.gguf
"""

from __future__ import annotations

from harness import SYSTEM, arguments, enter_environment, measure, texts

REQUIREMENTS = ["txtai[pipeline-llm]==9.14.0"]
TEMPLATE = "Question: {question}\nContext: {context}"


def main() -> None:
    """Index, ask, print one JSON line."""
    given = arguments(__doc__)
    enter_environment(__file__, REQUIREMENTS)
    from txtai import RAG, Embeddings

    paragraphs = texts(given.docs)
    index = Embeddings(keyword=True, content=True)
    index.index(paragraphs)
    rag = RAG(index, str(given.model), template=TEMPLATE, system=SYSTEM, output="flatten")

    def ask(question: str) -> str:
        return str(rag(question, maxlength=given.max_tokens, temperature=0.0))

    measure("txtai", given, ask, paragraphs=len(paragraphs), retrieval="BM25, 3 paragraphs")


if __name__ == "__main__":
    main()
