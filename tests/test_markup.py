"""Words stay words in a page, and a scale keeps the order and the frame."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from pages import tags_of

from edgeai import markup

HOSTILE = '<script src="x">"&'


def test_no_text_becomes_markup():
    drawing = markup.svg(10, 10, HOSTILE, [markup.text(1, 2, HOSTILE, "label")])
    page = markup.document(HOSTILE, "", markup.section(HOSTILE, HOSTILE, drawing))
    assert tags_of(page)[-5:] == ["h2", "p", "div", "svg", "text"]


def test_a_page_has_colours_for_light_and_dark():
    assert "prefers-color-scheme: dark" in markup.document("", "", "")


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), st.sampled_from([(20, 400), (400, 20)]))
def test_a_scale_keeps_the_order_of_values_and_its_frame(values, ends):
    scale = markup.Scale(-1000, 5000, *ends)
    places = [scale(value) for value in sorted(values, reverse=ends[0] > ends[1])]
    assert places == sorted(places)
    assert all(20 <= place <= 400 for place in places)
    assert (scale(-1000), scale(5000)) == ends
