import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.text.links import addresses, inert, without_targets


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is 14 ![](https://a.example/p?d=14) [1].", "It is 14 ![] [1]."),
        ('In <a href="https://a.example">room 14</a> [1]', "In room 14 [1]"),
        ('Room 14 <img src="https://a.example/p?d=14', "Room 14"),  # cut off, and still completed by a browser
        ("Room 14 ![x][far]\n[far]: https://a.example/p?d=14", "Room 14 ![x][far]"),
        ("Write `<img src=x>` for an image [1]", "Write `<img src=x>` for an image [1]"),
        ("<img src=x>", "`<img src=x>`"),
        ("Apply at https://a.example/form [1]", "Apply at https://a.example/form [1]"),
        ("a < b and b > c [1]", "a < b and b > c [1]"),
        ("", ""),
    ],
)
def test_nothing_shown_is_opened_by_whoever_renders_it(text, shown):
    assert inert(text) == shown


def test_addresses_are_told_from_the_punctuation_around_them():
    assert addresses("See (https://a.example/x?y=1), www.b.example. Not a.example: no.") == {
        "https://a.example/x?y=1",
        "www.b.example",
    }
