"""Every test has a home of its own; engines that are slow to load are shared by the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from handbook import HANDBOOK
from hypothesis import settings

from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_GENERATOR
from edgeai.specs import GeneratorSpec

# The same examples in every CI run; at home each run tries new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own data or settings."""
    for name in list(os.environ):
        if name.startswith("EDGEAI_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("EDGEAI_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def embedder() -> Iterator[object]:
    """The shipped embedder."""
    from edgeai.onnx.encoders import OnnxEmbedder
    from edgeai.registry import Registry

    engine = OnnxEmbedder(Registry(offline=True).embedder(DEFAULT_EMBEDDER))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def handbook_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handbook as an index; who writes to it takes a copy."""
    from edgeai.assistant import Assistant

    path = tmp_path_factory.mktemp("handbook") / "index.db"
    with Assistant(path, model="none", reader="none") as assistant:
        assistant.sync(HANDBOOK)
    return path


@pytest.fixture(scope="session")
def user_home() -> str:
    """The user's own data directory, read before any test moves it."""
    return _USER_HOME


_USER_HOME = os.environ.get("EDGEAI_HOME", "")


@pytest.fixture(scope="session")
def generator_spec(user_home: str) -> GeneratorSpec:
    """The default generator, pulled and built once in the user's own data directory (about 200 MB)."""
    import platformdirs

    from edgeai.llm.quantise import quantise
    from edgeai.registry import Registry

    home = Path(user_home or platformdirs.user_data_dir("edgeai", appauthor=False))
    registry = Registry(home, quantise=quantise)
    registry.pull(DEFAULT_GENERATOR)
    return registry.generator(DEFAULT_GENERATOR)


@pytest.fixture(scope="session")
def generator_base(generator_spec: GeneratorSpec) -> Path:
    """The file that the default generator was built from."""
    from edgeai.registry import Registry

    return Path(generator_spec.model).with_name(Registry().entry(DEFAULT_GENERATOR).files[0].name)


@pytest.fixture
def open_generator():
    """Opens generators that are closed when the test ends."""
    from edgeai.llm.generate import LlamaGenerator

    opened = []

    def open_(spec, **options):
        opened.append(LlamaGenerator(spec, threads=1, **options))
        return opened[-1]

    yield open_
    for generator in opened:
        generator.close()
