"""Whether this machine can run edgeai, and what would make it run better, as plain records.

Every check uses the real thing where that is cheap: it loads the extension, embeds a sentence, generates a few words.
It does not prove that the models are good, does not hash large files again (`edgeai models verify` does), and changes
nothing.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeai import __version__, cores, pace
from edgeai.budget import PAIR_OVERHEAD
from edgeai.config import Settings, data_dir
from edgeai.errors import EdgeAIError, ModelMissing
from edgeai.kept import keepalive
from edgeai.llm import generate, gpu, llama
from edgeai.onnx import encoders, onnxfile, reader
from edgeai.prompt import build_prompt
from edgeai.records import Passage
from edgeai.registry import Registry
from edgeai.specs import EmbedderSpec

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 51, 3)  # earlier ones can lose commits when the write-ahead log is reset, sqlite.org/wal.html
PASSAGE_CHARACTERS = 600  # of a chunk as the chunker makes them
LOW_SPACE = 1_000_000_000  # bytes: the default models and a mid-sized index
SMOKE_CONTEXT, SMOKE_TOKENS = 512, 8

# Feature names of llama.cpp (ggml/src/ggml-cpu/ggml-cpu.cpp) and the name each has in /proc/cpuinfo.
CPU_FLAGS: Mapping[str, str] = {
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "NEON": "asimd",
    "FP16_VA": "asimdhp",
    "DOTPROD": "asimddp",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}
# The same features in the output of macOS' `sysctl hw.optional`.
MACOS_LINES: Mapping[str, str] = {
    "hw.optional.AdvSIMD: 1": "NEON",
    "hw.optional.arm.FEAT_FP16: 1": "FP16_VA",
    "hw.optional.arm.FEAT_DotProd: 1": "DOTPROD",
    "hw.optional.arm.FEAT_I8MM: 1": "MATMUL_INT8",
    "hw.optional.avx1_0: 1": "AVX",
    "hw.optional.avx2_0: 1": "AVX2",
    "hw.optional.f16c: 1": "F16C",
    "hw.optional.fma: 1": "FMA",
    "hw.optional.bmi2: 1": "BMI2",
    "hw.optional.avx512f: 1": "AVX512",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `fix` is the command that mends it, "" when there is none.

    When a `required` check is not ok, edgeai does not work; when another one is not, it works less well.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True


def diagnose(settings: Settings) -> tuple[Check, ...]:
    """Run all checks with the models and threads these settings choose; takes seconds, opens no network."""
    registry = Registry(offline=True, allow_unverified=settings.allow_unverified)
    embedder = _attempt("embedder", lambda: check_embedder(registry.embedder(settings.embedder), settings))
    reading = _attempt("reader", lambda: check_reader(registry, settings), required=False)
    home = data_dir()
    return (
        check_python(),
        _attempt("SQLite", check_sqlite),
        check_onnxruntime(),  # after the embedder, which has imported it
        embedder,
        reading,
        _attempt("llama.cpp", check_llama, required=False),
        _attempt("CPU features", lambda: check_cpu_features(cpu_features(), compiled_features()), required=False),
        check_threads(settings),
        check_pace(settings),
        _attempt("GPU", check_gpu, required=False),
        check_writable(home),
        check_private(home),
        check_space(home),
        check_kept(),
        _attempt("generator", lambda: check_generator(registry, settings), required=False),
        _attempt("adapters", lambda: check_adapters(registry, settings), required=False),
    )


def healthy(checks: Iterable[Check]) -> bool:
    """Whether edgeai works here: every required check is ok."""
    return all(check.ok for check in checks if check.required)


def _attempt(name: str, check: Callable[[], Check], *, required: bool = True) -> Check:
    try:
        return check()
    except EdgeAIError as error:
        return _failed(name, str(error), required)


def _failed(name: str, message: str, required: bool) -> Check:
    """A check that ended with a message of the library, which has the command in backquotes."""
    command = re.search(r"`([^`]+)`", message)
    return Check(name, False, message, command.group(1) if command else "", required)


# programs -------------------------------------------------------------------------------------------------------------


def check_python() -> Check:
    """The interpreter, and the edgeai it runs."""
    ok = sys.version_info >= OLDEST_PYTHON
    detail = f"{platform.python_version()} ({sys.executable}), edgeai {__version__}"
    return Check("Python", ok, detail, "" if ok else "install Python 3.11 or newer")


def check_sqlite() -> Check:
    """A keyword and a vector search in memory, and a version without known bugs that matter here."""
    fix = "pip install --upgrade --force-reinstall apsw sqlite-vec"
    try:
        import apsw
        import sqlite_vec
    except ImportError as error:
        return Check("SQLite", False, f"does not load: {error}", fix)
    connection = apsw.Connection(":memory:")
    try:
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (body); INSERT INTO words VALUES ('a badge')")
        connection.execute("CREATE VIRTUAL TABLE vectors USING vec0 (embedding float[2])")
        connection.execute("INSERT INTO vectors (rowid, embedding) VALUES (1, '[1, 0]'), (2, '[0, 1]')")
        found = connection.execute("SELECT count(*) FROM words WHERE words MATCH 'badge'").get
        near = connection.execute(
            "SELECT rowid FROM vectors WHERE embedding MATCH '[0.1, 0.9]' ORDER BY distance LIMIT 1"
        ).get
        version = connection.execute("SELECT vec_version()").get
    except apsw.Error as error:
        return Check("SQLite", False, f"{apsw.sqlite_lib_version()} lacks FTS5 or sqlite-vec: {error}", fix)
    finally:
        connection.close()
    recent = tuple(map(int, apsw.sqlite_lib_version().split("."))) >= OLDEST_SQLITE
    ok = recent and (found, near) == (1, 2)
    detail = f"{apsw.sqlite_lib_version()} with FTS5, sqlite-vec {version}" + ("" if recent else "; too old")
    return Check("SQLite", ok, detail, "" if ok else fix)


def check_onnxruntime() -> Check:
    """The version, and that its telemetry is off; only an import shows whether it loads, see `check_embedder`."""
    try:
        version = metadata.version("onnxruntime")
    except metadata.PackageNotFoundError:
        return Check("ONNX Runtime", False, "is not installed", "pip install onnxruntime")
    quiet = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    fix = "" if quiet else "unset ORT_DISABLE_TELEMETRY"
    return Check("ONNX Runtime", quiet, f"{version}, telemetry {'off' if quiet else 'ON'}", fix, required=False)


def check_llama() -> Check:
    """That llama.cpp loads."""
    llama.library()
    return Check("llama.cpp", True, f"llama-cpp-python {metadata.version('llama-cpp-python')}", required=False)


# the machine ----------------------------------------------------------------------------------------------------------


def check_cpu_features(has: frozenset[str] | None, compiled: frozenset[str]) -> Check:
    """Whether llama.cpp was compiled for what the CPU has; without AVX2, VNNI or NEON it is several times slower."""
    used = ", ".join(name for name in CPU_FLAGS if name in compiled) or "none"
    if has is None:
        return Check("CPU features", True, f"compiled in: {used}; what this CPU has is not known", required=False)
    missing = ", ".join(name for name in CPU_FLAGS if name in has - compiled)
    if not missing:
        return Check("CPU features", True, f"compiled in: {used}", required=False)
    return Check("CPU features", False, f"the CPU has {missing}, but llama.cpp was compiled without", rebuild(), False)


def compiled_features() -> frozenset[str]:
    """CPU features the installed llama.cpp uses, by its own names; raises `EngineMissing`."""
    return parse_system_info(llama.library().llama_print_system_info().decode("utf-8", "replace"))


def parse_system_info(text: str) -> frozenset[str]:
    """The names that are 1 in a line like "CPU : AVX = 1 | AVX2 = 0 | "."""
    return frozenset(name for name, value in re.findall(r"(\w+) = (\d+)", text) if value != "0")


def cpu_features() -> frozenset[str] | None:
    """CPU features this machine has, by llama.cpp's names; None where that cannot be found out."""
    if sys.platform == "darwin":
        listing = subprocess.run(["sysctl", "hw.optional"], capture_output=True, text=True, check=False).stdout
        return frozenset(MACOS_LINES[line] for line in listing.splitlines() if line in MACOS_LINES) or None
    try:
        return parse_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None


