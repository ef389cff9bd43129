"""The process that keeps models loaded: a real one, on a real index with the shipped embedder and no language model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeai
from edgeai.config import Settings, load_settings
from edgeai.doctor import check_kept
from edgeai.errors import UsageProblem
from edgeai.filters import EVERYTHING, Filter, parse_filter
from edgeai.kept import endpoint, keepalive, keeper, wire
from edgeai.records import Answer, Citation, Passage, Piece, Timings

pytestmark = pytest.mark.skipif(not endpoint.supported(), reason="needs Unix sockets")

PATIENCE = 60.0  # seconds for what takes one on a quiet machine
LEAVE = "How long is parental leave?"
SAFE = "What is the combination of the safe?"
ORBIT = "Which exoplanets orbit Trappist?"
TEXT = "# Leave\n\nParents may take {} weeks of paid parental leave for each child.\n"
HEAVY = {"numpy", "onnxruntime", "llama_cpp", "apsw", "tokenizers", "sqlite_vec"}
PLAIN = {"model": "none", "reader": "none"}  # what is tested here does not depend on them
FLAGS = ("-m", "none", "--reader", "none")


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for sockets whose path is short enough; at the end nothing may listen in it any more."""
    folder = Path(tempfile.mkdtemp(prefix="edgeai"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    keepalive.stop()
    wait_until(lambda: not list(folder.rglob("*.sock")))
    shutil.rmtree(folder)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "leave.md").write_text(TEXT.format(20))
    return folder


@pytest.fixture
def index(tmp_path: Path, docs: Path) -> Path:
    return synced(tmp_path / "index.db", docs)


def synced(index: Path, *paths: Path, embedder: str | None = None, **options: Any) -> Path:
    with edgeai.Assistant(index, embedder=embedder, **PLAIN) as assistant:
        assistant.sync(*paths, **options)
    return index


@pytest.fixture
def start() -> Iterator[Callable[[keepalive.Plan], int]]:
    """Starts a process as `keepalive.leave` does, but as a child that is waited for; returns its number."""
    started: list[subprocess.Popen[str]] = []

    def start_(wanted: keepalive.Plan) -> int:
        started.append(subprocess.Popen([sys.executable, "-m", "edgeai.kept.keeper"], stdin=subprocess.PIPE, text=True))
        with started[-1].stdin as pipe:
            pipe.write(json.dumps({"setup": wanted.setup, "minutes": wanted.minutes}, default=wire.plain))
        return kept()["pid"]

    yield start_
    keepalive.stop()
    for process in started:
        process.wait(PATIENCE)


def plan(index: Path, *docs: Path, **changes: Any) -> keepalive.Plan:
    settings = Settings(**{**PLAIN, "keep_alive": "5", **changes})
    return keepalive.plan(index, settings, docs=docs, terminal=False)


def answer(wanted: keepalive.Plan, question: str = LEAVE, where: Filter = EVERYTHING) -> Answer | None:
    """The answer of the running process, None when it gives none."""
    given = keepalive.ask(wanted, question, where, PATIENCE)
    return given and given.reply.answer


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "edgeai", *map(str, arguments)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def ask(index: Path, question: str = LEAVE, *flags: object, keep: object = 5, code: int = 0):
    return run("ask", question, "--index", index, *FLAGS, "--keep-alive", keep, *flags, code=code)


def wait_until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def kept() -> dict[str, Any]:
    """The status of the process that runs, once it does."""
    return wait_until(keepalive.status)


def wait_for_end() -> None:
    """Until no process keeps anything any more."""

    def ended() -> bool:
        with endpoint.claimed(endpoint.address().with_suffix(".lock"), 0) as free:
            return free

    wait_until(ended)


def without_times(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return {**json.loads(done.stdout), "timings_ms": None}


# what a user sees -----------------------------------------------------------------------------------------------------


def test_the_second_question_is_answered_by_the_process_the_first_one_left_and_looks_the_same(index):
    first = ask(index, LEAVE, "--json")
    pid = kept()["pid"]
    second = ask(index, LEAVE, "--json")
    assert without_times(second) == without_times(first)
    assert "20 weeks" in second.stdout
    assert second.stderr == first.stderr
    assert ask(index, ORBIT, code=4).stdout == ask(index, ORBIT, keep=0, code=4).stdout
    assert kept()["pid"] == pid


def test_who_is_answered_by_it_loads_no_engine(index, start):
    start(plan(index))
    arguments = ["ask", LEAVE, "--index", str(index), *FLAGS]
    script = (
        f"import sys; from edgeai.cli import main; main({arguments!r}, standalone_mode=False); "
        f"print(sorted(sys.modules.keys() & {HEAVY!r}))"
    )

    def light() -> bool:  # at once, unless the machine is so busy that it gave up waiting
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert "20 weeks" in done.stdout
        return done.stdout.splitlines()[-1] == "[]"

    wait_until(light)


def test_on_a_terminal_it_is_left_without_being_asked_for(index):
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "edgeai", "ask", LEAVE, "--index", str(index), *FLAGS]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, check=True)
        os.close(theirs)
        shown = terminal.read(10_000)
    assert b"20 weeks" in shown
    assert kept()["minutes"] == keepalive.MINUTES


