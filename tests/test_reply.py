import threading

import pytest

from edgeai.records import Answer, Piece
from edgeai.reply import Reply


def counting(log):
    def run():
        for word in ("a", "b", "c"):
            log.append(word)
            yield Piece(word)
        return Answer("q", "abc", "answered", "generated")

    return run()


def test_nothing_runs_before_the_reply_is_read():
    log = []
    Reply(counting(log))
    assert log == []


def test_streaming_twice_and_forcing_do_the_work_once():
    log = []
    reply = Reply(counting(log))
    assert [piece.text for piece in reply] == ["a", "b", "c"]
    assert [piece.text for piece in reply] == ["a", "b", "c"]
    assert reply.answer.text == "abc"
    assert log == ["a", "b", "c"]


def test_the_answer_finishes_a_half_read_stream():
    log = []
    reply = Reply(counting(log))
    assert next(iter(reply)).text == "a"
    assert reply.answer.text == "abc"
    assert [piece.text for piece in reply] == ["a", "b", "c"]


def test_a_closed_reply_keeps_its_pieces_and_has_no_answer():
    log = []
    reply = Reply(counting(log))
    next(iter(reply))
    reply.close()
    assert [piece.text for piece in reply] == ["a"]
    with pytest.raises(RuntimeError, match="closed"):
        _ = reply.answer
    assert log == ["a"]


def test_closing_from_another_thread_stops_at_the_next_piece():
    running, go_on = threading.Event(), threading.Event()

    def run():
        yield Piece("a")
        running.set()
        go_on.wait(5)
        yield Piece("b")
        yield Piece("c")
        return Answer("q", "abc", "answered", "generated")

    reply = Reply(run())
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(piece.text for piece in reply))
    reader.start()
    assert running.wait(5)
    reply.close()
    go_on.set()
    reader.join(5)
    assert seen == ["a", "b"]


def test_an_error_reaches_the_reader():
    def run():
        yield Piece("a")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        _ = Reply(run()).answer
