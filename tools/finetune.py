"""Fine-tune the generator on your own failures, and keep the result only if it is better and has forgotten nothing.

    python -m tools.finetune check FILE.jsonl [--schema SCHEMA.json]
    python -m tools.finetune train FILE.jsonl --name NAME [--schema SCHEMA.json] [--install]

When to do this and when not, the format of FILE and how to read the report: tools/FINETUNING.md. `train` checks the
file, holds out a fifth of its groups, trains a LoRA adapter on the rest, and scores base and adapter on the held-out
part and on tools.abilities. The last line is one JSON object. Exit code 1: the file does not pass the checks; 3: the
adapter does not pass, and is not installed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from edgeai import config
from edgeai.errors import EdgeAIError, UsageProblem
from edgeai.registry.catalog import checked_name
from edgeai.registry.gguf import preflight
from tools import abilities
from tools.adapters import write_adapter
from tools.checks import check, split
from tools.decoder import Decoder
from tools.evidence import TASKS, Evidence, Example, Finding, read
from tools.rehearsal import PROMPTS, WEIGHT, Rehearsal
from tools.tasks import Model, Task, as_group, evaluate, load_model, task_for

UNFIT, NOT_BETTER = 1, 3  # exit codes
RANK, RATE = 8, 5e-4
BATCH = 8  # examples of one step
AT_ONCE = {False: 8, True: 2}  # examples computed together, without and with passages: 8 with passages take 6 GB
PASSES, LEAST_STEPS, MOST_STEPS = 8, 60, 400  # over the training part, unless --steps says otherwise
WARM_UP = 10  # steps
SAVE_EVERY = 20
REPORT_EVERY = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What one training did, before and after."""

    before: dict[str, float]
    after: dict[str, float]
    regression: dict[str, Any]  # "before", "after" and what abilities.comparison gives

    @property
    def reasons(self) -> list[str]:
        """Why the adapter may not be installed; none when it may."""
        found = []
        if self.after["score"] <= self.before["score"]:
            found.append(f"the held-out score did not rise ({self.before['score']:.3f} to {self.after['score']:.3f})")
        if self.regression["forgot"]:
            most = f"{abilities.TOLERATED:.0%}"
            found.append(f"general abilities fell to {self.regression['ratio']:.1%} of the base's, by more than {most}")
        return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Check a file, or train on it."""
    options = _options(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # progress is to be seen in a log file too
    try:
        sys.exit(options.run(options))
    except EdgeAIError as error:
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command with --resume goes on from the last checkpoint.")


def run_check(options: argparse.Namespace) -> int:
    """Print what the checks found; 0 when the file may be trained on."""
    evidence = read(options.file, options.task, options.schema)
    return UNFIT if _report_checks(evidence, load_model(options.base)) else 0


def run_train(options: argparse.Namespace) -> int:
    """Check, train, compare and perhaps install."""
    checked_name(options.name)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    evidence, model = read(options.file, options.task, options.schema), load_model(options.base)
    if _report_checks(evidence, model):
        return UNFIT
    task = task_for(evidence)
    train, held = split(evidence.examples, options.seed)
    steps = options.steps or min(MOST_STEPS, max(LEAST_STEPS, PASSES * len(train) // BATCH))
    folder = options.out or Path(f"{options.name}.finetuning")
    folder.mkdir(parents=True, exist_ok=True)
    adapter = folder / f"{options.name}.gguf"
    print(f"{len(train)} examples to train on, {len(held)} held out; {steps} steps, written to {folder}", flush=True)
    decoder = load_decoder(model, options.seed).to(options.device)
    settings = _settings(options, evidence, model, steps)
    with torch.device(options.device):
        with decoder.base_only():
            before = evaluate(decoder, held, task, model)
        checkpoint = folder / "checkpoint.pt"
        Training(decoder, train, task, model, settings, checkpoint, options.rehearsal).run(options.resume)
        after = evaluate(decoder, held, task, model)
    write_adapter(adapter, decoder, _credit(options.name, evidence, model))
    regression = compare_abilities(options.base, adapter, options.abilities)
    outcome = Outcome(before, after, regression)
    settings |= {"examples": len(train), "held_out": len(held)}
    card = _card(options.name, evidence, task, model, outcome, settings)
    (folder / f"{options.name}.json").write_text(_pretty(card), encoding="utf-8")
    installed = options.install and not outcome.reasons
    if installed:
        install(folder, options.name)
    _report_outcome(outcome, installed, options)
    print(json.dumps({"passed": not outcome.reasons, "installed": installed, "reasons": outcome.reasons, **card}))
    return NOT_BETTER if outcome.reasons else 0


def load_decoder(model: Model, seed: int) -> Decoder:
    """The base with a new adapter. Raises `UsageProblem` when it is not a model this training code computes."""
    architecture = preflight(Path(model.spec.model)).architecture
    if architecture != "llama":
        raise UsageProblem(
            f"{model.spec.name} is of architecture {architecture}; only models of architecture llama can be fine-tuned."
        )
    return Decoder.from_gguf(model.spec.model, rank=RANK, alpha=2.0 * RANK, seed=seed)


# training -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A run that can be interrupted: which examples a step sees follows from the seed and its number alone."""

    decoder: Decoder
    examples: Sequence[Example]
    task: Task
    model: Model
    settings: dict[str, Any]
    checkpoint: Path
    rehearsed: Path = PROMPTS

    def run(self, resume: bool, *, say: Say = print, until: int | None = None) -> None:
        """Train to the last step, or to step `until`. Raises `UsageProblem` for a checkpoint of another run."""
        torch.manual_seed(self.settings["seed"])
        optimiser = torch.optim.AdamW(
            self.decoder.parameters(), lr=self.settings["rate"], betas=(0.9, 0.98), weight_decay=0.0
        )
        step = self._restore(optimiser) if resume else 0
        rehearsal = Rehearsal.of(self.decoder, self.model, self.settings["seed"], self.rehearsed)
        began, steps = time.perf_counter(), self.settings["steps"]
        while step < (steps if until is None else until):
            for parameters in optimiser.param_groups:
                parameters["lr"] = self.settings["rate"] * min((step + 1) / WARM_UP, max(0.05, 1 - step / steps))
            loss = self._learn(self.batch(step))
            drift = rehearsal.loss(self.decoder, step)
            (drift * WEIGHT).backward()
            torch.nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            if step % REPORT_EVERY == 0 or step == steps:
                seconds = time.perf_counter() - began
                say(f"step {step} of {steps}, loss {loss:.3f}, drift {drift.item():.3f}, {seconds:.0f} s")
            if step % SAVE_EVERY == 0 or step == steps:
                self._save(optimiser, step)

    def _learn(self, batch: Sequence[Example]) -> float:
        """Add the gradient of a batch, as much of it at once as memory allows; its mean loss."""
        size = AT_ONCE[bool(batch[0].passages)]
        total = 0.0
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            loss = self.decoder.loss(as_group(part, self.task, self.model)) * (len(part) / len(batch))
            loss.backward()
            total += loss.item()
        return total

    def batch(self, step: int) -> list[Example]:
        """The examples of a step: every one once a pass, each pass in an order of its own."""
        size = len(self.examples)
        chosen = []
        for place in range(step * BATCH, step * BATCH + min(BATCH, size)):
            order = list(range(size))
            random.Random(f"{self.settings['seed']} {place // size}").shuffle(order)
            chosen.append(self.examples[order[place % size]])
        return chosen

    def _restore(self, optimiser: torch.optim.Optimizer) -> int:
        if not self.checkpoint.exists():
            return 0
        saved = torch.load(self.checkpoint, weights_only=True)
        if saved["settings"] != self.settings:
            raise UsageProblem(
                f"{self.checkpoint} was made with other data, another base or other settings; leave out --resume to "
                "start again."
            )
        self.decoder.load_state_dict(saved["decoder"])
        optimiser.load_state_dict(saved["optimiser"])
        return int(saved["step"])

    def _save(self, optimiser: torch.optim.Optimizer, step: int) -> None:
        part = self.checkpoint.with_suffix(".part")
        state = {"decoder": self.decoder.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save({**state, "settings": self.settings, "step": step}, part)
        part.replace(self.checkpoint)


def compare_abilities(base: str, adapter: Path, prompts: Path = abilities.PROMPTS) -> dict[str, Any]:
    """Scores of the regression set through llama.cpp, without and with the adapter.

    In a process of its own: OpenMP decides once, when torch loads it, how long threads spin, and llama.cpp beside
    another busy program is many times slower unless that is short (see `edgeai.llm.llama.library`).
    """
    model = str(Path(base).resolve()) if Path(base).exists() else base
    command = [sys.executable, "-m", "tools.abilities", "--model", model, "--adapter", str(adapter.resolve())]
    command += ["--against", model, "--prompts", str(prompts.resolve())]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    if done.returncode not in (0, abilities.FORGOT):
        why = [f"exit code {done.returncode}", *done.stderr.strip().splitlines()][-1]
        raise EdgeAIError(f"The general abilities could not be measured ({why}); the same command with --resume may.")
    report = json.loads(done.stdout.splitlines()[-1])
    compared = {key: report[key] for key in ("ratio", "forgot", "lost", "gained")}
    return {"before": report["against"], "after": {key: report[key] for key in report["against"]}, **compared}


# what is written ----------------------------------------------------------------------------------------------------


def install(folder: Path, name: str) -> Path:
    """Copy an adapter and its description to where `edgeai --adapter NAME` finds them; returns the GGUF's place."""
    target = config.data_dir() / "adapters"
    target.mkdir(parents=True, exist_ok=True)
    for suffix in (".gguf", ".json"):
        part = target / f"{name}{suffix}.part"
        shutil.copyfile(folder / f"{name}{suffix}", part)
        part.replace(target / f"{name}{suffix}")
    return target / f"{name}.gguf"


def _settings(options: argparse.Namespace, evidence: Evidence, model: Model, steps: int) -> dict[str, Any]:
    """Everything that decides what a training gives; a checkpoint is only continued with the same."""
    schema = hashlib.sha256(json.dumps(evidence.schema).encode()).hexdigest()
    data = {"data": evidence.digest, "task": evidence.task, "schema": schema, "base": model.spec.digest}
    return {
        **data,
        "steps": steps,
        "rate": options.rate,
        "seed": options.seed,
        "rank": RANK,
        "batch": BATCH,
        "rehearsal": WEIGHT,
    }


def _card(
    name: str, evidence: Evidence, task: Task, model: Model, outcome: Outcome, settings: dict[str, Any]
) -> dict[str, Any]:
    """What is kept beside an adapter: what it is for, what it was made of and how it scored."""
    return {
        "name": name,
        "task": task.name,
        "base": model.spec.digest,
        "base_name": model.spec.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "scores": {"before": outcome.before, "after": outcome.after, "abilities": outcome.regression},
        "system": task.system,
        "labels": list(task.labels),
        "schema": dict(task.schema),
        "data": evidence.digest,
        "licences": list(evidence.licences),
        "settings": {key: value for key, value in settings.items() if key not in ("data", "base", "task", "schema")},
    }


def _credit(name: str, evidence: Evidence, model: Model) -> dict[str, str]:
    return {
        "general.name": name,
        "general.license": ", ".join(evidence.licences),
        "general.base_model.0.name": model.spec.name,
    }


def _pretty(card: dict[str, Any]) -> str:
    return json.dumps(card, indent=1, ensure_ascii=False) + "\n"


# reports ------------------------------------------------------------------------------------------------------------


def _report_checks(evidence: Evidence, model: Model) -> list[Finding]:
    """Print the findings; those that keep the file from being trained on."""
    findings = check(evidence, lambda text: len(model.layout.tokenise(text)), model.layout.context)
    for finding in findings:
        print(f"{'problem' if finding.fatal else 'note'}  {finding.kind:10} {finding.text}")
    fatal = [finding for finding in findings if finding.fatal]
    verdict = f"{len(fatal)} problems: correct them first" if fatal else "fit to train on"
    print(f"{len(evidence.examples)} examples ({evidence.task}), {verdict}", flush=True)
    return fatal


def _report_outcome(outcome: Outcome, installed: bool, options: argparse.Namespace) -> None:
    print(f"\n{'':22} {'base':>8} {'adapter':>8}")
    for name in dict.fromkeys([*outcome.before, *outcome.after]):
        print(f"held-out {name:13} {outcome.before.get(name, 0.0):8.3f} {outcome.after.get(name, 0.0):8.3f}")
    before, after = (outcome.regression[side] for side in ("before", "after"))
    for kind, share in before["kinds"].items():
        print(f"general  {kind:13} {share:8.3f} {after['kinds'][kind]:8.3f}")
    print(f"general  {'all':13} {before['score']:8.3f} {after['score']:8.3f}  ({outcome.regression['ratio']:.1%})\n")
    if outcome.reasons:
        print(f"not installed: {'; '.join(outcome.reasons)}")
    else:
        print(f"installed: edgeai ask --adapter {options.name}" if installed else "passed; --install would install it")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="check|train")
    checking = commands.add_parser("check", help="say what is wrong with a file")
    training = commands.add_parser("train", help="train an adapter and compare it with the base")
    for command in (checking, training):
        command.add_argument("file", type=Path, help="JSON lines, see tools/FINETUNING.md")
        command.add_argument("--task", choices=TASKS, default="", help="default: what the fields of the first line say")
        command.add_argument("--base", default=config.DEFAULT_GENERATOR, help="installed model or path of a GGUF file")
        command.add_argument("--schema", type=Path, help="JSON schema of the object to extract")
    training.add_argument("--name", required=True, help="of the adapter")
    training.add_argument("--steps", type=int, default=0, help=f"of {BATCH} examples; default: {PASSES} passes")
    training.add_argument("--rate", type=float, default=RATE, help="learning rate")
    training.add_argument("--seed", type=int, default=0, help="of the split and the order of examples")
    training.add_argument("--out", type=Path, help="folder for checkpoint and adapter; default: NAME.finetuning")
    training.add_argument("--abilities", type=Path, default=abilities.PROMPTS, help="another regression set")
    training.add_argument("--rehearsal", type=Path, default=PROMPTS, help="other prompts to go on answering as before")
    training.add_argument("--threads", type=int, default=0, help="default: all cores; 1 beside another busy program")
    training.add_argument("--device", default="cpu", help="cpu or cuda")
    training.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    training.add_argument("--install", action="store_true", help="install the adapter if it passes")
    checking.set_defaults(run=run_check)
    training.set_defaults(run=run_train)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
