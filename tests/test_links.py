import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.links import without_targets


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("See [the guide](https://a.example/x_(y)) now.", "See [the guide] now."),
        ('![logo](img/logo.png "Our logo")', "![logo]"),
        ("[up](#top) and [mail](mailto:a@b.example)", "[up] and [mail]"),
        ('Ask [the office]({% page "/piv/" %}) first', "Ask [the office] first"),
        ("table[0](row) and [note] (see there)", "table[0](row) and [note] (see there)"),
    ],
)
def test_addresses_go_and_words_stay(text, read):
    assert without_targets(text) == read


@given(st.text(alphabet='ab[]()/. \n"', max_size=60))
def test_only_whole_targets_are_removed(text):
    result = without_targets(text)
    assert without_targets(result).count("](") <= text.count("](")
    assert len(result) <= len(text)
    if "](" not in text:
        assert result == text
