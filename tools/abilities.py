"""What a model could do before it was fine-tuned, measured again afterwards: 100 prompts scored without a judge.

    python -m tools.abilities --model X.gguf [--adapter A.gguf] [--against Y.gguf [--against-adapter B.gguf]]

Plain chat, arithmetic, listing, summarising, copying and simple knowledge, answered greedily through llama.cpp. Each
prompt in data/abilities.jsonl has a rule that a program can decide: words that must occur, the last number, how many
items a list has. It measures forgetting, not quality: a rule is content with an answer that a person would not be. The
last line is one JSON object; with --against the exit code is 3 when the model scores more than 5 % below the other.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeai.config import DEFAULT_GENERATOR
from edgeai.cores import physical_cores
from edgeai.errors import EdgeAIError, ModelRejected
from edgeai.llm.llama import Llama, last_complaint, library
from edgeai.registry import Registry
from edgeai.specs import ChatTemplate, GeneratorSpec

PROMPTS = Path(__file__).parent / "data" / "abilities.jsonl"
# What SmolLM2's own chat template says when no system text is given.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CONTEXT = 512
TOLERATED = 0.05  # relative fall of the score
FORGOT = 3  # exit code

_ITEM = re.compile(r"^\s*(?:\d{1,2}[.):]|[-*•])\s*\S", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Ability:
    """One prompt; `rule` is names of `RULES` with their arguments, all of which must hold."""

    id: str
    kind: str
    prompt: str
    tokens: int  # length limit of the answer
    rule: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scores:
    """Which prompts a model answered as their rules ask."""

    passed: Mapping[str, bool]  # by id
    kinds: Mapping[str, str]  # by id

    @property
    def overall(self) -> float:
        """Share of all prompts, 0..1."""
        return _share(self.passed.values())

    def by_kind(self) -> dict[str, float]:
        """Share of each kind of prompt."""
        names = dict.fromkeys(self.kinds.values())
        return {name: _share(self.passed[id_] for id_, kind in self.kinds.items() if kind == name) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values, shares rounded."""
        kinds = {name: round(share, 3) for name, share in self.by_kind().items()}
        return {"score": round(self.overall, 3), "prompts": len(self.passed), "kinds": kinds}


def main() -> None:
    """Score one model, or compare two."""
    options = _options()
    try:
        abilities = read_abilities(options.prompts)
        scores = measure(options.model, abilities, options.adapter, verbose=options.verbose)
        report: dict[str, Any] = {"model": options.model, **scores.as_dict()}
        _print(scores)
        if options.against:
            before = measure(options.against, abilities, options.against_adapter)
            print(f"\nagainst {options.against}:")
            _print(before)
            report |= {"against": before.as_dict(), **comparison(before, scores)}
    except EdgeAIError as error:
        sys.exit(f"Error: {error}")
    print(json.dumps(report))
    sys.exit(FORGOT if report.get("forgot") else 0)


