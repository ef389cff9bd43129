"""Adapters change the answers and nothing else: the model stays, nothing computed with one is used with another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_logits import write_tied_gguf
from test_merge import IDS, SHAPES, write_lora
from tiny_gguf import CONTEXT, TEMPLATE, WIDTH

import edgeai
from edgeai.cli import main
from edgeai.config import Settings
from edgeai.errors import ModelMissing, ModelRejected, ModelUnknown
from edgeai.llm.generate import LlamaGenerator
from edgeai.llm.llama import Llama
from edgeai.prompt import build_prompt
from edgeai.records import Passage
from edgeai.registry import Registry
from edgeai.registry.gguf import preflight, preflight_adapter
from edgeai.registry.manifest import sha256
from edgeai.registry.merge import merge
from edgeai.specs import GeneratorSpec

TEXTS = ("Employees get twelve weeks of paid leave.", "Laptops are replaced every four years.")
ONE_THREAD = Settings(reader="none", threads=1)  # on a busy computer two would wait for each other


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, and the adapters "one" and "two", which fit it."""
    folder = tmp_path_factory.mktemp("adapters")
    write_tied_gguf(folder / "base.gguf")
    write_lora(folder / "one.gguf", rank=4, alpha=60.0)
    write_lora(folder / "two.gguf", rank=8, alpha=60.0)
    return folder


@pytest.fixture
def base(folder: Path) -> GeneratorSpec:
    path = folder / "base.gguf"
    return GeneratorSpec("tiny", str(path), sha256(path), TEMPLATE, CONTEXT)


@pytest.fixture
def open_generator():
    opened = []

    def open_(spec, adapter=""):
        opened.append(LlamaGenerator(spec, threads=1))
        opened[-1].use(str(adapter))
        return opened[-1]

    yield open_
    for generator in opened:
        generator.close()


def answer(generator, **options):
    """The text of an answer about two passages, and its last piece."""
    passages = [Passage(n, text, f"/{n}.md", 0, len(text)) for n, text in enumerate(TEXTS, 1)]
    prompt = build_prompt(
        "How long?", passages, TEMPLATE, count=generator.count_tokens, context=CONTEXT, max_tokens=16, **options
    )
    pieces = list(generator.stream(prompt))
    return "".join(piece.text for piece in pieces), pieces[-1]


# the engine -------------------------------------------------------------------------------------------------------


def test_with_an_adapter_a_model_says_what_the_merged_model_says(folder, tmp_path):
    merge(folder / "base.gguf", write_lora(tmp_path / "lora.gguf"), tmp_path / "merged.gguf")

    def logits(model: Path, *adapters: str) -> list[np.ndarray]:
        llama = Llama(str(model), TEMPLATE.special_ids, threads=1, gpu_layers=0, context=64)
        found = []
        for adapter in adapters:
            llama.use(adapter)
            llama.evaluate(IDS)
            found.append(llama.logits().copy())
        llama.close()
        return found

    before, adapted, after = logits(folder / "base.gguf", "", str(tmp_path / "lora.gguf"), "")
    (merged,) = logits(tmp_path / "merged.gguf", "")
    assert np.abs(adapted - before).max() > 0.5
    np.testing.assert_allclose(adapted, merged, atol=0.06)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("independent", [False, True])
def test_after_switching_answers_are_those_of_a_fresh_generator(folder, base, open_generator, independent):
    spec = replace(base, independent=independent)
    paths = {"one": str(folder / "one.gguf"), "two": str(folder / "two.gguf"), "": ""}
    expected = {name: answer(open_generator(spec, path))[0] for name, path in paths.items()}
    assert len(set(expected.values())) == 3
    generator = open_generator(spec)
    for name in ("one", "two", "", "two", "one"):
        generator.use(paths[name])
        said, last = answer(generator)
        assert (said, last.cached_tokens) == (expected[name], 0), name
        generator.use(paths[name])
        again, last = answer(generator)
        assert again == said
        assert last.cached_tokens > 0


