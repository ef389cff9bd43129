"""The doctor finds what is wrong, says what mends it, and changes nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from toy_reader import write_reader

from edgeai import doctor, pace
from edgeai.budget import Costs, Rate, Rates
from edgeai.cli import main
from edgeai.config import Settings
from edgeai.doctor import Check
from edgeai.registry import Registry

# Two lines each of what Linux shows for an x86 and for an Arm CPU.
X86 = "model name\t: Some CPU\nflags\t\t: fpu sse2 avx fma f16c avx2 bmi2 avx512f avx512_vnni\nflags\t\t: none\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments])


def by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_machine_that_runs_the_tests_is_healthy():
    checks = doctor.diagnose(Settings())
    assert doctor.healthy(checks), [check for check in checks if not check.ok]
    found = by_name(checks)
    assert "FTS5" in found["SQLite"].detail
    assert "telemetry off" in found["ONNX Runtime"].detail
    assert " ms" in found["embedder"].detail
    assert found["llama.cpp"].ok


def test_a_missing_generator_is_a_warning_with_the_command_that_gets_it():
    check = by_name(doctor.diagnose(Settings()))["generator"]
    assert (check.ok, check.required) == (False, False)
    assert check.fix.startswith("edgeai models pull")


def test_a_missing_embedder_is_a_failure():
    checks = doctor.diagnose(Settings(embedder="bge-99"))
    assert not doctor.healthy(checks)
    assert "bge-99" in by_name(checks)["embedder"].detail


def test_a_reader_is_run_and_a_missing_one_is_a_warning(tmp_path):
    registry = Registry(offline=True)
    write_reader(tmp_path / "mine")
    check = doctor.check_reader(registry, Settings(reader=str(tmp_path / "mine")))
    assert check.ok
    assert check.detail.startswith("mine, a passage in ")
    assert doctor.check_reader(registry, Settings(reader="none")).ok
    check = by_name(doctor.diagnose(Settings(reader="bge-99")))["reader"]
    assert (check.ok, check.required) == (False, False)
    assert "bge-99" in check.detail


def test_nothing_is_written(home):
    doctor.diagnose(Settings(model="none"))
    assert not home.exists()


def test_cpu_flags_are_told_by_llama_cpps_names():
    expected = {"AVX", "FMA", "F16C", "AVX2", "BMI2", "AVX512", "AVX512_VNNI"}
    assert doctor.parse_cpuinfo(X86) == expected
    assert doctor.parse_cpuinfo(ARM) == {"NEON", "FP16_VA", "DOTPROD", "MATMUL_INT8"}
    assert doctor.parse_cpuinfo("processor : 0\n") is None


def test_only_what_is_switched_on_counts_as_compiled_in():
    assert doctor.parse_system_info("CPU : AVX = 1 | AVX2 = 0 | SVE_CNT = 16 | ") == {"AVX", "SVE_CNT"}


def test_unused_cpu_features_bring_the_command_that_compiles_them_in():
    check = doctor.check_cpu_features(frozenset({"AVX", "AVX2", "AVX512_VNNI"}), frozenset({"AVX", "OPENMP"}))
    assert (check.ok, check.required) == (False, False)
    assert "AVX2, AVX512_VNNI" in check.detail
    assert "llama-cpp-python==" in check.fix


@pytest.mark.parametrize("has", [None, frozenset(), frozenset({"AVX"})])
def test_a_build_that_uses_all_that_is_known_is_fine(has):
    assert doctor.check_cpu_features(has, frozenset({"AVX", "AVX2"})).ok


def test_this_build_is_compared_with_this_cpu():
    assert doctor.compiled_features()
    if Path("/proc/cpuinfo").exists():
        assert doctor.check_cpu_features(doctor.cpu_features(), doctor.compiled_features()).name == "CPU features"


def test_more_threads_than_cpus_is_a_warning():
    assert doctor.check_threads(Settings()).ok
    assert not doctor.check_threads(Settings(threads=512)).ok


def test_what_answers_cost_here_is_told_once_it_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path))
    assert "edgeai tune" in doctor.check_pace(Settings()).detail
    pace.save(pace.key(Settings()), Costs(Rates(read=Rate(0.05, 0), prefill=Rate(2.0, 0))))
    assert doctor.check_pace(Settings()).detail.startswith("500 tokens of a prompt a second, 36 ms")
    assert "edgeai tune" in doctor.check_pace(Settings(flash_attention=False)).detail


def test_a_data_directory_that_is_a_file_is_a_failure(tmp_path):
    (tmp_path / "home").write_text("in the way")
    check = doctor.check_writable(tmp_path / "home")
    assert (check.ok, check.required) == (False, True)
    assert "EDGEAI_HOME" in check.fix


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody can write")
def test_a_data_directory_that_cannot_be_written_is_a_failure():
    assert not doctor.check_writable(Path("/proc/edgeai/home")).ok


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX notion")
def test_a_data_directory_open_to_others_is_a_warning_with_the_command(tmp_path):
    tmp_path.chmod(0o755)
    check = doctor.check_private(tmp_path)
    assert (check.ok, check.fix) == (False, f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    assert doctor.check_private(tmp_path).ok


def test_telemetry_that_was_switched_on_is_pointed_out(monkeypatch):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    assert not doctor.check_onnxruntime().ok


def test_json_is_what_other_programs_rely_on():
    result = run("--json")
    record = json.loads(result.stdout)
    assert record["ok"] is (result.exit_code == 0)
    assert {tuple(check) for check in record["checks"]} == {("name", "ok", "detail", "fix", "required")}


def test_the_table_names_every_check_and_the_exit_code_follows_the_required_ones(monkeypatch):
    result = run()
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("SQLite", "llama.cpp", "generator", "edgeai models pull"))
    monkeypatch.setenv("EDGEAI_EMBEDDER", "bge-99")
    failed = run()
    assert failed.exit_code == 1
    assert "FAILED" in failed.stdout


@pytest.mark.real
def test_an_installed_generator_is_run(generator_spec):
    registry = Registry(Path(generator_spec.model).parents[2], offline=True)
    check = doctor.check_generator(registry, replace(Settings(), model=generator_spec.name))
    assert check.ok
    assert "ms a token" in check.detail
