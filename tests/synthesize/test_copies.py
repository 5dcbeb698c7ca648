"""Near duplicates of known texts are found, and of one another where that is asked."""

from __future__ import annotations

from edgetune.synthesize.validators.copies import NearTexts

KNOWN = "please turn the light in the kitchen down to forty percent"
NEAR = "please turn the light in the kitchen down to thirty percent"
OTHER = "what is the weather going to be tomorrow in the mountains"


def test_near_duplicates_of_known_texts_are_found() -> None:
    near = NearTexts(0.6)
    near.add([OTHER, KNOWN])
    first, second, third = near.find([KNOWN.upper(), NEAR, "play a song by the beatles now"])
    assert first == 1 and 0.6 <= second < 1 and third == 0


def test_texts_near_an_earlier_one_beside_them_are_found() -> None:
    near = NearTexts(0.6)
    found = near.find([KNOWN, OTHER, NEAR], each_other=True)
    assert found[:2] == [0, 0] and found[2] > 0.6
    assert near.find([KNOWN, OTHER, NEAR]) == [0, 0, 0]


def test_at_one_nothing_is_near() -> None:
    near = NearTexts(1.0)
    near.add([KNOWN])
    assert near.find([KNOWN, NEAR]) == [0, 0]
