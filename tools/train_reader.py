"""Train the reader: relevance, answer span and no-answer from one forward over (question, passage).

    python -m tools.train_reader --data DIR --negatives negatives.json --encoder model.safetensors \\
        --tokenizer tokenizer.json --out reader.pt [--from reader.pt] [--layers 0,1,2,3,4,5] [--teacher reader.pt]

Starts from all-MiniLM-L6-v2, or goes on from a checkpoint; --out is written every few minutes and --resume continues
it. With --teacher the logits of a deeper reader are learnt along with the labels. Word embeddings stay frozen: the
vocabulary of a user's documents is larger than ours. The log is JSON lines; the development groups are never drawn.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from tools.corpora import OWN, Question, read_near_misses, read_originals, read_published
from tools.encoder import Reader, Reading
from tools.pairs import PAIR_TOKENS, Encoder, Pair, Sampler, batch_of

DEVELOPMENT = frozenset(
    {"Symbiosis", "Genocide", "Plymouth", "Southern_Europe", "ticketmaster.com", "clubs", "energy", "clinic"}
)
LENGTHS = (128, PAIR_TOKENS)  # tokens that pairs are padded to
PER_EPOCH = {"covidqa": 0.5, "policyqa_dev": 0.7}  # share of a corpus drawn each epoch, 1 where not named
SWAPPED = 0.25  # of the answerable questions are also asked about another name or number
RANKING, DISTILLED = 0.5, 1.0  # weights of those losses; all others count 1
SAVE_EVERY = 50  # steps


@dataclass(frozen=True, slots=True)
class Material:
    """Everything drawn from."""

    training: tuple[Question, ...]
    development: tuple[Question, ...]
    sampler: Sampler


def main() -> None:
    """Train and write a checkpoint."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    material = load_material(options)
    reader = _reader(options)
    teacher = load_reader(options.teacher) if options.teacher else None
    optimiser = torch.optim.AdamW(_groups(reader, options.rate), betas=(0.9, 0.98), fused=True)
    state = {"step": 0, "skip": 0}
    if options.resume and options.out.exists():
        saved = torch.load(options.out, weights_only=True)
        reader.load_state_dict(saved["reader"])
        optimiser.load_state_dict(saved["optimiser"])
        state["step"] = saved["step"]
        state["skip"] = (
            saved["step"] if saved["seed"] == options.seed else 0
        )  # another seed: other draws, none done yet
    steps = options.steps or sum(1 for _ in _batches(material, options, options.seed))
    print(json.dumps({"questions": len(material.training), "steps": steps, "from": state["step"]}), flush=True)
    _train(reader, teacher, optimiser, material, options, steps, state)


def load_material(options: argparse.Namespace) -> Material:
    """Questions split by group, and the sampler over their passages."""
    corpora = [*read_published(options.data), *read_originals(options.data / "train" / "original")]
    corpora += read_originals(options.own)
    misses = options.own / "near_misses.jsonl"
    if misses.exists():
        corpora.append(read_near_misses(misses, corpora))
    sampler = Sampler(
        corpora,
        json.loads(options.negatives.read_text(encoding="utf-8")),
        Encoder(Tokenizer.from_file(str(options.tokenizer))),
        options.seed,
    )
    questions = [question for corpus in corpora for question in corpus.questions]
    return Material(
        tuple(question for question in questions if question.group not in DEVELOPMENT),
        tuple(question for question in questions if question.group in DEVELOPMENT),
        sampler,
    )


def load_reader(path: Path) -> Reader:
    """A reader from a checkpoint, ready to judge."""
    saved = torch.load(path, weights_only=True)["reader"]
    depth = 1 + max(int(name.split(".")[2]) for name in saved if name.startswith("encoder.layer."))
    reader = Reader(depth)
    reader.load_state_dict(saved)
    return reader.eval()


