import pytest

from edgeai.config import Settings, data_dir, load_settings
from edgeai.errors import UsageProblem


def test_a_flag_beats_the_environment_beats_the_file_beats_the_profile(tmp_path):
    file = tmp_path / "edgeai.toml"
    file.write_text('profile = "fast"\nmax_tokens = 11\nthreads = 3\ncandidates = 9\n')
    environ = {"EDGEAI_MAX_TOKENS": "22", "EDGEAI_THREADS": "4"}
    settings = load_settings({"threads": 5, "model": None}, environ=environ, file=file)
    assert (settings.threads, settings.max_tokens, settings.candidates) == (5, 22, 9)
    assert settings.passages == load_settings({"profile": "fast"}, environ={}).passages
    assert settings.model == Settings().model


@pytest.mark.parametrize(("text", "value"), [("1", True), ("on", True), ("false", False), ("0", False), ("", False)])
def test_booleans_come_in_the_usual_spellings(text, value):
    assert load_settings(environ={"EDGEAI_OFFLINE": text}).offline is value


@pytest.mark.parametrize(
    "flags", [{"no_such": 1}, {"threads": "many"}, {"offline": "maybe"}, {"profile": "turbo"}], ids=str
)
def test_a_setting_that_makes_no_sense_is_a_usage_problem(flags):
    with pytest.raises(UsageProblem):
        load_settings(flags, environ={})


@pytest.mark.parametrize("content", ["threads = ", b"\xff\xfe"], ids=["toml", "bytes"])
def test_a_broken_settings_file_is_named(tmp_path, content):
    file = tmp_path / "edgeai.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageProblem, match=r"edgeai\.toml"):
        load_settings(file=file)


def test_a_settings_file_that_was_asked_for_must_exist(tmp_path):
    with pytest.raises(UsageProblem, match="--config"):
        load_settings(file=tmp_path / "missing.toml")


def test_one_variable_moves_all_data(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEAI_HOME", str(tmp_path))
    assert data_dir() == tmp_path


@pytest.mark.parametrize(
    "content",
    [
        *('labels = ["hr", "it"]', 'profile = ["fast"]', 'gpu_layers = "most"', "model = false", "passages = 2.7"),
        *("passages = true", "passages = 0", "threads = -1", "threads = 9999", "context = -5"),
        *("budget_ms = nan", "budget_ms = inf"),
    ],
)
def test_a_value_that_would_be_taken_for_something_else_is_refused(tmp_path, content):
    file = tmp_path / "edgeai.toml"
    file.write_text(content)
    with pytest.raises(UsageProblem):
        load_settings(file=file, environ={})


@pytest.mark.parametrize("values", [{"budget_ms": -5.0}, {"budget_ms": "soon"}, {"passages": 0}], ids=str)
def test_settings_made_by_a_program_are_checked_too(values):
    with pytest.raises(UsageProblem, match=next(iter(values))):
        Settings(**values)


def test_an_empty_variable_counts_as_not_set():
    assert load_settings(environ={"EDGEAI_MODEL": "", "EDGEAI_LABELS": ""}) == Settings()