def parse_cpuinfo(text: str) -> frozenset[str] | None:
    """Features of the first CPU in the text of Linux' /proc/cpuinfo; None when it lists no flags."""
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    flags = set(line.group(1).split()) if line else set()
    return frozenset(name for name, flag in CPU_FLAGS.items() if flag in flags) if flags else None


def rebuild() -> str:
    """The command that compiles llama.cpp for this machine's CPU."""
    native = '$env:CMAKE_ARGS="-DGGML_NATIVE=ON"; ' if os.name == "nt" else 'CMAKE_ARGS="-DGGML_NATIVE=ON" '
    package = f"llama-cpp-python=={metadata.version('llama-cpp-python')}"
    return f"{native}pip install --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python {package}"


def check_threads(settings: Settings) -> Check:
    """How many threads compute; more than there are CPUs only wait for each other."""
    available = onnxfile.available_cpus()
    threads = settings.threads or cores.physical_cores()
    ok = threads <= available
    fix = "" if ok else f"set threads to {cores.physical_cores()} or leave it out"
    return Check("threads", ok, f"{threads} on {available} CPUs", fix, required=False)


def check_pace(settings: Settings) -> Check:
    """How fast answers are computed here, as far as it is known: budgets are planned with it."""
    costs = pace.known(pace.key(settings))
    if costs is None:
        return Check("pace", True, "not known yet; `edgeai tune` measures it, and every answer does", required=False)
    prefill, read = costs.rates.prefill.mean, costs.rates.read.mean
    passage = read * (PASSAGE_CHARACTERS + PAIR_OVERHEAD)
    detail = f"{1000 / prefill:.0f} tokens of a prompt a second, {passage:.0f} ms to read a passage, as measured here"
    return Check("pace", True, detail, required=False)


