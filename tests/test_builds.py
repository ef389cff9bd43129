"""What is pulled becomes what runs: with its adapter, quantised, and again when either has changed."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from llama_logits import llama_logits, write_tied_gguf
from test_merge import IDS, write_lora
from test_registry import HUB, catalog, digest

import edgeai
from edgeai import __version__, doctor
from edgeai.cli import main
from edgeai.config import Settings
from edgeai.errors import DiskFull, ModelMissing, ModelRejected
from edgeai.llm.quantise import quantise
from edgeai.records import Progress
from edgeai.registry import Registry
from edgeai.registry.catalog import Catalog
from edgeai.registry.gguf import preflight
from edgeai.registry.merge import merge

OTHER = {"blk.0.attn_q.weight": (64, 64)}  # an adapter that changes one weight only


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tied_gguf(tmp_path_factory.mktemp("models") / "base.gguf")


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """The folder of what ships with edgeai."""
    (tmp_path / "shipped" / "grounded").mkdir(parents=True)
    write_lora(tmp_path / "shipped" / "grounded" / "adapter.gguf")
    monkeypatch.setattr("edgeai.registry.models_dir", lambda: tmp_path / "shipped")
    return tmp_path / "shipped"


@pytest.fixture
def folder(home, base) -> Path:
    """Where the model is installed, its base already there."""
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    shutil.copy(base, folder / "tiny.gguf")
    return folder


def entries(base: Path, models: Path | None, kind: str = "Q8_0", extra: str = "") -> Catalog:
    """A catalog with "tiny", built with the adapter that is in `models` now, or without one."""
    adapter = ""
    if models:
        pin = digest((models / "grounded" / "adapter.gguf").read_bytes())
        adapter = f', adapter = "grounded/adapter.gguf", sha256 = "{pin}"'
    build = f'build = {{ quantise = "{kind}"{adapter} }}\n{extra}'
    return catalog(HUB, content=base.read_bytes(), extra=build)


def opened(*arguments: object, **options: object) -> Registry:
    return Registry(offline=True, quantise=quantise, catalog=entries(*arguments, **options))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"manifest.json"}


# what is built ----------------------------------------------------------------------------------------------------


def test_the_adapter_is_merged_and_the_sum_quantised(base, models, folder, tmp_path):
    seen: list[Progress] = []
    path = opened(base, models).pull("tiny", seen.append)
    merge(base, models / "grounded" / "adapter.gguf", tmp_path / "merged.gguf")
    quantise(tmp_path / "merged.gguf", tmp_path / "expected.gguf", "Q8_0")
    assert path.read_bytes() == (tmp_path / "expected.gguf").read_bytes()
    assert files(folder) == {path.name, "tiny.gguf"}
    assert list(dict.fromkeys(step.message for step in seen)) == [
        "tiny: merging the adapter",
        "tiny: converting to Q8_0",
    ]
    assert seen[-1].done == seen[-1].total == base.stat().st_size
    expected = llama_logits(base, IDS, models / "grounded" / "adapter.gguf")
    assert np.sqrt(np.mean((llama_logits(path, IDS) - expected) ** 2)) < 0.1 * expected.std()


def test_it_is_recorded_what_a_build_was_made_of(base, models, folder):
    registry = opened(base, models)
    path = registry.pull("tiny")
    made_of = {
        "base": digest(base.read_bytes()),
        "adapter": digest((models / "grounded" / "adapter.gguf").read_bytes()),
        "quantise": "Q8_0",
        "edgeai": __version__,
    }
    assert json.loads((folder / "manifest.json").read_text())[path.name]["made_of"] == made_of
    registry.verify("tiny")
    assert registry.made_of("tiny") == made_of
    assert registry.generator("tiny").digest == digest(path.read_bytes())
    assert not registry.outdated("tiny")
    assert registry.notice("tiny") == ""


def test_two_pulls_at_once_build_once(base, models, folder):
    built: list[Path] = []

    def count(source: Path, target: Path, kind: str) -> None:
        built.append(target)
        quantise(source, target, kind)

    registries = [Registry(quantise=count, catalog=entries(base, models)) for _ in range(3)]
    threads = [threading.Thread(target=registry.pull, args=("tiny",)) for registry in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


# builds of another version ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["adapter", "quantise", "no adapter any more"])
def test_an_outdated_build_runs_with_a_notice_until_it_is_built_again_without_a_download(base, models, folder, change):
    old = opened(base, models).pull("tiny")
    before = digest(old.read_bytes())
    if change == "adapter":
        write_lora(models / "grounded" / "adapter.gguf", shapes=OTHER)
    registry = opened(
        base, None if change == "no adapter any more" else models, "Q4_0" if change == "quantise" else "Q8_0"
    )
    assert registry.installed("tiny")
    assert registry.outdated("tiny")
    assert "run `edgeai models pull tiny`" in registry.notice("tiny")
    assert registry.generator("tiny").digest == before
    registry.verify("tiny")
    new = registry.pull("tiny")
    assert digest(new.read_bytes()) != before
    assert files(folder) == {new.name, "tiny.gguf"}
    assert not registry.outdated("tiny")
    assert registry.generator("tiny").digest == digest(new.read_bytes())


@pytest.fixture
def early(base, home) -> Path:
    """A build as the first versions made it: without an adapter, its base deleted."""
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    path = folder / "tiny.q8_0.gguf"
    quantise(base, path, "Q8_0")
    status = path.stat()
    record = {"sha256": digest(path.read_bytes()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    (folder / "manifest.json").write_text(json.dumps({path.name: record}))
    return path


def test_a_build_from_before_there_was_an_adapter_runs_as_it_was_made_to(base, models, early):
    registry = opened(base, models, extra="independent = true")
    spec = registry.generator("tiny")
    assert (spec.model, spec.independent) == (str(early), False)
    assert registry.outdated("tiny")
    with pytest.raises(ModelMissing, match=r"tiny\.gguf"):  # offline, and the base is not there any more
        registry.pull("tiny")
    assert registry.path("tiny") == early
    shutil.copy(base, early.with_name("tiny.gguf"))
    registry.pull("tiny")
    assert registry.generator("tiny").independent
    assert not early.exists()


def test_a_failed_build_leaves_the_outdated_one_running(base, models, early):
    shutil.copy(base, early.with_name("tiny.gguf"))
    write_lora(models / "grounded" / "adapter.gguf", shapes={"blk.9.attn_q.weight": (64, 64)})
    registry = opened(base, models)
    with pytest.raises(ModelRejected, match="does not fit"):
        registry.pull("tiny")
    assert registry.path("tiny") == early


def test_whoever_asks_is_told_that_the_build_is_outdated(base, models, early, tmp_path, monkeypatch):
    registry = opened(base, models)
    monkeypatch.setattr("edgeai.models.open_registry", lambda **_: registry)
    with edgeai.Assistant(tmp_path / "a.db", settings=Settings(model="tiny")) as assistant:
        assert assistant._models.generator().spec.model == str(early)
        assert registry.notice("tiny") in assistant.notices
    check = doctor.check_generator(registry, Settings(model="tiny"))
    assert (check.ok, check.required, check.fix) == (False, False, "edgeai models pull tiny")


def test_the_list_of_models_says_which_are_outdated(base, models, early, monkeypatch):
    registry = opened(base, models)
    monkeypatch.setattr("edgeai.models.open_registry", lambda **_: registry)
    assert "outdated" in CliRunner().invoke(main, ["models", "list"]).stdout
    shutil.copy(base, early.with_name("tiny.gguf"))
    for outdated in (True, False):
        (record,) = json.loads(CliRunner().invoke(main, ["models", "list", "--installed", "--json"]).stdout)
        assert (record["installed"], record["outdated"]) == (True, outdated)
        assert CliRunner().invoke(main, ["models", "pull", "tiny"]).exit_code == 0
    assert "outdated" not in CliRunner().invoke(main, ["models", "list"]).stdout


# what goes wrong --------------------------------------------------------------------------------------------------


def test_the_base_alone_is_never_taken_for_the_model(base, models, folder):
    registry = Registry(offline=True, catalog=entries(base, models))
    assert not registry.installed("tiny")
    with pytest.raises(ModelMissing, match="fetched but not built yet; run `edgeai models pull tiny`"):
        registry.generator("tiny")
    with pytest.raises(ModelMissing, match="not built"):  # without somebody to quantise
        registry.pull("tiny")


def test_an_adapter_with_other_bytes_is_refused_before_anything_is_fetched(base, models, home):
    registry = opened(base, models)
    path = models / "grounded" / "adapter.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelRejected, match=r"adapter\.gguf does not hold the bytes .*; reinstall edgeai"):
        registry.pull("tiny")
    path.unlink()
    with pytest.raises(ModelMissing, match=r"adapter\.gguf should be part of edgeai but is not there; reinstall"):
        registry.pull("tiny")
    assert files(home / "models" / "tiny") == set()


def test_an_adapter_that_does_not_fit_leaves_only_the_base(base, models, folder):
    write_lora(models / "grounded" / "adapter.gguf", shapes={"blk.9.attn_q.weight": (64, 64)})
    with pytest.raises(ModelRejected, match="does not fit"):
        opened(base, models).pull("tiny")
    assert files(folder) == {"tiny.gguf"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ModelRejected])
def test_an_interrupted_build_leaves_only_the_base(base, models, folder, stop):
    def interrupt(source: Path, target: Path, kind: str) -> None:
        assert source.stat().st_size > 0
        target.write_bytes(b"GGUF")
        raise stop

    with pytest.raises(stop):
        Registry(quantise=interrupt, catalog=entries(base, models)).pull("tiny")
    assert files(folder) == {"tiny.gguf"}


def test_what_a_killed_build_left_is_removed_by_the_next(base, models, folder):
    (folder / "building").mkdir()
    (folder / "building" / "merged.gguf").write_bytes(b"GGUF")
    path = opened(base, models).pull("tiny")
    assert files(folder) == {path.name, "tiny.gguf"}


def test_space_for_the_whole_build_is_required_before_it_begins(base, models, folder, monkeypatch):
    weights = preflight(base).weights
    free = [3.05 * weights]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free[0]))
    seen: list[Progress] = []
    with pytest.raises(DiskFull, match=r"Building tiny takes .* MB .* run `edgeai models pull tiny` again"):
        opened(base, models).pull("tiny", seen.append)
    assert seen == []
    assert files(folder) == {"tiny.gguf"}
    free[0] = 3.15 * weights
    opened(base, models).pull("tiny")
