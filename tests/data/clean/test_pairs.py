"""Near duplicates: every similar pair is found, and none that is not similar."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest

from edgetune.data.clean import cluster_rows, find_pairs, sketch_texts
from edgetune.data.clean.shingles import hash_set, hash_shingles


def make_texts(count: int, words: int, seed: int) -> list[str]:
    """Return texts of words drawn at random, every second a copy with a few words changed."""
    chance = random.Random(seed)
    vocabulary = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9)))
                  for _ in range(3000)]  # fmt: skip
    texts = []
    for _ in range(count // 2):
        drawn = chance.choices(vocabulary, k=words)
        texts.append(" ".join(drawn))
        for _ in range(chance.randint(0, max(1, words // 9))):
            drawn[chance.randrange(words)] = chance.choice(vocabulary)
        texts.append(" ".join(drawn))
    return texts


def similar_pairs(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """Compare every text with every other."""
    sets = []
    for _, hashes, offsets in hash_shingles(texts):
        sets += [set(hashes[offsets[n] : offsets[n + 1]].tolist()) for n in range(len(offsets) - 1)]
    found = {}
    for right in range(len(texts)):
        for left in range(right):
            jaccard = len(sets[left] & sets[right]) / len(sets[left] | sets[right])
            if jaccard >= threshold:
                found[left, right] = jaccard
    return found


def list_jaccard(one: str, other: str) -> float:
    (found,) = similar_pairs([one, other], 0.0).values()
    return found


def list_pairs(texts: list[str], **options: object) -> dict[tuple[int, int], float]:
    bands = sketch_texts(texts)
    pairs = find_pairs(bands, lambda rows: [texts[row] for row in rows], **options)  # type: ignore[arg-type]
    return dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True),
                    pairs.jaccard.tolist(), strict=True))  # fmt: skip


@pytest.mark.parametrize("sketches", ["rensa", "numpy"])
@pytest.mark.parametrize("words", [10, 60])
def test_pairs_equal_those_of_comparing_all(
    words: int, sketches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sketches == "numpy":
        monkeypatch.setitem(sys.modules, "rensa", None)
    texts = make_texts(200, words, seed=words)
    wanted, found = similar_pairs(texts, 0.8), list_pairs(texts)
    assert len(wanted) > 50
    assert set(found) <= set(wanted), "a pair below the threshold"
    assert len(found) >= 0.98 * len(wanted)
    assert all(abs(found[pair] - wanted[pair]) < 1e-6 for pair in found)


def test_a_text_has_the_same_sketch_beside_any_others() -> None:
    text = "naïve café, 3 × 4 = 12"
    alone = sketch_texts([text])
    assert (sketch_texts(["日本語のテキスト", text, "“quoted”", "plain"])[1] == alone[0]).all()
    assert (sketch_texts(["a" * 70_000, text])[1] == alone[0]).all()


def test_rows_with_a_long_passage_in_common_are_paired_in_linear_time() -> None:
    passage = " ".join(make_texts(2, 30, seed=5)[:1])
    own = make_texts(600, 30, seed=6)
    texts = [f"{passage} {text}" for text in own]
    bands = sketch_texts(texts)
    read: list[int] = []

    def read_texts(rows: np.ndarray) -> list[str]:
        read.append(len(rows))
        return [texts[row] for row in rows]

    pairs = find_pairs(bands, read_texts)
    clusters = cluster_rows(pairs, len(texts))
    wanted = [n for n in range(0, 600, 2) if list_jaccard(texts[n], texts[n + 1]) >= 0.8]
    together = [n for n in wanted if clusters[n] == clusters[n + 1]]
    assert len(together) >= 0.98 * len(wanted) > 100
    assert sum(read) < 40 * len(texts)


def test_every_copy_of_a_query_is_found_among_many() -> None:
    text = "please tell me how I can activate the new card that came by mail today"
    texts = [text, *(f"{text} {number}" for number in range(60)), "what is the exchange rate"]
    queries = np.zeros(len(texts), dtype=bool)
    queries[0] = True
    found = list_pairs(texts, queries=queries)
    assert set(found) == {(0, row) for row in range(1, 61)}
    many = np.arange(len(texts)) % 2 == 0
    found = list_pairs(texts, queries=many)
    assert {row for pair in found for row in pair} == set(range(61))


def test_copies_without_end_are_one_cluster() -> None:
    text = "please tell me how I can activate the new card that came by mail today"
    texts = [f"{text} {number}" for number in range(500)]
    pairs = find_pairs(sketch_texts(texts), lambda rows: [texts[row] for row in rows])
    assert (cluster_rows(pairs, 500) == 0).all()
    assert len(pairs) < 20 * 500


def test_only_pairs_with_a_query_are_found_with_queries() -> None:
    texts = ["How do I activate my new card?"] * 3 + ["What is the exchange rate of today?"]
    pairs = list_pairs(texts, queries=np.array([True, True, False, False]))
    assert set(pairs) == {(0, 2), (1, 2)}


def test_case_and_white_space_make_no_difference_and_empty_texts_do_no_harm() -> None:
    pairs = list_pairs(["How do I  activate\nit", "how do i activate it", "", "x", "X"])
    assert set(pairs) == {(0, 1), (3, 4)}


def test_texts_in_languages_without_spaces_are_compared() -> None:
    texts = [
        "今日は天気がいいので散歩に行きましょう",
        "今日は天気がいいので散歩へ行きましょう",
        "明日の会議は何時からですか",
    ]
    assert set(list_pairs(texts, threshold=0.6)) == {(0, 1)}


def test_clusters_are_named_by_their_smallest_row() -> None:
    texts = ["alpha beta gamma delta epsilon", "nothing like the others at all",
             "alpha beta gamma delta epsilon!", "Alpha beta gamma delta epsilon!!"]  # fmt: skip
    bands = sketch_texts(texts)
    pairs = find_pairs(bands, lambda rows: [texts[row] for row in rows])
    assert cluster_rows(pairs, 4).tolist() == [0, 1, 0, 0]


def test_hash_set_has_each_hash_once() -> None:
    assert hash_set(np.array([3, 1, 3, 2], dtype=np.uint64)).tolist() == [1, 2, 3]
    assert hash_set(np.array([], dtype=np.uint64)).tolist() == []