def losses(reading: Reading, batch: Sequence[Pair]) -> dict[str, Tensor]:
    """Mean loss of each head over the pairs that teach it."""
    found: dict[str, Tensor] = {}
    relevant = [(row, pair.relevant) for row, pair in enumerate(batch) if pair.relevant is not None]
    found["relevance"] = _binary(reading.relevance, relevant)
    answerable = [(row, pair.answerable) for row, pair in enumerate(batch) if pair.answerable is not None]
    found["answerable"] = _binary(reading.answerable, answerable)
    rows = [row for row, pair in enumerate(batch) if pair.teaches_span]
    ends = torch.tensor([(batch[row].spans or ((0, 0),))[0] for row in rows])
    found["span"] = (
        functional.cross_entropy(reading.start[rows], ends[:, 0])
        + functional.cross_entropy(reading.end[rows], ends[:, 1])
    ) / 2
    found["ranking"] = RANKING * _ranking(reading.relevance, batch)
    return found


def _binary(logits: Tensor, labelled: Sequence[tuple[int, bool | None]]) -> Tensor:
    rows = [row for row, _ in labelled]
    return functional.binary_cross_entropy_with_logits(
        logits[rows], torch.tensor([float(bool(x)) for _, x in labelled])
    )


def _ranking(relevance: Tensor, batch: Sequence[Pair]) -> Tensor:
    """Softmax over the passages of each question, towards the relevant one (ListNet with one relevant passage)."""
    units: dict[int, list[int]] = {}
    for row, pair in enumerate(batch):
        if pair.relevant is not None:
            units.setdefault(pair.unit, []).append(row)
    terms = []
    for rows in units.values():
        gold = [row for row in rows if batch[row].relevant]
        if gold and len(gold) < len(rows):
            terms.append(relevance[rows].logsumexp(0) - relevance[gold].logsumexp(0))
    return torch.stack(terms).mean() if terms else relevance.sum() * 0


def _distillation(reading: Reading, wanted: Reading) -> Tensor:
    """Divergence from the teacher's spans and judgements, at temperature 2."""
    total = torch.zeros(())
    for own, other in ((reading.start, wanted.start), (reading.end, wanted.end)):
        total = total + 2 * functional.kl_div(
            (own / 2).log_softmax(-1), (other / 2).log_softmax(-1), log_target=True, reduction="batchmean"
        )
    for own, other in ((reading.relevance, wanted.relevance), (reading.answerable, wanted.answerable)):
        total = total + functional.binary_cross_entropy_with_logits(own, other.sigmoid())
    return total


