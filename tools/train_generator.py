"""Fine-tune the generator for behaviour: short answers from passages, and refusals.

    python -m tools.train_generator --data DIR --negatives negatives.json --base SmolLM2-135M-Instruct.Q4_1.gguf \\
        --out adapter.pt --adapter adapter.gguf [--from other.pt | --resume] [--simulate Q4_0] [--device cuda]

LoRA on all linear maps, on groups of questions that share passages (see tools.groups and tools.decoder): prompts are
the product's own with the hints of its reader, passages are independent, and the weights are what quantisation would
make of them, refreshed as the adapter changes. Each step also rehearses what the base said in plain chat
(tools.rehearsal). Checkpoints resume; the same seed draws the same groups. The log is JSON lines: loss, and on the
development groups token F1, exact match and refusals.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch

from edgeai.config import DEFAULT_READER
from edgeai.onnx.reader import OnnxReader
from edgeai.prompt import is_refusal
from edgeai.registry import Registry
from edgeai.scores import exact_match, token_f1
from tools.adapters import write_adapter
from tools.corpora import OWN, Corpus, read_near_misses, read_originals, read_published
from tools.decoder import Decoder, Group
from tools.groups import Grouper, Item, Layout
from tools.hints import Hints
from tools.rehearsal import WEIGHT, Rehearsal
from tools.tasks import load_model
from tools.train_reader import DEVELOPMENT
from tools.training import learning_rate, load, log, save

SHARES = {"squad_train44": 0.4, "policyqa_dev": 0.15, "covidqa": 0.15, "clapnq": 0.0}  # drawn an epoch
REFUSAL_WEIGHT = 1.0  # of a refusal; 2 made it decline a quarter of the answerable ones
REFRESH = 20  # steps between two simulations of the quantisation
DEVELOPMENT_GROUPS, ANSWER_TOKENS = 6, 24
SAVE_EVERY, LOG_EVERY = 20, 10  # steps
WARM_UP = 20  # steps
CREDIT = {
    "general.name": "edgeai grounded answers",
    "general.license": "apache-2.0",
    "general.base_model.0.name": "SmolLM2-135M-Instruct",
    "general.base_model.0.organization": "HuggingFaceTB",
    "general.base_model.0.repo_url": "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
}


@dataclass(frozen=True, slots=True)
class Draws:
    """Where groups come from: training is endless, development always the same."""

    training: Iterator[tuple[Group, tuple[Item, ...]]]
    development: Sequence[tuple[Group, tuple[Item, ...]]]


def main() -> None:
    """Train and write a checkpoint and an adapter."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    model = load_model(str(options.base))
    decoder = Decoder.from_gguf(options.base, rank=options.rank, alpha=2.0 * options.rank, seed=options.seed)
    rehearsal = Rehearsal.of(decoder, model, options.seed)
    decoder.to(options.device)
    if options.start:
        decoder.load_state_dict(load(options.start)["decoder"])
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=options.rate, betas=(0.9, 0.98), weight_decay=0.0)
    training = Training(decoder, optimiser, rehearsal, options)
    first = training.restore() if options.resume and options.out.exists() else 0
    training.run(first, load_draws(options, model.layout, skip=first), model.layout)


@dataclass(frozen=True, slots=True)
class Training:
    """One run: what learns, what it must not forget, and where it is kept."""

    decoder: Decoder
    optimiser: torch.optim.Optimizer
    rehearsal: Rehearsal
    options: argparse.Namespace

    def run(self, first: int, draws: Draws, layout: Layout) -> None:
        """Train from step `first` to the last."""
        options, steps = self.options, self.options.steps
        began, sums = time.perf_counter(), [0.0, 0.0]
        for done in range(first + 1, steps + 1):
            if options.simulate and (done - 1) % REFRESH == 0:
                self.decoder.simulate(options.simulate)
            sums = [a + b for a, b in zip(sums, self._learn(next(draws.training), done - 1), strict=True)]
            if done % LOG_EVERY == 0:
                loss, drift = (round(value / LOG_EVERY, 4) for value in sums)
                log(step=done, seconds=round(time.perf_counter() - began), loss=loss, drift=drift)
                sums = [0.0, 0.0]
            if done % options.evaluate == 0 or done == steps:
                log(step=done, **evaluate(self.decoder, draws.development, layout, options.device))
            if done % SAVE_EVERY == 0 or done == steps:
                states = {"decoder": self.decoder.state_dict(), "optimiser": self.optimiser.state_dict()}
                save(options.out, **states, step=done)
                write_adapter(options.adapter, self.decoder, CREDIT)

    def restore(self) -> int:
        """Load the checkpoint; the step to go on from."""
        saved = load(self.options.out)
        self.decoder.load_state_dict(saved["decoder"])
        self.optimiser.load_state_dict(saved["optimiser"])
        return int(saved["step"])

    def _learn(self, drawn: tuple[Group, tuple[Item, ...]], step: int) -> tuple[float, float]:
        """Learn from one group; its loss, and how far plain chat has drifted from the base's."""
        options = self.options
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = learning_rate(options.rate, step, options.steps, WARM_UP)
        group, items = drawn
        weights = torch.tensor([REFUSAL_WEIGHT if item.refuses else 1.0 for item in items], device=options.device)
        loss = self.decoder.loss(moved(group, options.device), weights)
        loss.backward()
        drift = self.rehearsal.loss(self.decoder, step)
        (drift * WEIGHT).backward()
        torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.item(), drift.item()