def read_abilities(path: Path = PROMPTS) -> list[Ability]:
    """The prompts of a file of JSON lines."""
    return [Ability(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def measure(model: str, abilities: Sequence[Ability], adapter: Path | None = None, *, verbose: bool = False) -> Scores:
    """Score a model (installed name or path of a GGUF), with a LoRA adapter on it if given.

    Raises `ModelUnknown`, `ModelMissing`, or `ModelRejected` when the adapter does not fit the model.
    """
    spec = Registry(offline=True).generator(model)
    passed: dict[str, bool] = {}
    llama = Llama(spec.model, spec.template.special_ids, threads=physical_cores(), gpu_layers=0, context=CONTEXT)
    try:
        if adapter:
            apply_adapter(llama, adapter)
        for ability in abilities:
            text = reply(llama, spec, ability)
            passed[ability.id] = holds(text, ability.rule)
            if verbose:
                print(f"{'+' if passed[ability.id] else '-'} {ability.id} {ability.prompt!r}\n    {text!r}", flush=True)
    finally:
        llama.close()
    return Scores(passed, {ability.id: ability.kind for ability in abilities})


def apply_adapter(llama: Llama, path: Path) -> None:
    """Put a LoRA adapter on a loaded model; the model frees it. Raises `ModelRejected` when it does not fit."""
    bindings, model, context = library(), llama._model, llama._context
    last_complaint()
    adapter = bindings.llama_adapter_lora_init(model, str(path).encode())
    if not adapter:
        raise ModelRejected(
            f"llama.cpp does not accept the adapter {path} ({last_complaint() or 'no reason given'}); "
            "give one that was trained on this model."
        )
    adapters = (bindings.llama_adapter_lora_p_ctypes * 1)(adapter)
    bindings.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(1.0))
    llama.clear()


def reply(llama: Llama, spec: GeneratorSpec, ability: Ability) -> str:
    """The greedy answer of a model, which keeps what two prompts have in common resident."""
    tokens = chat(ability.prompt, spec.template, llama.tokenise)
    kept = llama.reuse(tokens)
    llama.evaluate(tokens[kept:])
    said = b""
    for _ in range(ability.tokens):
        token = llama.likeliest()[0]
        if llama.is_end(token):
            break
        said += llama.piece(token)
        llama.evaluate([token])
    return said.decode("utf-8", "replace").strip()


def chat(prompt: str, template: ChatTemplate, tokenise: Callable[[str], Sequence[int]]) -> list[int]:
    """Token ids of a plain chat of one user message."""
    parts = [SYSTEM if part == "$system" else part for part in template.prefix]
    ids: list[int] = []
    for part in [*parts, prompt, *template.suffix]:
        ids += [template.special_ids[part]] if part in template.special_ids else tokenise(part)
    return ids


# rules --------------------------------------------------------------------------------------------------------------


def holds(text: str, rule: Mapping[str, Any]) -> bool:
    """Whether a text fulfils all parts of a rule."""
    return all(RULES[name](text, argument) for name, argument in rule.items())


def items(text: str) -> int:
    """Length of the list in a text: numbered or marked lines, else the most comma-separated parts of a line."""
    marked = len(_ITEM.findall(text))
    return marked or max((len(re.split(r", and |,| and ", line)) for line in text.splitlines()), default=0)


def mentions(text: str, phrase: str) -> bool:
    """Whether a phrase occurs as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE) is not None


def last_number(text: str) -> float | None:
    """The number said last, None when there is none."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def _among(text: str, argument: tuple[int, Sequence[str]]) -> bool:
    least, phrases = argument
    return sum(mentions(text, phrase) for phrase in phrases) >= least


def _within(value: int, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= value <= bounds[1]


RULES: Mapping[str, Callable[[str, Any], bool]] = {
    "any": lambda text, phrases: any(mentions(text, phrase) for phrase in phrases),
    "all": lambda text, phrases: all(mentions(text, phrase) for phrase in phrases),
    "among": _among,  # at least so many of these phrases
    "number": lambda text, wanted: last_number(text) == wanted,
    "items": lambda text, bounds: _within(items(text), bounds),
    "words": lambda text, bounds: _within(len(text.split()), bounds),
    "pattern": lambda text, pattern: re.search(pattern, text) is not None,
}


# reports ------------------------------------------------------------------------------------------------------------


def comparison(before: Scores, after: Scores) -> dict[str, Any]:
    """How a score changed: the ratio, which prompts were lost and gained, and whether too much was forgotten."""
    ratio = after.overall / before.overall if before.overall else 1.0
    lost = [id_ for id_, passed in before.passed.items() if passed and not after.passed[id_]]
    gained = [id_ for id_, passed in before.passed.items() if not passed and after.passed[id_]]
    # Shares of a hundred are not exact in binary: 0.57 / 0.6 must count as 95 %.
    return {"ratio": round(ratio, 4), "forgot": ratio < 1 - TOLERATED - 1e-9, "lost": lost, "gained": gained}


def _share(passed: Iterable[bool]) -> float:
    counted = list(passed)
    return sum(counted) / len(counted) if counted else 0.0


def _print(scores: Scores) -> None:
    for kind, share in scores.by_kind().items():
        print(f"{kind:12} {share:6.1%}")
    print(f"{'all':12} {scores.overall:6.1%} of {len(scores.passed)} prompts", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_GENERATOR, help="installed name or path of a GGUF file")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter (GGUF) to put on it")
    parser.add_argument("--against", help="model to compare with")
    parser.add_argument("--against-adapter", type=Path, help="LoRA adapter to put on that one")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="another set of the same format")
    parser.add_argument("--verbose", action="store_true", help="print every answer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