def test_a_script_leaves_none(index, runtime):
    ask(index, keep="auto")
    time.sleep(0.5)
    assert not list(runtime.iterdir())


def test_documents_named_with_the_question_are_looked_at_each_time(index, docs, start):
    wanted = plan(index, docs)
    pid = start(wanted)
    assert "20 weeks" in answer(wanted).text
    (docs / "leave.md").write_text(TEXT.format(31))
    assert answer(wanted) is None
    assert "31 weeks" in ask(index, LEAVE, "--docs", docs).stdout
    assert "31 weeks" in answer(wanted).text
    (docs / "more.md").write_text("Nothing of importance.")
    assert answer(wanted) is None
    shutil.rmtree(docs)
    assert answer(wanted) is None
    assert kept()["pid"] == pid


def test_doctor_shows_it_and_stop_ends_it(index, start):
    assert "No process" in run("stop").stdout
    pid = start(plan(index))
    shown = wait_until(lambda: "process" in (found := check_kept().detail) and found)
    assert f"process {pid} " in shown
    assert str(index) in shown
    assert str(pid) in run("stop").stdout
    wait_for_end()
    assert check_kept().detail == "nothing"


@pytest.mark.parametrize(
    ("setting", "terminal", "minutes"),
    [("auto", True, 10), ("auto", False, 0), ("0", True, None), ("2.5", False, 2.5)],
)
def test_how_long_it_stays_is_the_users_to_say(setting, terminal, minutes):
    wanted = keepalive.plan(Path("i.db"), Settings(keep_alive=setting), terminal=terminal)
    assert (wanted.minutes if wanted else None) == minutes


@pytest.mark.parametrize("value", ["long", "-1", "nan", "inf", ""])
def test_a_time_that_makes_no_sense_is_a_usage_problem(value):
    with pytest.raises(UsageProblem, match="keep_alive"):
        load_settings({"keep_alive": value}, environ={})


def test_it_ends_when_nobody_asks(index, start):
    start(plan(index, keep_alive="0.02"))
    wait_for_end()
    assert not endpoint.address().exists()


# no answer that a new process would not give --------------------------------------------------------------------------


def test_what_a_sync_changes_is_seen(index, docs, start):
    start(plan(index))
    assert "20 weeks" in answer(plan(index)).text
    (docs / "leave.md").write_text(TEXT.format(31))
    synced(index, docs)
    assert "31 weeks" in answer(plan(index)).text


@pytest.mark.parametrize("how", ["rebuilt", "removed"])
def test_an_index_that_was_replaced_is_not_answered_from(how, index, docs, start):
    start(plan(index))
    assert answer(plan(index))
    if how == "rebuilt":
        synced(index, docs, rebuild=True)
    else:
        index.unlink()
    assert answer(plan(index)) is None
    wait_for_end()


def test_a_model_that_was_replaced_is_not_answered_with(docs, tmp_path, start):
    shipped = Path(__file__).parents[1] / "models" / "all-minilm-l6-v2"
    mine = shutil.copytree(shipped, tmp_path / "all-minilm-l6-v2")
    (mine / "config.json").write_text('{"hidden_size": 384}')
    wanted = plan(synced(tmp_path / "mine.db", docs, embedder=str(mine)), embedder=str(mine))
    start(wanted)
    assert answer(wanted)
    os.utime(mine / "model.onnx")
    assert answer(wanted) is None
    wait_for_end()


def test_other_settings_are_not_answered_and_take_its_place(index, start):
    pid = start(plan(index))
    assert answer(plan(index, candidates=7)) is None
    assert answer(plan(index.with_name("other.db"))) is None
    assert kept()["pid"] == pid
    ask(index, LEAVE, "--budget", 900, keep="auto")
    assert kept()["pid"] == pid, "who leaves none takes no place"
    ask(index, LEAVE, "--budget", 900)
    wait_until(lambda: (keepalive.status() or {}).get("pid", pid) != pid)
    assert answer(plan(index, budget_ms=900.0))


