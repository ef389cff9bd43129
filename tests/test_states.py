"""A cache of bytes against a plain model of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeai.llm.states import States

STEPS = st.lists(st.tuples(st.sampled_from(["add", "get", "drop"]), st.integers(0, 5), st.integers(0, 40)), max_size=40)


@given(STEPS, st.integers(0, 100))
def test_it_keeps_what_was_used_last_within_its_limit(steps, limit):
    states = States(limit)
    expected: list[tuple[tuple[int, ...], bytes]] = []  # the one used last at the end
    for what, number, size in steps:
        ids = (number,)
        known = dict(expected)
        if what == "get" and ids not in known:
            continue
        expected = [item for item in expected if item[0] != ids]
        if what == "add":
            states.add(ids, bytes(size))
            expected.append((ids, bytes(size)))
            while sum(len(state) for _, state in expected) > limit:
                expected.pop(0)
        elif what == "get":
            assert states.get(ids) == known[ids]
            expected.append((ids, known[ids]))
        else:
            states.drop(ids)
        assert [one for one in range(6) if (one,) in states] == sorted(one for ((one,), _) in expected)
        assert len(states) == len(expected)
    states.clear()
    assert len(states) == 0
