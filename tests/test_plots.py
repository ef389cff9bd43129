"""Plots are sound SVG, and put larger values where larger values belong."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from edgeai.bootstrap import Estimate
from edgeai.evaluation import plots
from edgeai.evaluation.metrics import Bin

share = st.floats(0, 1)


def drawn(svg: str, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(svg).findall(tag)


@given(share, share)
def test_points_stay_inside_and_larger_is_further_right_and_higher(low, high):
    low, high = sorted((low, high))
    [line] = drawn(plots.curve([(low, low), (high, high)], "x", "y"), "polyline")
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.attrib["points"].split())
    assert 0 <= x1 <= x2 <= plots.WIDTH
    assert plots.HEIGHT >= y1 >= y2 >= 0


def test_every_bin_is_a_dot_and_a_calibrated_one_lies_on_the_diagonal():
    svg = plots.reliability_diagram([Bin(0.25, 0.25, 3), Bin(0.8, 0.1, 9)])
    first, second = drawn(svg, "circle")
    [diagonal] = [line for line in drawn(svg, "line") if line.get("class") == "mark"]
    x1, y1, x2, y2 = (float(diagonal.attrib[name]) for name in ("x1", "y1", "x2", "y2"))
    along = (float(first.attrib["cx"]) - x1) / (x2 - x1)
    assert abs(along - (float(first.attrib["cy"]) - y1) / (y2 - y1)) < 0.01
    assert "9 answers" in "".join(second.itertext())


def test_a_bar_is_as_long_as_its_value_and_its_name_is_escaped():
    svg = plots.bars({"<kind>": Estimate(0.5, 0.4, 0.6, 7), "all": Estimate(1, 1, 1, 9)}, "recall")
    half, whole = (float(bar.attrib["width"]) for bar in drawn(svg, "rect"))
    assert half * 2 == whole
    assert [text.text for text in drawn(svg, "text")] == ["<kind>", "0.50 (7)", "all", "1.00 (9)"]
