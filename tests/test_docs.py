"""The documentation says what is true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from edgeai.cli import COMMANDS, main
from edgeai.config import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = main.get_command(None, name)
        found.append((name,))
        if isinstance(command, click.Group):
            found.extend((name, sub) for sub in command.commands)
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_documented(command):
    assert re.search(rf"\b{' '.join(command)}\b", README), f"{' '.join(command)} is not in the README"


@pytest.mark.parametrize("name", list(Settings.__dataclass_fields__))
def test_every_setting_is_documented(name):
    assert f"`{name}`" in README


def documented_invocations() -> list[str]:
    """Every line of a console or shell block that calls edgeai."""
    lines = []
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            call = re.search(r"(?:^\$ |&& )(edgeai .*)$", line)
            if call:
                lines.append(call.group(1))
    return lines


@pytest.mark.parametrize("line", documented_invocations())
def test_every_documented_command_line_parses(line, tmp_path, monkeypatch):
    arguments = shlex.split(line.split("  #")[0].split(" | ")[0].split(" > ")[0])[1:]
    command: click.Command = main
    while isinstance(command, click.Group):
        name, arguments = arguments[0], arguments[1:]
        if name.startswith("-"):
            return
        found = command.get_command(click.Context(command), name)
        assert found, f"no command {name}"
        command = found
    files = [param.name for param in command.params if isinstance(param.type, click.File)]
    monkeypatch.chdir(tmp_path)
    for argument in arguments:
        if files and "." in argument and not argument.startswith("-"):
            Path(argument).touch()
    command.make_context(command.name or "", list(arguments)).close()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (ROOT / target.split("#")[0]).exists(), target


def test_every_python_example_runs(tmp_path, monkeypatch):
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert examples
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("EDGEAI_MODEL", "none")
    for example in examples:
        exec(compile(example.replace("notes.db", str(tmp_path / "notes.db")), "README.md", "exec"), {})
