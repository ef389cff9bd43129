"""Nothing leaves the machine, and nothing is written outside the data directory.

ONNX Runtime's telemetry is quiet where CI variables are set, so these tests take them away first.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
import sys, time
import edgeai
with edgeai.Assistant(sys.argv[1] + "/notes.db", model="none") as assistant:
    assistant.sync(sys.argv[2])
    assert assistant.search("gate code")
    assert "4711" in assistant.ask("What is the gate code?").answer.text
    time.sleep(3)  # long enough for a background uploader to wake up
"""


def run(code: str, home: Path, *arguments: str, wrapper: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    loud = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "ORT_DISABLE_TELEMETRY", "HF_HUB_OFFLINE")
    environ = {key: value for key, value in os.environ.items() if key not in loud}
    environ.update(HOME=str(home), USERPROFILE=str(home), XDG_CACHE_HOME=str(home / ".cache"))
    environ["EDGEAI_HOME"] = str(home / "data")
    command = [*wrapper, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=120)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "note.md").write_text("The gate code is 4711.\n")
    (tmp_path / "user").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path


def test_no_file_appears_outside_the_index(docs):
    run(FLOW, docs / "user", str(docs / "out"), str(docs / "docs"))
    assert [path for path in (docs / "user").rglob("*") if path.is_file()] == []


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to see the system calls of native code")
def test_the_whole_flow_makes_no_network_call_and_the_check_would_notice_one(docs):
    def calls(name: str, code: str, *arguments: str) -> list[str]:
        log = docs / name
        wrapper = ("strace", "-f", "-qq", "-e", "trace=network", "-o", str(log))
        run(code, docs / "user", *arguments, wrapper=wrapper)
        return re.findall(r".*AF_INET6?\b.*", log.read_text(errors="replace"))

    assert calls("flow.log", FLOW, str(docs / "out"), str(docs / "docs")) == []
    probe = "import socket; socket.socket(socket.AF_INET).close()"
    assert calls("probe.log", probe) != []


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX notion")
def test_indexes_are_private_whatever_the_umask(docs):
    code = "import os; os.umask(0)\n" + FLOW
    run(code, docs / "user", str(docs / "out" / "deep"), str(docs / "docs"))
    files = list((docs / "out" / "deep").iterdir())
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((docs / "out" / "deep").stat().st_mode) == 0o700
