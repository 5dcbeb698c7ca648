"""The texts nearest to some others are chosen, each of these in its turn."""

from __future__ import annotations

from edgetune.synthesize.nearest import choose_nearest
from edgetune.synthesize.tasks.new_prompt import strip_wrapping

TEXTS = ["play some jazz", "light on in the hall", "play more jazz", "set an alarm", "hall light"]


def test_each_picks_its_nearest_in_turn() -> None:
    assert choose_nearest(TEXTS, ["play jazz"], 2) == [0, 2]
    assert choose_nearest(TEXTS, ["play jazz", "the hall light"], 2) == [0, 4]
    assert choose_nearest(TEXTS, ["play jazz", "the hall light"], 4) == [0, 1, 2, 4]
    assert choose_nearest(TEXTS, ["play jazz"], 99) == [0, 1, 2, 3, 4]
    assert choose_nearest(TEXTS, [], 3) == []


def test_what_models_put_around_a_text_is_dropped() -> None:
    assert strip_wrapping(' "turn it on" ') == "turn it on"
    assert strip_wrapping("New request: turn it on") == "turn it on"
    assert strip_wrapping("1. turn it on") == "turn it on"
    assert strip_wrapping('"a" and "b"') == '"a" and "b"'
    assert strip_wrapping("10 minutes timer") == "10 minutes timer"
