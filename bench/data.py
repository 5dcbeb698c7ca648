"""Time and check the cleaning of rows: near duplicates, personal data, and the stage `prepare`.

    python bench/data.py --json [--peers PYTHON] [--prepare]

`--peers` names the interpreter of an environment with datasketch, presidio-analyzer and spaCy
(blank: no model is needed); without it the two speed-ups are null. Figures:

- duplicate_recall, duplicate_precision: of pairs of texts of known similarity around 0.8, against
  the exact Jaccard similarity of their sets of shingles as strings;
- speedup_vs_datasketch: CPU time for the same texts of about 300 tokens from texts to similar
  pairs, median of interleaved pairs of runs; datasketch's pairs are candidates only;
- pii_recall, pii_precision: values found with their exact borders and kind, in texts of known
  contents; speedup_vs_presidio: CPU time on the same texts. Presidio looks for five kinds only, and
  without its model of names;
- prepare_peak_rss_bytes, rows_per_s: of `edgetune prepare` on a million chat rows of about 300
  tokens with duplicates, near duplicates and leaked rows, over all its processes (`--prepare`;
  needs the assets' tokenizer of Qwen 2.5).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from bench.corpora import change_words, make_chat, make_prose, make_texts  # noqa: E402
from bench.encode import make_tokenizer  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "data.jsonl"
KINDS = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IBAN_CODE": "iban",
         "CREDIT_CARD": "card", "IP_ADDRESS": "ip"}  # fmt: skip

# Each reads texts (a JSON list) and prints CPU seconds and what it found; imports and one small
# batch before are not timed.
OURS_PAIRS = """\
import json, sys, time
from edgetune.data.clean import find_pairs, sketch_texts
texts = json.load(open(sys.argv[1]))
def run(texts):
    return find_pairs(sketch_texts(texts), lambda rows: [texts[row] for row in rows])
run(texts[:50])
began = time.process_time()
pairs = run(texts)
print(json.dumps({"cpu": time.process_time() - began, "found": len(pairs)}))
"""
DATASKETCH = """\
import json, sys, time
from datasketch import MinHash, MinHashLSH
texts = json.load(open(sys.argv[1]))
def run(texts):
    lsh = MinHashLSH(threshold=0.8, num_perm=128)
    found = 0
    for number, text in enumerate(texts):
        text = " ".join(text.lower().split())
        shingles = {text[n : n + 5].encode() for n in range(max(len(text) - 4, 1))}
        sketch = MinHash(num_perm=128)
        sketch.update_batch(shingles)
        found += len(lsh.query(sketch))
        lsh.insert(number, sketch)
    return found
run(texts[:50])
began = time.process_time()
found = run(texts)
print(json.dumps({"cpu": time.process_time() - began, "found": found}))
"""
OURS_PII = """\
import json, sys, time
from edgetune.data.clean.pii import find_all
texts = json.load(open(sys.argv[1]))
find_all(texts[:50])
began = time.process_time()
found = find_all(texts)
cpu = time.process_time() - began
spans = [[(kind, span.start, span.end) for kind, span in one] for one in found]
print(json.dumps({"cpu": cpu, "found": spans}))
"""
PRESIDIO = """\
import json, sys, time
import spacy
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import SpacyNlpEngine
class Blank(SpacyNlpEngine):
    def __init__(self):
        super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
        self.nlp = {"en": spacy.blank("en")}
    def load(self):
        pass