def check_gpu() -> Check:
    """Whether there is a GPU that the installed llama.cpp leaves unused."""
    if notice := gpu.gpu_notice():
        return _failed("GPU", notice, required=False)
    used = bool(llama.library().llama_supports_gpu_offload())
    return Check("GPU", True, "llama.cpp can use one" if used else "none found, the CPU is used", required=False)


def check_kept() -> Check:
    """Whether a process keeps models loaded for the next `edgeai ask`, and what that takes."""
    kept = keepalive.status()
    if kept is None:
        return Check("kept loaded", True, "nothing", required=False)
    if not kept:
        return Check("kept loaded", True, "busy with a question", required=False)
    since = time.strftime("%H:%M", time.localtime(kept["since"]))
    memory = f"{kept['memory'] / 1e6:.0f} MB, " if kept["memory"] else ""
    detail = f"process {kept['pid']} since {since}, {memory}{kept['index']}; `edgeai stop` ends it"
    return Check("kept loaded", True, detail, required=False)


# the data directory ---------------------------------------------------------------------------------------------------


def check_writable(home: Path) -> Check:
    """Whether indexes and models can be stored; nothing stays behind."""
    place = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        fix = "set EDGEAI_HOME to a folder you can write to"
        return Check("data directory", False, f"{home} cannot be written: {error.strerror}", fix)
    return Check("data directory", True, str(home) if home.exists() else f"{home}, made when first needed")