def test_paths_of_models_mean_the_same_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = keepalive.plan(Path("i.db"), Settings(model="my.gguf", reader="./mine"), terminal=True).setup
    assert (here.settings.model, here.settings.reader) == (str(tmp_path / "my.gguf"), str(tmp_path / "mine"))
    assert here.index == str(tmp_path / "i.db")
    assert here.settings.embedder == Settings().embedder


def test_labels_and_filters_hold_as_in_a_process_of_its_own(index, tmp_path, start):
    (tmp_path / "secret.md").write_text("# Safe\n\nThe combination of the safe is 4711.\n")
    synced(index, tmp_path / "secret.md", label="board")
    start(plan(index))
    assert "4711" in answer(plan(index), SAFE).text
    assert "4711" in answer(plan(index), SAFE, parse_filter(labels=["board"])).text
    for where in (parse_filter(labels=[""]), parse_filter(["path~*leave.md"]), parse_filter(types=["pdf"])):
        assert "4711" not in str(answer(plan(index), SAFE, where))
    assert answer(plan(index, labels="hr"), SAFE) is None, "another reader's labels are another setting"


# what can go wrong ----------------------------------------------------------------------------------------------------


def test_a_killed_one_is_replaced(index, start):
    pid = start(plan(index))
    os.kill(pid, signal.SIGKILL)
    wait_for_end()
    assert endpoint.address().exists(), "it had no time to clean up"
    assert "20 weeks" in ask(index).stdout
    assert kept()["pid"] != pid  # which the one that asked did not wait for


def test_one_that_does_not_react_costs_a_second_and_no_answer(index, start):
    pid = start(plan(index))
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "20 weeks" in ask(index).stdout
        assert keepalive.status() == {}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert kept()["pid"] == pid


@pytest.mark.parametrize("request_", [b"", b"\n", b"[1]\n", b'{"do": "dance"}\n', b'{"do": "ask"}\n'])
def test_nonsense_does_not_end_it(request_, index, start):
    pid = start(plan(index))
    with endpoint.connect(1) as connection:
        connection.sendall(request_)
    assert kept()["pid"] == pid


def test_a_client_that_goes_away_does_not_matter(index, start):
    pid = start(plan(index))
    wanted = plan(index)
    for words in range(3):
        with wire.Connection(endpoint.connect(1), PATIENCE) as line:
            line.send(do="ask", setup=wanted.setup, minutes=0, question=LEAVE, where=EVERYTHING)
            for _ in range(words):
                line.receive()
    assert "20 weeks" in answer(wanted).text
    assert kept()["pid"] == pid


@pytest.mark.real
def test_words_are_streamed_and_an_answer_nobody_waits_for_is_given_up(index, home, generator_spec, start):
    home.mkdir(exist_ok=True)
    (home / "models").symlink_to(Path(generator_spec.model).parents[1])
    wanted = plan(index, model=generator_spec.name, budget_ms=0.0)
    pid = start(wanted)
    with keepalive.ask(wanted, LEAVE, EVERYTHING, PATIENCE).reply as reply:
        assert next(iter(reply))
    reply = keepalive.ask(wanted, LEAVE, EVERYTHING, PATIENCE).reply
    assert "20 weeks" in "".join(piece.text for piece in reply)
    assert "20 weeks" in reply.answer.text
    assert reply.answer.mode == "generated"
    assert kept()["pid"] == pid


def test_several_ask_at_once(index, start):
    start(plan(index))
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(answer(plan(index)).text)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert len(set(answers)) == 1


def test_several_started_at_once_leave_one(index, start):
    order = json.dumps({"setup": plan(index).setup, "minutes": 5}, default=wire.plain)
    command = [sys.executable, "-m", "edgeai.kept.keeper"]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        with process.stdin as pipe:
            pipe.write(order)
    pid = kept()["pid"]
    others = [process for process in started if process.pid != pid]
    assert len(others) == 2
    assert [process.wait(PATIENCE) for process in others] == [0, 0]
    assert keepalive.stop()["pid"] == pid
    assert next(process for process in started if process.pid == pid).wait(PATIENCE) == 0


# who may see what -----------------------------------------------------------------------------------------------------


