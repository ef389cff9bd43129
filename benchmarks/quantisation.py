"""Which quantisation should the default generator run as, and does flash attention help?

Prefill is bound by arithmetic: it is fast where llama.cpp has a matrix kernel for the type (Q4_0, IQ4_NL and, in part,
Q8_0) and slow where it multiplies row by row (Q4_1). Decoding reads every weight once per token and is bound by memory
bandwidth: it follows the file's size. Quality is measured on SQuAD-style questions with their paragraph as the only
passage, so it shows what the weights lose, not how well anything is retrieved.

    python benchmarks/quantisation.py --model MODEL.gguf --data DIR [--questions 60]

DIR holds eval/squad2_dev5.jsonl.gz. All types are made from MODEL, so a quantised MODEL loses twice. Speeds are taken
in rounds over all variants, so that whatever else the machine does hits them alike; the median and the best round
are given. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import string
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

from edgeai import cores
from edgeai.llm import llama
from edgeai.llm.generate import LlamaGenerator
from edgeai.llm.quantise import quantise
from edgeai.prompt import build_prompt
from edgeai.records import Passage
from edgeai.specs import ChatTemplate, GeneratorSpec

TYPES = ("Q4_0", "IQ4_NL", "Q8_0")
LENGTHS = (170, 500)  # tokens of a prompt with one passage, and with four
ROUNDS = 9
DECODED = 8  # tokens per round
CHATML = ChatTemplate(
    prefix=("<|im_start|>", "system\n", "$system", "<|im_end|>", "\n", "<|im_start|>", "user\n"),
    suffix=("<|im_end|>", "\n", "<|im_start|>", "assistant\n"),
    stop=("<|im_end|>",),
    special_ids={"<|im_start|>": 1, "<|im_end|>": 2},
)


def main() -> None:
    """Measure every type and print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=60)
    options = parser.parse_args()
    questions = read_questions(options.data / "eval" / "squad2_dev5.jsonl.gz", options.questions)
    with tempfile.TemporaryDirectory() as folder:
        files = {"as given": options.model} | {kind: Path(folder) / f"{kind}.gguf" for kind in TYPES}
        for kind in TYPES:
            quantise(options.model, files[kind], kind)
        specs = {kind: GeneratorSpec(kind, path.as_posix(), "", CHATML) for kind, path in files.items()}
        results = {
            kind: {"file_mb": round(files[kind].stat().st_size / 1e6, 1)} | figures
            for kind, figures in speeds(specs).items()
        }
        for kind, spec in specs.items():
            results[kind] |= quality(spec, questions)
            print(f"{kind:9}", results[kind], flush=True)
    print(json.dumps({"model": options.model.name, "threads": cores.physical_cores(), "results": results}))


def speeds(specs: dict[str, GeneratorSpec]) -> dict[str, dict[str, Any]]:
    """Load time, and prefill and decode speed with and without flash attention, of every variant."""
    samples: dict[str, dict[str, list[float]]] = {kind: defaultdict(list) for kind in specs}
    for _ in range(3):
        for kind, spec in specs.items():
            samples[kind]["load_ms"].append(load_ms(spec))
    for flash_attention, suffix in ((True, ""), (False, "_no_flash")):
        models = {kind: open_model(spec, flash_attention) for kind, spec in specs.items()}
        for _ in range(ROUNDS):
            for kind, model in models.items():
                for name, value in one_round(model).items():
                    samples[kind][f"{name}{suffix}"].append(value)
        for model in models.values():
            model.close()
    return {
        kind: {
            name: {"median": round(median(values), 1), "best": round(min(values) if "ms" in name else max(values), 1)}
            for name, values in taken.items()
        }
        for kind, taken in samples.items()
    }


def open_model(spec: GeneratorSpec, flash_attention: bool = True) -> llama.Llama:
    """The model on the CPU, warmed up."""
    threads = cores.physical_cores()
    model = llama.Llama(
        spec.model,
        spec.template.special_ids,
        threads=threads,
        gpu_layers=0,
        context=1024,
        flash_attention=flash_attention,
    )
    one_round(model)
    return model


def one_round(model: llama.Llama) -> dict[str, float]:
    """Prefill in tokens per second for each length, decoding in ms per token after the shortest."""
    tokens = model.tokenise("The committee meets on the first Tuesday of every month in room 12. " * 60)
    found: dict[str, float] = {}
    for length in sorted(LENGTHS, reverse=True):
        model.clear()
        began = time.perf_counter()
        model.evaluate(tokens[:length])
        model.likeliest()
        found[f"prefill_{length}_tok_s"] = length / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(DECODED):
        model.evaluate(model.likeliest())
    return found | {"decode_ms": (time.perf_counter() - began) * 1000 / DECODED}


def load_ms(spec: GeneratorSpec) -> float:
    """From construction until the model can be used."""
    began = time.perf_counter()
    generator = LlamaGenerator(spec)
    generator.count_tokens("ready?")
    elapsed = time.perf_counter() - began
    generator.close()
    return elapsed * 1000


def read_questions(path: Path, count: int) -> list[dict[str, Any]]:
    """`count` answerable questions, evenly spread over the file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        answerable = [record for record in map(json.loads, lines) if record["answerable"]]
    return answerable[:: max(1, len(answerable) // count)][:count]


def quality(spec: GeneratorSpec, questions: list[dict[str, Any]]) -> dict[str, float]:
    """Token-F1 against the best gold answer, share of answers that contain one, and mean length in words."""
    generator = LlamaGenerator(spec)
    f1, contains, lengths = [], [], []
    for question in questions:
        given = question["passages"][0]
        passage = Passage(1, given["text"], given["id"], 0, len(given["text"]), title=given["title"])
        prompt = build_prompt(
            question["question"], [passage], CHATML, count=generator.count_tokens, context=2048, max_tokens=48
        )
        said = normalised("".join(piece.text for piece in generator.stream(prompt)))
        golds = [normalised(answer["text"]) for answer in question["answers"]]
        f1.append(max(token_f1(said, gold) for gold in golds))
        contains.append(any(f" {' '.join(gold)} " in f" {' '.join(said)} " for gold in golds))
        lengths.append(len(said))
    generator.close()
    figures = {"f1": fmean(f1), "contains_gold": fmean(contains), "answer_words": fmean(lengths)}
    return {name: round(value, 3) for name, value in figures.items()}


def normalised(text: str) -> list[str]:
    """Lower case words without marks, punctuation and articles (as the SQuAD evaluation does)."""
    plain = re.sub(r"\[\d+\]", " ", text).lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in plain.split() if word not in ("a", "an", "the")]


def token_f1(said: list[str], gold: list[str]) -> float:
    """Harmonic mean of word precision and recall."""
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold)) if common else 0.0


if __name__ == "__main__":
    main()