def check_private(home: Path) -> Check:
    """Whether other users of this machine are kept out; on Windows the profile folder sees to that."""
    if os.name != "posix" or not home.exists() or not stat.S_IMODE(home.stat().st_mode) & 0o077:
        return Check("privacy", True, "only you can read your indexes and chats", required=False)
    return Check("privacy", False, f"other users can look into {home}", f"chmod 700 {shlex.quote(str(home))}", False)


def check_space(home: Path) -> Check:
    """Whether there is room for models and an index."""
    free = shutil.disk_usage(_existing(home)).free
    ok = free >= LOW_SPACE
    fix = "" if ok else "free some space, or set EDGEAI_HOME to another disk"
    return Check("free space", ok, f"{free / 1e9:.1f} GB", fix, required=False)


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.absolute().parents) if place.exists())


# models ---------------------------------------------------------------------------------------------------------------


def check_embedder(spec: EmbedderSpec, settings: Settings) -> Check:
    """Embeds a question; raises what `OnnxEmbedder` raises."""
    embedder = encoders.OnnxEmbedder(spec, threads=settings.threads or None)
    embedder.embed_query("The first one also pays for loading the model.")
    began = time.perf_counter()
    embedder.embed_query("How many days of leave are there?")
    milliseconds = (time.perf_counter() - began) * 1000
    embedder.close()
    return Check("embedder", True, f"{spec.name}, a question in {milliseconds:.1f} ms")


def check_reader(registry: Registry, settings: Settings) -> Check:
    """Judges a passage; raises what the registry and `OnnxReader` raise."""
    if settings.reader == "none":
        return Check("reader", True, "none chosen, passages are judged by their words", required=False)
    spec = registry.reader(settings.reader)
    judge = reader.OnnxReader(spec, threads=settings.threads or None)
    passage = Passage(1, "Every employee has 25 days of leave a year.", "", 0, 43)
    judge.read("The first one also pays for loading the model.", [passage])
    began = time.perf_counter()
    judge.read("How many days of leave are there?", [passage])
    milliseconds = (time.perf_counter() - began) * 1000
    judge.close()
    return Check("reader", True, f"{spec.name}, a passage in {milliseconds:.1f} ms", required=False)


def check_adapters(registry: Registry, settings: Settings) -> Check:
    """Which are installed; raises what the registry raises when the chosen one is not for the chosen model."""
    if settings.adapter and settings.model != "none":
        registry.adapter(settings.adapter, registry.generator(settings.model))
    return Check("adapters", True, ", ".join(registry.installed_adapters()) or "none installed", required=False)


def check_generator(registry: Registry, settings: Settings) -> Check:
    """Generates a few words; raises what the registry and `LlamaGenerator` raise."""
    if settings.model == "none":
        return Check("generator", True, "none chosen, answers quote the documents", required=False)
    try:
        spec = registry.generator(settings.model)
    except ModelMissing:
        detail = f"{settings.model} is not installed; until then answers quote the documents"
        return Check("generator", False, detail, f"edgeai models pull {settings.model}", required=False)
    if notice := registry.notice(settings.model):
        return _failed("generator", notice, required=False)
    began = time.perf_counter()
    generator = generate.LlamaGenerator(
        spec, threads=settings.threads or None, gpu_layers=settings.gpu_layers, context=SMOKE_CONTEXT
    )
    try:
        prompt = build_prompt(
            "Are you there?",
            (),
            spec.template,
            count=generator.count_tokens,
            context=min(SMOKE_CONTEXT, spec.context),
            max_tokens=SMOKE_TOKENS,
        )
        loaded = (time.perf_counter() - began) * 1000
        *_, last = generator.stream(prompt)
    finally:
        generator.close()
    per_token = last.generate_ms / max(1, last.output_tokens)
    detail = f"{spec.name}, loaded in {loaded:.0f} ms, {last.prompt_tokens} tokens read in {last.prefill_ms:.0f} ms"
    return Check("generator", True, f"{detail}, {per_token:.0f} ms a token written", required=False)