def load_corpora(options: argparse.Namespace) -> list[Corpus]:
    """Published sets, then those in the product's own shape, which are drawn twice."""
    published = read_published(options.data)
    own = [*read_originals(options.data / "train" / "original"), *read_originals(options.own)]
    misses = options.own / "near_misses.jsonl"
    if misses.exists():  # beside the other questions over the same passages, so that they share groups
        near = read_near_misses(misses, published)
        published = [
            replace(corpus, questions=(*corpus.questions, *(q for q in near.questions if q.shown[0] in corpus.texts)))
            for corpus in published
        ]
    return [*published, *own, *own]


def load_draws(options: argparse.Namespace, layout: Layout, skip: int) -> Draws:
    """Groups for training from step `skip` on, and for development."""
    corpora = load_corpora(options)
    negatives = json.loads(options.negatives.read_text(encoding="utf-8"))
    reader = OnnxReader(Registry(offline=True).reader(options.reader))
    attacks = [json.loads(line)["text"] for line in options.attacks.open(encoding="utf-8")] if options.attacks else []

    def training() -> Iterator[tuple[Group, tuple[Item, ...]]]:
        skipped, epoch = 0, 0
        while True:
            seed = options.seed + epoch
            hints = Hints(reader, seed)
            for drawn in Grouper(corpora, negatives, layout, seed, attacks, DEVELOPMENT, SHARES, hints).epoch():
                skipped += 1
                if skipped > skip:
                    yield drawn
            epoch += 1

    held_out = [
        replace(corpus, questions=tuple(question for question in corpus.questions if question.group in DEVELOPMENT))
        for corpus in {corpus.name: corpus for corpus in corpora}.values()
    ]
    told = Hints(reader, seed=7, misled=0.0)
    fixed = Grouper(held_out, negatives, layout, seed=7, shares={"clapnq": 0.0}, hints=told)
    return Draws(training(), list(islice(fixed.epoch(), DEVELOPMENT_GROUPS)))


def moved(group: Group, device: str) -> Group:
    """The same group on another device."""
    return Group(**{name: value.to(device) for name, value in vars(group).items()})


def evaluate(
    decoder: Decoder, drawn: Sequence[tuple[Group, tuple[Item, ...]]], layout: Layout, device: str
) -> dict[str, float]:
    """Scores on groups: loss; F1 and exact match of answerable questions; how many of either kind were refused."""
    answered: list[tuple[float, bool, bool]] = []
    refused: list[bool] = []
    losses = []
    for group, items in drawn:
        with torch.no_grad():
            losses.append(decoder.loss(moved(group, device)).item())
        said = decoder.generate(moved(unanswered(group), device), ANSWER_TOKENS, layout.end)
        for row, (item, ids) in enumerate(zip(items, said, strict=True)):
            text, wanted = layout.text(ids), layout.text(group.questions[row][group.targets[row]].tolist()[:-1])
            if item.refuses:
                refused.append(is_refusal(text))
            else:
                answered.append((token_f1(text, [wanted]), exact_match(text, [wanted]), is_refusal(text)))
    f1, exact, declined = (round(sum(column) / len(column), 3) for column in zip(*answered, strict=True))
    return {
        "dev_loss": round(sum(losses) / len(losses), 4),
        "f1": f1,
        "exact": exact,
        "declined": declined,
        "refused": round(sum(refused) / max(1, len(refused)), 3),
        "answerable": len(answered),
        "unanswerable": len(refused),
    }


def unanswered(group: Group) -> Group:
    """The group without its answers."""
    begins = group.targets.int().argmax(1)
    longest = int(begins.max())
    return replace(
        group,
        question_lengths=begins,
        questions=group.questions[:, :longest],
        targets=group.targets[:, :longest],
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/")
    parser.add_argument("--own", type=Path, default=OWN, help="folder with this project's own sets")
    parser.add_argument("--negatives", type=Path, required=True, help="made by tools.negatives")
    parser.add_argument("--attacks", type=Path, help="JSON lines with instructions to plant in passages")
    parser.add_argument("--base", type=Path, required=True, help="GGUF of the base model")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint")
    parser.add_argument("--adapter", type=Path, required=True, help="GGUF adapter written with every checkpoint")
    parser.add_argument("--from", dest="start", type=Path, help="checkpoint whose adapter to start from")
    parser.add_argument("--reader", default=DEFAULT_READER, help="whose hints the prompts hold")
    parser.add_argument("--simulate", choices=("Q4_0", "Q8_0"), help="quantisation the merged model will get")
    parser.add_argument("--rank", type=int, default=24)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--steps", type=int, default=600, help="groups of about 15 questions")
    parser.add_argument("--evaluate", type=int, default=100, help="steps between two evaluations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