def test_a_running_answer_is_not_touched_by_the_switch(folder, base, open_generator):
    generator = open_generator(base)
    expected = answer(generator)[0]
    prompt = build_prompt(
        "How long?",
        [Passage(n, text, f"/{n}.md", 0, len(text)) for n, text in enumerate(TEXTS, 1)],
        TEMPLATE,
        count=generator.count_tokens,
        context=CONTEXT,
        max_tokens=16,
    )
    stream = generator.stream(prompt)
    first = next(stream)
    generator.use(str(folder / "one.gguf"))
    assert first.text + "".join(piece.text for piece in stream) == expected
    assert answer(generator)[0] != expected


def test_an_adapter_that_was_trained_again_is_read_again(tmp_path, base, open_generator):
    path = write_lora(tmp_path / "mine.gguf", rank=4, alpha=60.0)
    generator = open_generator(base, path)
    first = answer(generator)[0]
    write_lora(path, rank=8, alpha=60.0)
    generator.use(str(path))
    assert answer(generator)[0] not in (first, answer(open_generator(base))[0])


MISFITS = {
    "another architecture": ({"general__architecture": "qwen2"}, "arch"),
    "another width": ({"shapes": {"blk.0.attn_q.weight": (WIDTH, 32)}}, "incorrect shape"),
    "more layers": ({"shapes": {"blk.7.attn_q.weight": (WIDTH, WIDTH)}}, "does not exist"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_adapter_that_does_not_fit_is_refused_and_the_one_before_stays(folder, base, tmp_path, open_generator, case):
    arguments, reason = MISFITS[case]
    generator = open_generator(base, folder / "one.gguf")
    expected = answer(generator)[0]
    bad = write_lora(tmp_path / "bad.gguf", **arguments)
    with pytest.raises(ModelRejected, match=rf"bad\.gguf does not fit the model \(.*{reason}.*\); leave it out\.$"):
        generator.use(str(bad))
    with pytest.raises(ModelMissing, match=r"no adapter at .*gone\.gguf"):
        generator.use(str(tmp_path / "gone.gguf"))
    said, last = answer(generator)
    assert said == expected
    assert last.cached_tokens > 0


# the file ---------------------------------------------------------------------------------------------------------


def write_pair(path: Path, name: str = "blk.0.attn_q.weight", **changes) -> Path:
    """An adapter of one pair; `changes` are another "alpha" (with its kind), or "a" and "b" instead of its matrices."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", changes.get("type", "adapter"))
    writer.add_string("adapter.type", changes.get("adapter", "lora"))
    writer.add_key_value("adapter.lora.alpha", *changes.get("alpha", (8.0, gguf.GGUFValueType.FLOAT32)))
    writer.add_tensor(f"{name}.lora_a", changes.get("a", np.ones((4, WIDTH), np.float32)))
    writer.add_tensor(changes.get("second", f"{name}.lora_b"), changes.get("b", np.ones((WIDTH, 4), np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_adapters_are_accepted_and_are_no_models(tmp_path):
    for path in (write_pair(tmp_path / "pair.gguf"), write_lora(tmp_path / "lora.gguf", shapes=SHAPES)):
        preflight_adapter(path)
        with pytest.raises(ModelRejected, match=r"gguf was refused: .*"):
            preflight(path)


# Files like the first five make llama.cpp (llama-cpp-python 0.3.36) end the process.
REFUSED = {
    "alpha in double precision": ({"alpha": (8.0, gguf.GGUFValueType.FLOAT64)}, "single precision"),
    "alpha a string": ({"alpha": ("8", gguf.GGUFValueType.STRING)}, "single precision"),
    "the embeddings": ({"name": "token_embd.weight"}, "token_embd.weight.lora_a"),
    "three dimensions": ({"a": np.ones((2, 4, WIDTH), np.float32)}, "not a matrix"),
    "whole numbers": ({"a": np.ones((4, WIDTH), np.int32)}, "not a matrix"),
    "alpha not finite": ({"alpha": (float("nan"), gguf.GGUFValueType.FLOAT32)}, "single precision"),
    "experts": ({"name": "blk.0.ffn_up_exps.weight"}, "ffn_up_exps"),
    "no LoRA matrix": ({"second": "blk.0.attn_q.weight"}, "attn_q.weight"),
    "a control vector": ({"adapter": "control"}, "not a LoRA adapter"),
    "a model": ({"type": "model"}, "not a LoRA adapter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_llama_cpp_must_not_see_is_refused(tmp_path, case):
    changes, message = REFUSED[case]
    with pytest.raises(ModelRejected, match=rf"^bad\.gguf was refused: .*{message}"):
        preflight_adapter(write_pair(tmp_path / "bad.gguf", **changes))


def test_a_truncated_or_foreign_file_is_refused(tmp_path):
    content = write_pair(tmp_path / "whole.gguf").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "cut.gguf").write_bytes(content[:length])
        with pytest.raises(ModelRejected, match="truncated"):
            preflight_adapter(tmp_path / "cut.gguf")
    with pytest.raises(ModelRejected, match="cannot be read"):
        preflight_adapter(tmp_path / "gone.gguf")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair") / "pair.gguf")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_file_passes_or_is_rejected(pair, changes):
    content = bytearray(pair.read_bytes())
    for at, value in changes:
        content[at] = value
    mutated = pair.with_name("mutated.gguf")
    mutated.write_bytes(content)
    try:
        preflight_adapter(mutated)
    except ModelRejected as error:
        assert "mutated.gguf" in str(error)  # the user is told which file
    else:
        assert gguf.GGUFReader(mutated).tensors  # what passes can be read


# the registry -----------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(home: Path, base: GeneratorSpec, folder: Path) -> Path:
    """The data directory's adapters: "one" and "two" for the model, "other" for another, "plain" for nobody knows."""
    target = home / "adapters"
    target.mkdir(parents=True)
    for name, trained_for in (("one", base.digest), ("two", base.digest), ("other", "0" * 64), ("plain", "")):
        (target / f"{name}.gguf").write_bytes((folder / f"{'two' if name == 'two' else 'one'}.gguf").read_bytes())
        if trained_for:
            (target / f"{name}.json").write_text(json.dumps({"name": name, "base": trained_for}), encoding="utf-8")
    return target


def test_an_adapter_is_found_by_name_and_by_path(installed, base):
    registry = Registry()
    assert registry.installed_adapters() == ("one", "other", "plain", "two")
    assert registry.adapter("one", base)[:2] == (installed / "one.gguf", "")
    assert registry.adapter("one", base).card["name"] == "one"
    assert registry.adapter(str(installed / "one.gguf"), base).notice == ""


def test_an_adapter_for_another_model_is_refused(installed, base):
    for other in ("other", str(installed / "other.gguf")):
        with pytest.raises(ModelRejected, match="adapter other was trained for another model than tiny"):
            Registry().adapter(other, base)


def test_an_adapter_without_a_description_brings_a_notice(installed, base):
    assert "not known" in Registry().adapter("plain", base).notice
    for content in ("[]", "{}", '{"base": 7}'):
        (installed / "plain.json").write_text(content)
        assert "not known" in Registry().adapter("plain", base).notice
    (installed / "plain.json").write_bytes(b"\xff{")
    with pytest.raises(ModelRejected, match=r"plain\.json is not valid JSON"):
        Registry().adapter("plain", base)


@pytest.mark.parametrize("name", ["three", "", "ONE."])
def test_an_unknown_name_lists_what_is_installed(installed, base, name):
    with pytest.raises(ModelUnknown, match="those installed are one, other, plain, two"):
        Registry().adapter(name, base)


def test_what_is_not_there_is_said_so(base, tmp_path):
    with pytest.raises(ModelUnknown, match="none is installed in"):
        Registry().adapter("one", base)
    for path in ("gone.gguf", "../one", str(tmp_path / "gone.gguf"), str(tmp_path)):
        with pytest.raises(ModelUnknown, match="give the path of a GGUF file"):
            Registry().adapter(path, base)


def test_an_installed_file_is_checked_before_use(installed, base):
    (installed / "one.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelRejected, match=r"one\.gguf was refused"):
        Registry().adapter("one", base)


# the assistant and the command line -------------------------------------------------------------------------------


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "leave.md").write_text("# Leave\n\nParents may take 20 weeks of paid parental leave.\n")
    return tmp_path / "docs"


def test_an_assistant_switches_adapters_on_the_loaded_model(installed, base, docs, tmp_path):
    with edgeai.Assistant(tmp_path / "i.db", model=base.model, adapter="one", settings=ONE_THREAD) as assistant:
        assistant.sync(docs)
        assistant.warm()
        generator = assistant._models._generator
        assert generator
        worker, llama = generator._worker, generator._worker._residence.llama
        model, said = llama._model, [answer(generator)[0]]
        for name in ("two", "", "one"):
            assistant.reconfigure(adapter=name)
            assert (assistant.settings.adapter, assistant._models._generator) == (name, generator)
            assert (generator._worker, worker._residence.llama, llama._model) == (worker, llama, model)
            said.append(answer(generator)[0])
        assert said[0] == said[3]
        assert len(set(said)) == 3
        for bad, error in (("other", ModelRejected), ("three", ModelUnknown)):
            with pytest.raises(error):
                assistant.reconfigure(adapter=bad, budget_ms=1.0)
            assert (assistant.settings.adapter, assistant.settings.budget_ms) == ("one", 300.0)
        assert answer(generator)[0] == said[0]
        assert not any("trained for" in notice for notice in assistant.notices)
        assistant.reconfigure(adapter="plain")
        assert any("not known" in notice for notice in assistant.notices)


def test_a_new_model_does_not_get_the_adapter_of_the_old_one(installed, base, docs, tmp_path):
    other = write_tied_gguf(tmp_path / "other-model.gguf", seed=1)
    with edgeai.Assistant(tmp_path / "i.db", model=base.model, adapter="one", settings=ONE_THREAD) as assistant:
        assistant.sync(docs)
        assistant.warm()
        assistant.reconfigure(model=str(other))
        with pytest.raises(ModelRejected, match="trained for another model than other-model"):
            assistant.warm()
        assistant.reconfigure(adapter="")
        assistant.warm()
        assistant.reconfigure(model="none", adapter="three")
        assistant.warm()


def test_who_names_an_adapter_does_not_get_an_answer_without_the_model(docs, tmp_path):
    with edgeai.Assistant(tmp_path / "i.db", adapter="one", settings=ONE_THREAD) as assistant:
        assistant.sync(docs)
        with pytest.raises(ModelMissing, match="models pull"):
            assistant.warm()


def invoke(*arguments: object, lines: tuple[str, ...] = ()):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input="\n".join(lines))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command_line_and_the_environment_choose_an_adapter(installed, base, docs, monkeypatch):
    ask = ("ask", "How long is parental leave?", "--docs", docs, "-m", base.model, "-t", "1", "--reader", "none")
    assert invoke(*ask, "--adapter", "one").exit_code == 0
    assert "trained for another model" in invoke(*ask, "--adapter", "other").stderr
    monkeypatch.setenv("EDGEAI_ADAPTER", "three")
    result = invoke(*ask)
    assert (result.exit_code, "those installed are one" in result.stderr) == (1, True)
    assert invoke(*ask, "--adapter", "").exit_code == 0


def test_the_chat_shows_and_changes_the_adapter(installed, base, docs):
    lines = ("/adapter", "/adapter one", "/adapter other", "/adapter", "/adapter none", "/model none", "/adapter")
    result = invoke("chat", docs, "-m", base.model, "-t", "1", "--reader", "none", lines=lines)
    shown = [line for line in result.stdout.splitlines() if line.startswith("Adapter: ")]
    assert shown == [f"Adapter: {name}" for name in ("none", "one", "one", "none", "none")]
    assert "trained for another model" in result.stderr


def test_the_doctor_lists_adapters_and_tells_when_the_chosen_one_does_not_belong(installed, base, monkeypatch):
    from edgeai import doctor

    registry = Registry(offline=True)
    chosen = Settings(model=base.model, adapter="one")
    assert doctor.check_adapters(registry, chosen).detail == "one, other, plain, two"
    assert doctor.check_adapters(registry, Settings()).ok
    with pytest.raises(ModelRejected, match="another model"):
        doctor.check_adapters(registry, replace(chosen, adapter="other"))
