"""`edgeai eval --calibrate` and `--drift`: the confidence of answers fitted on the user's own questions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edgeai.errors import UsageProblem

if TYPE_CHECKING:
    from edgeai.assistant import Assistant
    from edgeai.evaluation.calibration import Fit
    from edgeai.evaluation.questions import Case
    from edgeai.evaluation.trials import Asked
    from edgeai.filters import Filter
    from edgeai.grounding.calibrated import Basis, Calibration
    from edgeai.records import Answer

DRAFTS = 120  # questions asked of those made from the documents where no file is given
DRAWN = 600  # of which they are chosen


def calibrate(file: TextIO | None, assistant: Assistant, risk: float | None, html: Path | None, as_json: bool) -> None:
    """Ask the questions with nothing withheld, fit, and keep what was fitted in the index."""
    from edgeai.cli import console
    from edgeai.evaluation import calibration_page, drift
    from edgeai.grounding.calibrated import CALIBRATION

    assistant.open_store().set_notes({})  # raises where nothing can be written, before minutes are spent
    asked, basis = _ask(_cases(file, assistant), assistant)
    fitted, calibration = _fit(asked, basis, assistant, risk)
    evidence = drift.evidence(asked, calibration, assistant.embedder)
    assistant.open_store().set_notes({CALIBRATION: calibration.as_dict(), drift.EVIDENCE: evidence})
    for line in assistant.notices:
        console.notice(line)
    if html is not None:
        from edgeai.cli.index import writing

        with writing(html) as stream:
            stream.write(calibration_page.render(calibration, fitted, [one.trial for one in asked]))
    if as_json:
        console.print_json({"calibration": calibration.as_dict(), "fit": fitted.as_dict()})
    else:
        _show(calibration, fitted, sum(one.asking.held_out for one in asked))


def forget(assistant: Assistant) -> None:
    """Take the calibration out of the index."""
    from edgeai.cli import console
    from edgeai.evaluation import drift
    from edgeai.grounding.calibrated import CALIBRATION

    assistant.open_store().set_notes({CALIBRATION: None, drift.EVIDENCE: None})
    console.say("The index has no calibration any more; confidence and floor are the general ones.")


def show_drift(assistant: Assistant, as_json: bool) -> None:
    """Compare the questions of the log with those of the calibration."""
    from edgeai import questionlog
    from edgeai.cli import console
    from edgeai.evaluation import drift

    kept = assistant.open_store().note(drift.EVIDENCE)
    if kept is None:
        raise UsageProblem("This index has no calibration to compare with; make one with `edgeai eval --calibrate`.")
    found = drift.compare(kept, questionlog.recent(assistant.index, drift.SAMPLE), assistant.embedder)
    if as_json:
        console.print_json(found.as_dict())
        return
    console.say(f"{'':<18} {'calibration':>12} {'recent':>8}")
    console.say(f"{'questions':<18} {found.known:>12} {found.recent:>8}")
    for name, (before, now) in (("share refused", found.refused), ("mean confidence", found.confidence)):
        console.say(f"{name:<18} {before:>12.3f} {now:>8.3f}")
    console.say(f"chance of such a difference: topics {found.topics_p:.3f}, confidence {found.confidence_p:.3f}")
    console.say(found.sentence, "bold")


def _cases(file: TextIO | None, assistant: Assistant) -> list[Case]:
    from edgeai.cli import console
    from edgeai.evaluation import makeset, questions
    from edgeai.evaluation.calibration import LEAST

    if file is not None:
        return questions.read_cases(file)
    console.notice("Drafted questions are not like those people ask; calibrate again with a file of your own.")
    drafts = makeset.draft_questions(assistant.open_store(), DRAWN)
    answerable = [draft for draft in drafts if draft["kind"] == questions.ANSWERABLE]  # others are held out
    # Whether a name is the right one is hardly to be seen from words, so names are asked for only where little is left.
    facts = [draft for draft in answerable if not draft["question"].startswith(makeset.ASKS_NAME)]
    chosen = facts if len(facts) >= LEAST else answerable
    return questions.read_cases(map(json.dumps, chosen[:DRAFTS]))


def _ask(cases: list[Case], assistant: Assistant) -> tuple[list[Asked], Basis]:
    from edgeai.cli import console
    from edgeai.evaluation import trials

    def ask(case: Case, where: Filter, calibration: Calibration) -> Answer:
        return assistant.ask(case.question, history=case.history, where=where, calibration=calibration).answer

    assistant.warm()
    basis: Basis = "search" if assistant.judges()[1] == "none" else "reader"
    planned = trials.plan(cases, assistant.open_store())
    asked = list(trials.ask_all(planned, ask, progress=console.count_steps))
    fitting = trials.matching(asked, basis)
    if others := len(asked) - len(fitting):
        console.notice(f"{others} of {len(asked)} questions were not judged by the reader and are left out.")
    return fitting, basis


def _fit(asked: list[Asked], basis: Basis, assistant: Assistant, risk: float | None) -> tuple[Fit, Calibration]:
    from edgeai.evaluation.calibration import fit
    from edgeai.grounding.calibrated import SHIPPED, Calibration
    from edgeai.grounding.check import ANSWERABLE_FLOOR

    general = SHIPPED if basis == "reader" else Calibration(floor=ANSWERABLE_FLOOR)
    fitted = fit([one.trial for one in asked], general, risk)
    embedder, reader = assistant.judges()
    made = datetime.now(UTC).isoformat(timespec="seconds")
    model = assistant.settings.model
    numbers = (fitted.slope, fitted.offset, fitted.floor)
    return fitted, Calibration(*numbers, basis, embedder, reader, model, len(asked), made)


def _show(calibration: Calibration, fitted: Fit, held_out: int) -> None:
    from edgeai.cli import console

    console.say(f"{'':<34} {'before':>8} {'now':>8}")
    for name in ("ece", "answered", "wrong"):
        before, after = getattr(fitted.before, name), getattr(fitted.after, name)
        console.say(f"{_NAMES[name]:<34} {before:>8.3f} {after:>8.3f}")
    console.say(f"Answered from a confidence of {calibration.probability_of_floor:.2f} on, kept in the index.")
    console.aside(
        f"{fitted.trials} questions, {held_out} of them with their documents left out; figures of now come from "
        "questions not fitted on. `edgeai eval --forget-calibration` undoes it."
    )


_NAMES = {
    "ece": "calibration error",
    "answered": "share answered",
    "wrong": "share wrong of those",
}
