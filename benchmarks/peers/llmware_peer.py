"""llmware (https://github.com/llmware-ai/llmware): its library, semantic query and prompt, the same GGUF.

Not run by us yet: written after its source and documentation (0.4). It needs a model hub once, for its default small
embedder. Documents are parsed and cut by its own parser, found by its semantic query over ChromaDB, and given to its
prompt, which it words itself; the GGUF runs in the llama.cpp that comes with it, on its fixed number of threads. Floor:
like every stack that computes its prompt anew, prefill of about 2 x parameters x prompt tokens FLOPs, and the weights
read once for every token.

    python benchmarks/peers/llmware_peer.py --docs DIR --questions FILE --model MODEL.gguf
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from harness import arguments, enter_environment, measure

REQUIREMENTS = ["llmware==0.4.7", "chromadb", "sentence-transformers"]
EMBEDDER = "mini-lm-sbert"
NAME = "edgeai-peer-gguf"
PASSAGES = 4  # its default of 20 results does not fit into the context of a small model
CONTEXT = 2048  # tokens, its default for a GGUF file


def load(model: Path, max_tokens: int) -> Any:
    """A prompt with the GGUF file registered in the catalog and lying where the catalog looks for it."""
    from llmware.configs import LLMWareConfig
    from llmware.models import ModelCatalog
    from llmware.prompts import Prompt

    home = Path(LLMWareConfig.get_model_repo_path()) / NAME
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, home / model.name)
    ModelCatalog().register_gguf_model(NAME, NAME, model.name, prompt_wrapper="chat_ml", context_window=CONTEXT)
    return Prompt().load_model(NAME, temperature=0.0, sample=False, max_output=max_tokens)


def index(docs: Path) -> Any:
    """A library of its own with these documents, parsed and embedded."""
    from llmware.configs import LLMWareConfig
    from llmware.library import Library

    LLMWareConfig().set_active_db("sqlite")
    LLMWareConfig().set_vector_db("chromadb")
    library = Library().create_new_library(Path(tempfile.mkdtemp(prefix="peer")).name)
    library.add_files(str(docs))
    library.install_new_embedding(embedding_model_name=EMBEDDER, vector_db="chromadb")
    return library


def main() -> None:
    """Index, ask, print one JSON line."""
    given = arguments(__doc__)
    enter_environment(__file__, REQUIREMENTS)
    from llmware.configs import LLMWareConfig
    from llmware.retrieval import Query

    if not Path(LLMWareConfig.get_llmware_path()).exists():
        LLMWareConfig.setup_llmware_workspace()
    query = Query(index(given.docs))
    prompt = load(given.model, given.max_tokens)

    def ask(question: str) -> str:
        found = query.semantic_query(question, result_count=PASSAGES)
        context = "\n".join(str(result["text"]) for result in found)
        return str(prompt.prompt_main(question, context=context)["llm_response"])

    measure("llmware", given, ask, retrieval=f"{EMBEDDER}, ChromaDB, {PASSAGES} blocks")


if __name__ == "__main__":
    main()
