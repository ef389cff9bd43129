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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from tools.training import learning_rate, load, log, save

DEVELOPMENT = frozenset(
    {"Symbiosis", "Genocide", "Plymouth", "Southern_Europe", "ticketmaster.com", "clubs", "energy", "clinic", "desk"}
)
LENGTHS = (128, PAIR_TOKENS)  # tokens that pairs are padded to
PER_EPOCH = {"covidqa": 0.5, "policyqa_dev": 0.7}  # times a corpus is drawn each epoch, 1 where not named
SWAPPED = 0.25  # of the answerable questions are also asked about another name or number
RANKING, DISTILLED, CONTRAST = 0.5, 1.0, 1.0  # weights of those losses; all others count 1
SAVE_EVERY, LOG_EVERY = 50, 25  # steps


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
    optimiser = torch.optim.AdamW(_groups(reader, options.rate), betas=(0.9, 0.98), fused=True)
    training = Training(reader, optimiser, material, options, load_reader(options.teacher) if options.teacher else None)
    first, skip = training.restore() if options.resume and options.out.exists() else (0, 0)
    steps = options.steps or sum(1 for _ in _batches(material, options, options.seed))
    log(questions=len(material.training), steps=steps, **{"from": first})
    training.run(first, steps, skip)


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
    saved = load(path)["reader"]
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
    ends = torch.tensor([(batch[row].spans or ((0, 0),))[0] for row in rows]).reshape(-1, 2)
    found["span"] = sum(
        (
            functional.cross_entropy(logits[rows], ends[:, side], reduction="sum")
            for side, logits in enumerate((reading.start, reading.end))
        ),
        start=torch.zeros(()),
    ) / max(1, 2 * len(rows))
    found["ranking"] = RANKING * _ranking(reading.relevance, batch)
    found["contrast"] = CONTRAST * _contrast(reading.answerable, batch)
    return found


def _binary(logits: Tensor, labelled: Sequence[tuple[int, bool | None]]) -> Tensor:
    rows = [row for row, _ in labelled]
    wanted = torch.tensor([float(bool(x)) for _, x in labelled])
    return functional.binary_cross_entropy_with_logits(logits[rows], wanted, reduction="sum") / max(1, len(rows))


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


def _contrast(answerable: Tensor, batch: Sequence[Pair]) -> Tensor:
    """How far a passage that answers is above the same one that does not: another question, or without its answer.

    Pairwise logistic loss over bundles of instances that differ in little (arXiv:2104.08735).
    """
    bundles: dict[tuple[int, str], list[int]] = {}
    for row, pair in enumerate(batch):
        if pair.answerable is not None:
            bundles.setdefault((pair.unit, pair.passage), []).append(row)
    terms = [
        functional.softplus(answerable[other] - answerable[row])
        for rows in bundles.values()
        for row in rows
        for other in rows
        if batch[row].answerable and not batch[other].answerable
    ]
    return torch.stack(terms).mean() if terms else answerable.sum() * 0


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


@dataclass(frozen=True, slots=True)
class Training:
    """One run: what learns, from what, and where it is kept."""

    reader: Reader
    optimiser: torch.optim.Optimizer
    material: Material
    options: argparse.Namespace
    teacher: Reader | None = None

    def restore(self) -> tuple[int, int]:
        """Load the checkpoint; the step to go on from, and the batches to skip because they were learnt from."""
        saved = load(self.options.out)
        self.reader.load_state_dict(saved["reader"])
        self.optimiser.load_state_dict(saved["optimiser"])
        # Another seed draws other batches, of which none has been seen.
        return saved["step"], saved["step"] if saved["seed"] == self.options.seed else 0

    def run(self, first: int, steps: int, skip: int) -> None:
        """Train from step `first` up to `steps`."""
        self.reader.train()
        sums: dict[str, float] = {}
        began = time.perf_counter()
        batches = _endless(self.material, self.options, skip)
        for done in range(first + 1, steps + 1):
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(group["peak"], done - 1, steps, self.options.warm_up)
            for name, value in self._learn(next(batches)).items():
                sums[name] = sums.get(name, 0.0) + value
            if done % LOG_EVERY == 0:
                means = {name: round(value / LOG_EVERY, 4) for name, value in sums.items()}
                log(step=done, seconds=round(time.perf_counter() - began), **means)
                sums = {}
            if done % SAVE_EVERY == 0 or done == steps:
                states = {"reader": self.reader.state_dict(), "optimiser": self.optimiser.state_dict()}
                save(self.options.out, **states, step=done, seed=self.options.seed)

    def _learn(self, batch: Sequence[Pair]) -> dict[str, float]:
        """One step; returns the parts of the loss."""
        length = next(length for length in LENGTHS if length >= max(len(pair.ids) for pair in batch))
        pairs = batch_of(batch, self.options.tokens // length, length)
        with torch.autocast("cpu", torch.bfloat16):
            reading = self.reader(pairs)
            parts = losses(reading, batch)
            if self.teacher is not None:
                with torch.no_grad():
                    wanted = self.teacher(pairs)
                parts["distilled"] = DISTILLED * _distillation(reading, wanted)
        torch.stack(list(parts.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.reader.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return {name: float(value.detach()) for name, value in parts.items()}


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
    units = [unit for unit in _units(material.training) for _ in range(int(_share(unit[0], options) + drawn.random()))]
    drawn.shuffle(units)
    waiting: dict[int, list[Pair]] = {length: [] for length in LENGTHS}
    for number, unit in enumerate(units):
        swap = SWAPPED if unit[0].corpus != "near" else 0.0
        pairs = [pair for question in unit for pair in material.sampler.pairs(question, number, swap=swap)]
        longest = max((len(pair.ids) for pair in pairs), default=0)
        length = next(length for length in LENGTHS if length >= longest)
        if waiting[length] and len(waiting[length]) + len(pairs) > options.tokens // length:
            yield waiting[length]
            waiting[length] = []
        waiting[length].extend(pairs)
    yield from (pairs for pairs in waiting.values() if pairs)


def _units(questions: Iterable[Question]) -> list[list[Question]]:
    """Questions that are learnt from together: each alone, twins as two."""
    units: dict[str, list[Question]] = {}
    for question in questions:
        units.setdefault(question.twin or question.id, []).append(question)
    return list(units.values())


def _share(question: Question, options: argparse.Namespace) -> float:
    shares: Mapping[str, float] = PER_EPOCH | options.share
    return shares.get(question.corpus, 1.0)


def _reader(options: argparse.Namespace) -> Reader:
    layers = [int(layer) for layer in options.layers.split(",")]
    reader = Reader(len(layers))
    if options.start:
        saved = load(options.start)["reader"]
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
    parser.add_argument("--share", type=json.loads, default={}, help='draws of a corpus an epoch: {"near": 1.6}')
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
