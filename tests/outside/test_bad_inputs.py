"""Every entry point with each argument wrong in turn: an error that helps, and nothing changed."""

import bad_inputs
import make_messages


def test_wrong_values_are_refused_in_the_words_that_are_kept():
    found = list(bad_inputs.answers())
    assert len(found) > 2_000
    helpless = [
        f"{a.door}, {a.argument}={a.kind}: {a.faults()}: {a.words()}" for a in found if a.faults()
    ]
    assert not helpless, "\n".join(helpless[:40])
    # What is accepted and what is said stand in messages.txt, which make_messages.py writes anew.
    kept = make_messages.GOLDEN.read_text(encoding="utf-8").splitlines()
    assert bad_inputs.snapshot(found).splitlines() == kept
