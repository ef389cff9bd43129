import pytest

import edgeai
from edgeai.errors import UsageProblem
from edgeai.transfer import FORMAT, import_lines

HEAD = f'{{"format": "{FORMAT}"}}'
GOOD = (
    '{"path": "/a.md", "text": "one two", "type": "markdown", "title": "A", "modified": 1.0, "digest": "d",'
    ' "chunks": [{"start": 0, "end": 7}]}'
)


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        GOOD.replace('"end": 7', '"end": 8'),
        GOOD.replace('"start": 0', '"start": -1'),
        GOOD.replace('"modified": 1.0', '"modified": "yesterday"'),
        GOOD.replace('"modified": 1.0', '"modified": NaN'),
        GOOD.replace('"text": "one two"', '"text": 7'),
        GOOD.replace("one two", "one \\ud800 two"),
        GOOD.replace('"digest"', f'"size": {10**30}, "digest"'),
        GOOD.replace('"end": 7', '"end": 7, "page": Infinity'),
    ],
    ids=["text", "list", "empty", "past-the-end", "negative", "date", "nan", "number", "surrogate", "size", "page"],
)
def test_a_line_that_is_no_document_is_named_and_the_index_stays_sound(tmp_path, line):
    with edgeai.Assistant(tmp_path / "a.db", model="none") as assistant:
        store = assistant.open_store(create=True)
        with pytest.raises(UsageProblem, match="Line 3"):
            import_lines([HEAD, GOOD, line], store=store, embedder=assistant.embedder)
        assert assistant.check() == []


@pytest.mark.parametrize("lines", [[], ["{}"], ['{"format": "other"}'], ["\x00"]], ids=str)
def test_a_file_that_is_no_export_is_refused(tmp_path, lines):
    with edgeai.Assistant(tmp_path / "a.db", model="none") as assistant:
        store = assistant.open_store(create=True)
        with pytest.raises(UsageProblem, match="Line 1"):
            import_lines(lines, store=store, embedder=assistant.embedder)