def _train(
    reader: Reader,
    teacher: Reader | None,
    optimiser: torch.optim.Optimizer,
    material: Material,
    options: argparse.Namespace,
    steps: int,
    state: dict[str, int],
) -> None:
    reader.train()
    sums: dict[str, float] = {}
    began = time.perf_counter()
    batches = _endless(material, options, state["skip"])
    while state["step"] < steps:
        batch = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * _schedule(state["step"], steps, options.warm_up)
        length = next(length for length in LENGTHS if length >= max(len(pair.ids) for pair in batch))
        pairs = batch_of(batch, options.tokens // length, length)
        with torch.autocast("cpu", torch.bfloat16):
            reading = reader(pairs)
            parts = losses(reading, batch)
            if teacher is not None:
                with torch.no_grad():
                    wanted = teacher(pairs)
                parts["distilled"] = DISTILLED * _distillation(reading, wanted)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        state["step"] += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if state["step"] % 25 == 0:
            seconds = time.perf_counter() - began
            print(
                json.dumps(
                    {"step": state["step"], "seconds": round(seconds), "pairs": len(batch)}
                    | {name: round(value / 25, 4) for name, value in sums.items()}
                ),
                flush=True,
            )
            sums = {}
        if state["step"] % SAVE_EVERY == 0 or state["step"] == steps:
            saved = {"reader": reader.state_dict(), "optimiser": optimiser.state_dict()}
            saved |= {"step": state["step"], "seed": options.seed}
            torch.save(saved, options.out.with_suffix(".part"))
            options.out.with_suffix(".part").replace(options.out)


def _schedule(step: int, steps: int, warm_up: int) -> float:
    """Linear up, then linear down to a twentieth."""
    return min((step + 1) / warm_up, max(0.05, 1 - step / steps)) if warm_up else max(0.05, 1 - step / steps)


def _endless(material: Material, options: argparse.Namespace, skip: int) -> Iterator[list[Pair]]:
    epoch = 0
    while True:
        for batch in _batches(material, options, options.seed + epoch):
            if skip > 0:
                skip -= 1
                continue
            yield batch
        epoch += 1


def _batches(material: Material, options: argparse.Namespace, seed: int) -> Iterator[list[Pair]]:
    """Batches of at most `options.tokens` tokens with their padding, all pairs of a question together.

    All have the same size, because memory of ever new sizes is what a step would mostly wait for.
    """
    drawn = random.Random(seed)
    questions = [q for q in material.training if drawn.random() < _share(q, options)]
    drawn.shuffle(questions)
    waiting: dict[int, list[Pair]] = {length: [] for length in LENGTHS}
    for unit, question in enumerate(questions):
        pairs = list(material.sampler.pairs(question, unit, swap=SWAPPED if question.corpus != "near" else 0.0))
        longest = max((len(pair.ids) for pair in pairs), default=0)
        length = next(length for length in LENGTHS if length >= longest)
        if len(waiting[length]) + len(pairs) > options.tokens // length:
            yield waiting[length]
            waiting[length] = []
        waiting[length].extend(pairs)


def _share(question: Question, options: argparse.Namespace) -> float:
    shares: Mapping[str, float] = PER_EPOCH | options.share
    return shares.get(question.corpus, 1.0)


def _reader(options: argparse.Namespace) -> Reader:
    layers = [int(layer) for layer in options.layers.split(",")]
    reader = Reader(len(layers))
    if options.start:
        saved = torch.load(options.start, weights_only=True)["reader"]
        reader.load_encoder({name: value.numpy() for name, value in saved.items()}, layers)
    else:
        reader.load_encoder(load_file(options.encoder), layers)
    reader.embeddings.word_embeddings.weight.requires_grad_(False)
    return reader


def _groups(reader: Reader, rate: float) -> list[dict[str, Any]]:
    """Heads start from nothing and learn faster; biases and norms are not decayed."""
    named = [(name, value) for name, value in reader.named_parameters() if value.requires_grad]
    heads = [value for name, value in named if name.startswith(("judge", "span"))]
    plain = [value for name, value in named if not name.startswith(("judge", "span")) and value.ndim > 1]
    rest = [value for name, value in named if not name.startswith(("judge", "span")) and value.ndim == 1]
    return [
        {"params": heads, "peak": 5 * rate, "weight_decay": 0.0},
        {"params": plain, "peak": rate, "weight_decay": 0.01},
        {"params": rest, "peak": rate, "weight_decay": 0.0},
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/")
    parser.add_argument("--own", type=Path, default=OWN, help="folder with this project's own sets")
    parser.add_argument("--negatives", type=Path, required=True, help="made by tools.negatives")
    parser.add_argument("--encoder", type=Path, help="all-MiniLM-L6-v2's model.safetensors")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--from", dest="start", type=Path, help="checkpoint to start from instead of --encoder")
    parser.add_argument("--teacher", type=Path, help="checkpoint of a deeper reader")
    parser.add_argument("--layers", default="0,1,2,3,4,5", help="layers taken from the start, in order")
    parser.add_argument("--share", type=json.loads, default={}, help='share of a corpus an epoch, as {"covidqa": 0.5}')
    parser.add_argument("--rate", type=float, default=8e-5)
    parser.add_argument("--tokens", type=int, default=9216, help="of a batch, padding included")
    parser.add_argument("--steps", type=int, default=0, help="0 = one epoch")
    parser.add_argument("--warm-up", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