def test_questions_are_written_nowhere(index, home, runtime, start):
    start(plan(index))
    assert answer(plan(index), "How long is parental leave in Zanzibar?")
    keepalive.stop()
    wait_for_end()
    files = [path for folder in (home, runtime, index.parent) for path in folder.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"Zanzibar" in path.read_bytes()]


def test_only_this_user_can_reach_it(index, runtime, start):
    start(plan(index))
    place = endpoint.address()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
    assert place.parent.parent == runtime


@pytest.mark.skipif(not endpoint.supported() or os.getuid() != 0, reason="only root can be another user")
def test_another_user_is_recognised_whatever_the_modes_are(runtime):
    place = runtime / "open.sock"
    script = "import os, socket, sys; os.setuid({}); socket.socket(socket.AF_UNIX).connect({!r}); sys.stdin.read()"
    with endpoint.listening(place) as listener:
        runtime.chmod(0o755)
        place.chmod(0o666)
        for user, expected in ((0, True), (65534, False)):
            command = [sys.executable, "-I", "-c", script.format(user, str(place))]
            with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
                peer, _ = listener.accept()
                with peer:
                    assert endpoint.is_mine(peer) is expected
                other.communicate()
    runtime.chmod(0o700)


@pytest.mark.parametrize("how", ["open to others", "a link"])
def test_a_folder_that_is_not_private_is_not_used(how, tmp_path, runtime):
    folder = endpoint.address().parent
    if how == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o755)
    with pytest.raises(UsageProblem, match="closed to others"):
        endpoint.make_private(folder)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(endpoint.address()))
    listener.listen()
    with listener:
        assert endpoint.connect(1) is None
    shutil.rmtree(folder) if how != "a link" else folder.unlink()


def test_a_runtime_folder_that_is_missing_or_not_private_gives_way_to_the_data_directory(monkeypatch, runtime):
    with tempfile.TemporaryDirectory(prefix="e") as home:
        monkeypatch.setenv("EDGEAI_HOME", home)
        assert endpoint.address().parent == runtime / "edgeai"
        runtime.chmod(0o755)
        assert endpoint.address().parent == Path(home).resolve() / "run"
        runtime.chmod(0o700)
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert endpoint.address().parent == Path(home).resolve() / "run"
        monkeypatch.setenv("EDGEAI_HOME", str(Path(home) / ("long" * 30)))
        assert len(os.fsencode(endpoint.address())) <= endpoint.LONGEST_PATH
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))


def test_an_answer_broken_off_is_given_once_in_the_process_that_asked(index, runtime):
    """The other end here takes the question, says a word and is gone, as a process does that is killed."""
    endpoint.make_private(endpoint.address().parent)

    def break_off(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with wire.Connection(peer) as line:
            assert line.receive()["question"] == LEAVE
            line.send(accepted=True, notices=[])
            line.send(piece=Piece("Twenty"))

    with endpoint.listening(endpoint.address()) as listener:
        server = threading.Thread(target=break_off, args=(listener,))
        server.start()
        done = ask(index, LEAVE, keep="auto")
        server.join()
    assert done.stdout == ask(index, LEAVE, keep=0).stdout
    assert "Twenty" not in done.stdout


def test_records_arrive_as_they_were_sent():
    answer = Answer(
        "how \ud800?",
        "so",
        "answered",
        "generated",
        citations=(Citation(1, "/a.md", 0, 2, "so", "Part > Section", 3),),
        degraded=("2 of 8 passages read",),
        timings=Timings(embed=0.1, total=float("inf")),
        tokens={"prompt": 3},
        passages=(Passage(1, "so", "/a.md", 0, 2, heading=("Part", "Section"), page=None),),
    )
    ours, theirs = socket.socketpair()
    with wire.Connection(ours) as sender, wire.Connection(theirs) as receiver:
        sender.send(answer=answer, settings=Settings(labels="hr"))
        message = receiver.receive()
    assert wire.rebuild(Answer, message["answer"]) == answer
    assert wire.rebuild(Settings, message["settings"]) == Settings(labels="hr")


@pytest.mark.parametrize("line", [b"", b"\n", b"{", b"[]\n", b"\xff\n"])
def test_what_is_no_message_is_the_end(line):
    ours, theirs = socket.socketpair()
    ours.sendall(line)
    ours.close()
    with wire.Connection(theirs) as receiver, pytest.raises(wire.Lost):
        receiver.receive()


def test_a_change_anywhere_in_the_package_is_noticed():
    package = Path(keeper.__file__).parents[1]
    assert (package / "__init__.py").exists()
    assert keeper._code() == max(path.stat().st_mtime_ns for path in package.rglob("*.py"))