engine = Blank()
registry = RecognizerRegistry()
registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
analyzer = AnalyzerEngine(registry, engine, supported_languages=["en"])
texts, kinds = json.load(open(sys.argv[1])), json.loads(sys.argv[2])
[analyzer.analyze(text, "en", entities=list(kinds)) for text in texts[:50]]
began = time.process_time()
found = [analyzer.analyze(text, "en", entities=list(kinds)) for text in texts]
cpu = time.process_time() - began
spans = [[(kinds[one.entity_type], one.start, one.end) for one in row] for row in found]
print(json.dumps({"cpu": cpu, "found": spans}))
"""


def run_child(python: str, program: str, *arguments: str) -> dict[str, Any]:
    """Run a program in a process of its own, on one thread, and return what it prints as JSON."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(ROOT) if python == sys.executable else ""
    done = subprocess.run(
        [python, "-c", program, *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_speed(
    ours: tuple[str, ...], theirs: tuple[str, ...], peer: str, repeats: int
) -> tuple[float, list[float], dict[str, Any], dict[str, Any]]:
    """Run both in turn; return the median ratio of CPU times, all ratios, and the last results."""
    ratios = []
    for _ in range(repeats):
        mine, other = run_child(sys.executable, *ours), run_child(peer, *theirs)
        ratios.append(other["cpu"] / mine["cpu"])
    return statistics.median(ratios), [round(ratio, 1) for ratio in ratios], mine, other


def cut_shingles(text: str) -> set[str]:
    """Return the shingles of a text of letters and blanks as strings, by the definition."""
    text = " ".join(text.lower().split())
    return {text[start : start + 5] for start in range(max(len(text) - 4, 1))}


def measure_duplicates(count: int, seed: int) -> dict[str, Any]:
    """Find pairs of known similarity among texts of 10, 60 and 230 words."""
    from edgetune.data.clean import find_pairs, sketch_texts

    chance = random.Random(seed)
    texts: list[str] = []
    for number in range(count // 2):
        words = (10, 60, 230)[number % 3]
        text = make_prose(chance, words)
        changes = chance.randint(1, max(1, words // 12))
        texts += [text, change_words(chance, text, changes)]
    order = list(range(len(texts)))
    chance.shuffle(order)
    places = {old: new for new, old in enumerate(order)}
    texts = [texts[old] for old in order]
    wanted = set()
    for number in range(0, len(texts), 2):
        left, right = sorted((places[number], places[number + 1]))
        one, other = cut_shingles(texts[left]), cut_shingles(texts[right])
        if len(one & other) >= 0.8 * len(one | other):
            wanted.add((left, right))
    began = time.process_time()
    bands = sketch_texts(texts)
    sketched = time.process_time()
    pairs = find_pairs(bands, lambda rows: [texts[row] for row in rows])
    ended = time.process_time()
    right = 0
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    for left, other in found:
        one, two = cut_shingles(texts[left]), cut_shingles(texts[other])
        right += len(one & two) >= 0.8 * len(one | two)
    return {
        "duplicate_recall": round(len(wanted & found) / len(wanted), 5),
        "duplicate_precision": round(right / len(found), 5),
        "duplicates": {
            "texts": len(texts), "pairs_at_0.8": len(wanted),
            "sketch_cpu_s": round(sketched - began, 3), "find_cpu_s": round(ended - sketched, 3),
        },
    }  # fmt: skip


def measure_datasketch(peer: str, count: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Time texts of about 300 tokens, a tenth of which are near duplicates, against datasketch."""
    chance = random.Random(5)
    texts = [make_prose(chance, 230) for _ in range(count)]
    for number in range(9, count, 10):
        texts[number] = change_words(chance, texts[number - 1], 3)
    path = folder / "texts.json"
    path.write_text(json.dumps(texts))
    ratio, ratios, ours, theirs = compare_speed(
        (OURS_PAIRS, str(path)), (DATASKETCH, str(path)), peer, repeats
    )
    return {
        "speedup_vs_datasketch": round(ratio, 1),
        "datasketch": {
            "texts": count, "ratios": ratios, "rows_per_cpu_s": round(count / ours["cpu"]),
            "datasketch_rows_per_cpu_s": round(count / theirs["cpu"]),
            "pairs": ours["found"], "datasketch_candidates": theirs["found"],
        },
    }  # fmt: skip


def score(wanted: list[set[Any]], found: list[set[Any]]) -> tuple[float, float]:
    """Return recall and precision."""
    hits = sum(len(one & other) for one, other in zip(wanted, found, strict=True))
    return hits / sum(map(len, wanted)), hits / max(sum(map(len, found)), 1)


def measure_pii(peer: str | None, count: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Find personal data in texts of known contents, and time it against Presidio."""
    made = make_texts(count, seed=2026)
    path = folder / "pii.json"
    path.write_text(json.dumps([text for text, _ in made]))
    wanted = [{tuple(value) for value in values} for _, values in made]
    ours = run_child(sys.executable, OURS_PII, str(path))
    recall, precision = score(wanted, [{tuple(one) for one in row} for row in ours["found"]])
    by_kind = {}
    for kind in (*KINDS.values(), "key"):
        mine = [{value for value in values if value[0] == kind} for values in wanted]
        seen = [{tuple(one) for one in row if one[0] == kind} for row in ours["found"]]
        by_kind[kind] = [round(figure, 5) for figure in score(mine, seen)]
    row: dict[str, Any] = {
        "pii_recall": round(recall, 5), "pii_precision": round(precision, 5),
        "speedup_vs_presidio": None,
        "pii": {"texts": count, "recall_precision": by_kind,
                "characters": sum(len(text) for text, _ in made)},
    }  # fmt: skip
    if peer is None:
        return row
    ratio, ratios, ours, theirs = compare_speed(
        (OURS_PII, str(path)), (PRESIDIO, str(path), json.dumps(KINDS)), peer, repeats
    )
    shared = [{value for value in values if value[0] in KINDS.values()} for values in wanted]
    recalls = [
        round(score(shared, [{tuple(one) for one in row} for row in result["found"]])[0], 5)
        for result in (ours, theirs)
    ]
    row["speedup_vs_presidio"] = round(ratio, 1)
    row["pii"] |= {
        "ratios": ratios, "recall_of_its_kinds": recalls[0], "presidio_recall": recalls[1],
        "kb_per_cpu_s": round(row["pii"]["characters"] / 1000 / ours["cpu"]),
        "presidio_kb_per_cpu_s": round(row["pii"]["characters"] / 1000 / theirs["cpu"], 1),
    }  # fmt: skip
    chance = random.Random(6)
    path.write_text(json.dumps([make_prose(chance, 180) for _ in range(count)]))
    row["pii"]["ratio_on_prose"] = round(
        compare_speed(
            (OURS_PII, str(path)), (PRESIDIO, str(path), json.dumps(KINDS)), peer, repeats
        )[0], 1,
    )  # fmt: skip
    return row


def write_chats(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Write train and test rows; of train 2 % are equal, 3 % similar, and 1 % are test rows.

    Rows are written one by one, whatever their number.
    """
    chance = random.Random(seed)
    tests = [make_chat(chance) for _ in range(max(100, count // 100))]
    planted = {"equal": 0, "similar": 0, "leaked": 0}
    last = make_chat(chance)
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(count):
            draw = chance.random()
            if draw < 0.02:
                row, kind = last, "equal"
            elif draw < 0.05:
                changed = [change_words(chance, text, 2) for text in last]
                row, kind = (changed[0], changed[1]), "similar"
            elif draw < 0.06:
                row, kind = chance.choice(tests), "leaked"
            else:
                row, kind = last, ""
                last = make_chat(chance)
            if kind:
                planted[kind] += 1
            file.write(_as_json(row))
    with (folder / "test.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(_as_json(row) for row in tests)
    return planted


def _as_json(row: tuple[str, str]) -> str:
    turns = [
        {"role": role, "content": text}
        for role, text in zip(("user", "assistant"), row, strict=True)
    ]
    return json.dumps({"messages": turns}) + "\n"


def watch(process: subprocess.Popen[str]) -> Iterator[int]:
    """Yield the resident bytes of a process and all below it, until it ends."""
    import psutil

    top = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        try:
            for one in (top, *top.children(recursive=True)):
                total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
        yield total
        time.sleep(0.2)


def measure_tokenizer(model: Path, rows: Path) -> float:
    """Return the CPU seconds that the tokenizer alone takes for a row."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    with rows.open() as lines:
        texts = [
            "\n".join(turn["content"] for turn in json.loads(line)["messages"])
            for line in islice(lines, 2000)
        ]
    tokenizer(texts[:100])
    began = time.process_time()
    for first in range(0, len(texts), 500):
        tokenizer(texts[first : first + 500], add_special_tokens=False)
    return (time.process_time() - began) / len(texts)


def measure_prepare(count: int, folder: Path, named: str | None) -> dict[str, Any]:
    """Run `edgetune prepare` on so many chat rows, twice, and weigh all its processes."""
    model = Path(named) if named else make_tokenizer(folder / "model")
    if not named:
        (model / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    planted = write_chats(folder, count, seed=1)
    command = [
        sys.executable, "-m", "edgetune", "prepare", "--model", str(model),
        "--data", str(folder / "train.jsonl"), "--test", str(folder / "test.jsonl"),
        "--out", str(folder / "out"), "--set", "data.validation_fraction=0.001",
        "--set", "data.clean.duplicates=fix", "--set", "data.clean.near_duplicates=fix",
        "--set", "data.clean.leakage=fix",
    ]  # fmt: skip
    seconds, peak = [], 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(2):
        began = time.monotonic()
        with (folder / "stderr.txt").open("w") as log:
            process = subprocess.Popen(command, stderr=log, text=True, cwd=ROOT)
            peak = max(peak, *watch(process), 0)
        seconds.append(time.monotonic() - began)
        if process.returncode:
            raise SystemExit((folder / "stderr.txt").read_text()[-3000:])
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = spent.ru_utime + spent.ru_stime - used.ru_utime - used.ru_stime
    tokenizer = measure_tokenizer(model, folder / "train.jsonl") * count
    return {
        "prepare_peak_rss_bytes": peak, "rows_per_s": round(count / seconds[0], 1),
        "prepare": {"rows": count, "seconds": round(seconds[0], 1),
                    "second_run_seconds": round(seconds[1], 2), "made": planted,
                    "model": str(named or "trained here"), "cpu_seconds": round(cpu, 1),
                    "tokenizer_cpu_seconds": round(tokenizer, 1),
                    "tokenizer_share": round(tokenizer / cpu, 3)},
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", help="interpreter with datasketch and presidio-analyzer")
    parser.add_argument("--prepare", action="store_true", help="run `edgetune prepare` too")
    parser.add_argument("--prepare-model", help="its folder, instead of a small tokenizer")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of `prepare`")
    parser.add_argument("--quick", action="store_true", help="small sizes; no row is kept")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved pairs of runs")
    parser.add_argument("--note", default="", help="kept in the row, such as what else was running")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    repeats, scale = (1, 10) if args.quick else (args.repeats, 1)
    row: dict[str, Any] = {
        "commit": commit, "note": args.note, "prepare_peak_rss_bytes": None, "rows_per_s": None,
        "speedup_vs_datasketch": None,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        row |= measure_duplicates(30_000 // scale, seed=3)
        if args.peers:
            row |= measure_datasketch(args.peers, 5_000 // scale, repeats, folder)
        row |= measure_pii(args.peers, 4_000 // scale, repeats, folder)
        if args.prepare:
            row |= measure_prepare(args.rows // scale, folder, args.prepare_model)
    if not args.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as kept:
            kept.write(json.dumps(row) + "\n")
    print(json.dumps(row))


if __name__ == "__main__":
    main()
