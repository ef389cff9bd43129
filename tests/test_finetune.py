"""Training on a user's file: what decides, what is kept, and that a bad adapter is not installed."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from llama_logits import write_tied_gguf

torch = pytest.importorskip("torch")

from edgeai.errors import EdgeAIError, ModelRejected, UsageProblem  # noqa: E402
from edgeai.llm.llama import Llama  # noqa: E402
from edgeai.prompt import REFUSAL  # noqa: E402
from edgeai.records import Passage  # noqa: E402
from tools import abilities, finetune, tasks  # noqa: E402
from tools.checks import near_pairs  # noqa: E402
from tools.decoder import Decoder  # noqa: E402
from tools.evidence import Evidence, Example  # noqa: E402
from tools.rehearsal import PROMPTS as PROMPTS_TO_REHEARSE  # noqa: E402
from tools.rehearsal import Rehearsal  # noqa: E402

THINGS = ["amber", "birch", "cedar", "dahlia", "elm", "fern", "garlic", "hazel"]
PROMPTS = [abilities.Ability("a", "chat", "Hello", 8, {"words": [0, 99]})]  # kept by any model
IMPOSSIBLE = [abilities.Ability("a", "chat", "Hello", 8, {"words": [99, 0]})]
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}, "count": {"type": "integer"}}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tied_gguf(tmp_path_factory.mktemp("models") / "tied.gguf")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.jsonl"
    lines = [{"text": f"{a} {b}", "label": ("c", "d")[n % 2], "licence": "own"} for n, (a, b) in enumerate(pairs())]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def pairs() -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(THINGS) for b in THINGS[i + 1 :]][:24]


def train(file: Path, base: Path, *more: str, prompts: list[abilities.Ability] = PROMPTS) -> int:
    out, asked = file.parent / "out", file.parent / "prompts.jsonl"
    asked.write_text("\n".join(json.dumps(dataclasses.asdict(one)) for one in prompts), encoding="utf-8")
    more = (
        "--abilities",
        str(asked),
        "--rehearsal",
        str(rehearsed(file.parent)),
        "--rate",
        "0.02",
        "--steps",
        "30",
        *more,
    )
    arguments = ["train", str(file), "--base", str(base), "--name", "letters", "--out", str(out), "--threads", "1"]
    return finetune.run_train(finetune._options([*arguments, *more]))


def rehearsed(folder: Path) -> Path:
    path = folder / "rehearsal.jsonl"
    path.write_text('{"prompt": "Hello"}\n{"prompt": "Count to 3."}\n', encoding="utf-8")
    return path


def card(folder: Path) -> dict[str, Any]:
    loaded = json.loads((folder / "letters.json").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


# end to end ---------------------------------------------------------------------------------------------------------


def test_an_adapter_that_passes_is_installed_with_what_it_is(
    file: Path, base: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(file, base, "--install") == 0
    found = card(home / "adapters")
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["installed"] and report["passed"] and not report["reasons"]
    assert (found["name"], found["task"], found["labels"]) == ("letters", "label", ["c", "d"])
    assert found["base"] == tasks.load_model(str(base)).spec.digest and len(found["data"]) == 64
    assert found["licences"] == ["own"] and found["created"].endswith("+00:00")
    assert found["system"] == tasks.LABEL_SYSTEM.format("c, d")
    before, after = found["scores"]["before"], found["scores"]["after"]
    assert after["score"] > before["score"] and after["loss"] < before["loss"] / 2
    assert abilities.measure(str(base), PROMPTS, home / "adapters" / "letters.gguf").overall == 1.0


def test_an_adapter_that_is_no_better_is_refused(file: Path, base: Path, home: Path) -> None:
    assert train(file, base, "--install", "--rate", "0", "--steps", "2") == finetune.NOT_BETTER
    assert not (home / "adapters").exists()
    assert card(file.parent / "out")["scores"]["after"] == card(file.parent / "out")["scores"]["before"]


def test_an_adapter_that_forgets_is_refused(
    file: Path, base: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tasks.load_model(str(base))
    said = base_reply(model, base)
    prompts = [abilities.Ability("a", "chat", "Hello", 8, {"pattern": f"^{said}"})]
    assert train(file, base, "--install", prompts=prompts) == finetune.NOT_BETTER
    assert not (home / "adapters").exists()
    assert "general abilities fell" in capsys.readouterr().out


def base_reply(model: tasks.Model, base: Path) -> str:
    llama = Llama(str(base), model.spec.template.special_ids, threads=1, gpu_layers=0, context=512)
    try:
        return re.escape(abilities.reply(llama, model.spec, PROMPTS[0]))
    finally:
        llama.close()


def test_a_training_that_was_stopped_goes_on_to_the_same_adapter(file: Path, base: Path, tmp_path: Path) -> None:
    model = tasks.load_model(str(base))
    examples = [Example(n, f"{a} {b}", "cd"[n % 2]) for n, (a, b) in enumerate(pairs())]
    task = tasks.Task("label", "c or d", ("c", "d"))

    def run(steps: int, last: int, folder: str) -> Decoder:
        decoder = Decoder.from_gguf(base, rank=2, alpha=4.0, dtype=torch.float32)
        settings = {"seed": 1, "rate": 0.01, "steps": steps}
        training = finetune.Training(decoder, examples, task, model, settings, tmp_path / folder, rehearsed(tmp_path))
        training.run(resume=True, say=lambda _: None, until=last)
        return decoder

    run(24, 20, "one")
    resumed, whole = run(24, 24, "one"), run(24, 24, "two")
    for (_, a, b), (_, c, d) in zip(resumed.lora(), whole.lora(), strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)
    with pytest.raises(UsageProblem, match="leave out --resume"):
        run(25, 25, "one")


def test_a_batch_learnt_in_parts_is_the_batch(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder.from_gguf(base, rank=2, alpha=4.0, dtype=torch.float32)
    training = finetune.Training(decoder, [], GROUNDED, tasks.load_model(str(base)), {}, tmp_path)
    gradients = []
    for size in (1, 3):
        monkeypatch.setattr(finetune, "AT_ONCE", {True: size})
        decoder.zero_grad()
        training._learn([example("two [1]"), example(REFUSAL), example("three, it says [2]")])
        gradients.append([b.grad.clone() for _, _, b in decoder.lora()])
    for part, whole in zip(*gradients, strict=True):
        assert torch.allclose(part, whole, atol=1e-6, rtol=1e-3)


def test_every_example_is_seen_once_a_pass(base: Path, tmp_path: Path) -> None:
    examples = [Example(n, str(n), "c") for n in range(20)]
    training = finetune.Training(None, examples, None, None, {"seed": 3}, tmp_path)  # type: ignore[arg-type]
    seen = [example.line for step in range(5) for example in training.batch(step)]
    assert sorted(seen[:20]) == sorted(seen[20:40]) == list(range(20))
    assert seen[:20] != seen[20:40]


def test_a_file_that_is_unfit_is_not_trained_on(file: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("\n".join(file.read_text(encoding="utf-8").splitlines()[:5]), encoding="utf-8")
    assert train(file, base) == finetune.UNFIT
    assert not (file.parent / "out").exists()
    assert "at least 20 are needed" in capsys.readouterr().out


def test_what_a_user_gets_wrong_is_said_in_a_sentence(file: Path, base: Path) -> None:
    for arguments in (
        ["check", str(file.with_name("absent")), "--base", str(base)],
        ["check", str(file), "--base", "no-such-model"],
        ["train", str(file), "--base", str(base), "--name", "../up"],
    ):
        with pytest.raises(SystemExit) as stopped:
            finetune.main(arguments)
        assert str(stopped.value.code).startswith("Error: ")
    with pytest.raises(SystemExit) as passed:
        finetune.main(["check", str(file), "--base", str(base)])
    assert passed.value.code == 0


def test_a_base_that_cannot_be_trained_is_named(base: Path, tmp_path: Path) -> None:
    model, other = tasks.load_model(str(base)), tmp_path / "other.gguf"
    other.write_bytes(base.read_bytes().replace(b"llama", b"qwen2"))
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, model=str(other)))
    with pytest.raises(UsageProblem, match="is of architecture qwen2"):
        finetune.load_decoder(model, seed=0)


# rehearsal ----------------------------------------------------------------------------------------------------------


def test_rehearsal_pulls_an_adapter_back_to_what_the_base_says(base: Path, tmp_path: Path) -> None:
    decoder = Decoder.from_gguf(base, rank=2, alpha=4.0, dtype=torch.float32)
    rehearsal = Rehearsal.of(decoder, tasks.load_model(str(base)), 0, rehearsed(tmp_path))
    assert rehearsal.loss(decoder, 0).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for _, _, b in decoder.lora():
            b.normal_(0, 0.05)
    far = rehearsal.loss(decoder, 0)
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.01)
    for _ in range(5):
        optimiser.zero_grad()
        rehearsal.loss(decoder, 0).backward()
        optimiser.step()
    assert rehearsal.loss(decoder, 0).item() < far.item() / 2


def test_what_is_rehearsed_is_not_what_is_measured() -> None:
    rehearsed = [json.loads(line)["prompt"] for line in PROMPTS_TO_REHEARSE.read_text(encoding="utf-8").splitlines()]
    measured = [ability.prompt for ability in abilities.read_abilities()]
    assert len(set(rehearsed)) == len(rehearsed) > 90
    assert not [pair for pair in near_pairs([*rehearsed, *measured]) if pair[0] < len(rehearsed) <= pair[1]]


# what the model sees ------------------------------------------------------------------------------------------------


def example(answer: str, **more: Any) -> Example:
    passages = tuple(Passage(n, text, "", 0, len(text)) for n, text in ((1, "one two"), (2, "three")))
    return Example(1, "how many?", answer, passages=passages, **more)


@pytest.mark.parametrize("independent", [False, True])
def test_a_question_is_laid_out_as_the_base_reads_it(base: Path, independent: bool) -> None:
    model = tasks.load_model(str(base))
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, independent=independent))
    task = tasks.task_for(Evidence("grounded", (), ""))
    group = tasks.as_group([example("two [1]"), example(REFUSAL)], task, model)
    flat = [
        *group.prefix.tolist(),
        *(t for row, n in zip(group.passages, group.passage_lengths, strict=True) for t in row[:n].tolist()),
    ]
    text = model.layout.text([*flat, *group.questions[0][: group.question_lengths[0]].tolist()])
    said = "two" if independent else "two [1]"
    shown = ["one two", "three", "how many?", said]
    assert [text.index(part) for part in shown[:-1]] == sorted(text.index(part) for part in shown[:-1])
    assert text.rindex(said) > text.index("how many?")
    assert ("[1]" in text) is not independent
    assert (len(group.passages) == 2) is independent
    answers = [model.layout.text(row[mask].tolist()) for row, mask in zip(group.questions, group.targets, strict=True)]
    assert answers == [said, REFUSAL]
    asked = tasks.as_group([example("two [1]")], task, model, answered=False)
    assert not asked.targets.any() and said not in model.layout.text(asked.questions[0].tolist())


def test_the_system_sentence_names_what_may_be_answered() -> None:
    labels = Evidence("label", (Example(1, "x", "up"), Example(2, "y", "down")), "")
    assert "down, up" in tasks.task_for(labels).system
    fields = Evidence("json", (), "", {"properties": {"n": {"type": "integer"}, "state": {"enum": ["on", "off"]}}})
    assert "n (integer), state (on or off)" in tasks.task_for(fields).system


# scores -------------------------------------------------------------------------------------------------------------

LABELS = tasks.Task("label", "", ("up", "down"))
JSON = tasks.Task("json", "", schema=SCHEMA)
GROUNDED = tasks.Task("grounded", "")


@pytest.mark.parametrize(
    ("said", "answer", "task", "expected"),
    [
        (" Up\n", "up", LABELS, {"score": 1.0, "accuracy": 1.0}),
        ("up or down", "up", LABELS, {"score": 0.0}),
        ('{"name": "a", "count": 1}', '{"name": "a", "count": 1}', JSON, {"score": 1.0, "valid": 1.0}),
        ('{"name": "b", "count": 1}', '{"name": "a", "count": 1}', JSON, {"score": 0.5, "valid": 1.0}),
        ('{"name": "a"}', '{"name": "a", "count": 1}', JSON, {"score": 0.5}),
        ('{"name": "a", "count": 1}', '{"name": "a"}', JSON, {"score": 0.5}),
        ('{"name": "a", "count": "1"}', '{"name": "a", "count": 1}', JSON, {"score": 0.0, "valid": 0.0, "fields": 0.5}),
        ("Here: {}", '{"name": "a"}', JSON, {"score": 0.0, "valid": 0.0}),
        ("[1]", '{"name": "a"}', JSON, {"score": 0.0, "fields": 0.0}),
        ("red gate [2]", "red gate [2]", GROUNDED, {"score": 1.0, "cited": 1.0, "declined": 0.0}),
        ("red gate [1]", "red gate [2]", GROUNDED, {"score": 1.0, "cited": 0.0}),
        (REFUSAL, "red gate [2]", GROUNDED, {"score": 0.0, "declined": 1.0}),
        (REFUSAL, REFUSAL, GROUNDED, {"score": 1.0, "refused": 1.0}),
        ("red gate [2]", REFUSAL, GROUNDED, {"score": 0.0, "refused": 0.0}),
    ],
)
def test_answers_are_scored_by_their_task(said: str, answer: str, task: tasks.Task, expected: dict[str, float]) -> None:
    assert expected.items() <= tasks.score(said, Example(1, "?", answer), task).items()


# general abilities --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "holds", "fails"),
    [
        ({"any": ["ice", "snow"]}, "It is ICE.", "It is nice."),
        ({"all": ["Tom", "Anna"]}, "Anna and Tom", "Anna"),
        ({"among": [2, ["red", "blue", "green"]]}, "Red, green", "red red"),
        ({"number": 12}, "7 + 5 = 12.", "12 is not 13"),
        ({"number": 1200}, "It is 1,200", "none"),
        ({"items": [3, 3]}, "Here:\n1. a\n2. b, c\n3. d", "1. a\n2. b"),
        ({"items": [3, 3]}, "red, green and blue", "red and blue"),
        ({"words": [2, 3]}, "two words", "one"),
        ({"pattern": "^Today"}, "Today it rains", "It rains today"),
        ({"all": ["dog"], "words": [1, 2]}, "a dog", "a very old dog"),
    ],
)
def test_rules_decide_without_a_judge(rule: dict[str, Any], holds: str, fails: str) -> None:
    assert abilities.holds(holds, rule)
    assert not abilities.holds(fails, rule)


def test_the_regression_set_is_a_hundred_prompts_with_known_rules() -> None:
    prompts = abilities.read_abilities()
    assert (
        len(prompts) == len({ability.id for ability in prompts}) == len({ability.prompt for ability in prompts}) == 100
    )
    assert len({ability.kind for ability in prompts}) == 6
    for ability in prompts:
        assert ability.rule and ability.tokens <= 64
        assert not abilities.holds("", ability.rule)
        assert not abilities.holds(REFUSAL, ability.rule)
        abilities.holds("1. some text, and more", ability.rule)


@pytest.mark.parametrize(("after", "forgot"), [(57, False), (56, True), (60, False), (80, False)])
def test_a_fall_of_more_than_five_percent_is_forgetting(after: int, forgot: bool) -> None:
    kinds = {str(n): "chat" for n in range(100)}
    one, other = (abilities.Scores({name: int(name) < n for name in kinds}, kinds) for n in (60, after))
    found = abilities.comparison(one, other)
    assert found["forgot"] is forgot
    assert len(found["lost"]) == max(0, 60 - after) and len(found["gained"]) == max(0, after - 60)


def test_nothing_to_forget_is_nothing_forgotten() -> None:
    none = abilities.Scores({"a": False}, {"a": "chat"})
    assert abilities.comparison(none, none)["ratio"] == 1.0


def test_an_adapter_for_another_model_is_refused(base: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelRejected, match="does not accept the adapter"):
        abilities.measure(str(base), PROMPTS, tmp_path / "bad.gguf")


def test_a_measurement_that_fails_says_so(base: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(EdgeAIError, match=r"could not be measured .*does not accept the adapter"):
        finetune.compare_abilities(str(base), tmp_path / "bad.gguf")


def test_a_model_that_answers_nothing_right_scores_nothing(base: Path) -> None:
    assert abilities.measure(str(base), IMPOSSIBLE).as_dict() == {"score": 0.0, "prompts": 1, "kinds": {"chat": 0.0}}
