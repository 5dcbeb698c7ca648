"""Feed mutated real files to the readers: no crash, no hang, no memory without bound.

    python bench/fuzz.py --kind gguf --minutes 10 --json

A worker process takes one mutation after another; this one watches its time and its memory, kills
it when either is out of bounds, and keeps the input. Every case is fixed by its seed:
``--seed N --cases 1`` repeats one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

HANG_SECONDS = 10.0
MEMORY_BYTES = 1 << 30
RESULTS = Path(__file__).parent / "results" / "fuzz.jsonl"
_NUMBERS = (
    0,
    1,
    2,
    127,
    255,
    65_535,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def mutate_bytes(rng: random.Random, raw: bytes, head: int) -> bytes:
    """Change one to six places, most of them in the first ``head`` bytes."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        at = rng.randrange(min(head, len(data)) if rng.random() < 0.85 else len(data))
        roll = rng.random()
        if roll < 0.25:
            data[at] ^= 1 << rng.randrange(8)
        elif roll < 0.4:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif roll < 0.7:
            layout = rng.choice(("<Q", "<I"))
            width = struct.calcsize(layout)
            number = rng.choice(_NUMBERS) & ((1 << 8 * width) - 1)
            data[at : at + width] = struct.pack(layout, number)
        elif roll < 0.8:
            del data[at:]
        elif roll < 0.9:
            other = rng.randrange(len(data))
            data[at:at] = data[other : other + rng.randint(1, 64)]
        else:
            del data[at : at + rng.randint(1, 64)]
    return bytes(data)


_ODD: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None, lambda rng: -1, lambda rng: 10**12, lambda rng: 1e308, lambda rng: "",
    lambda rng: "x" * 100_000, lambda rng: [], lambda rng: {}, lambda rng: True,
    lambda rng: "(a+)+$", lambda rng: "(", lambda rng: "\ud800", lambda rng: [[[[[]]]]],
    lambda rng: rng.choice(("BPE", "Unigram", "WordPiece", "Split", "Sequence", "ByteLevel")),
)  # fmt: skip


def mutate_json(rng: random.Random, raw: bytes, head: int) -> bytes:
    """Replace, drop or move a few values of a JSON file; sometimes break its bytes instead."""
    if rng.random() < 0.3:
        return mutate_bytes(rng, raw, head)
    value = json.loads(raw)
    for _ in range(rng.randint(1, 3)):
        holder, key = value, None
        while isinstance(holder, dict | list) and holder:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = rng.choice(keys)
            if not isinstance(holder[key], dict | list) or rng.random() < 0.3:
                break
            holder = holder[key]
        if key is None or not holder or not isinstance(holder, dict | list):
            continue
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = rng.choice(_ODD)(rng)
    return json.dumps(value).encode()


_HOSTILE = (
    "{% for i in range(1000000000) %}x{% endfor %}", "{{ 'x' * 10000000000 }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(99999) %}{% set ns.a = ns.a + [i] * 999 %}"
    "{% endfor %}", "{{ messages.__class__.__mro__ }}", "{{ cycler.__init__.__globals__ }}",
    "{{ ''.join(messages[0].__dict__) }}", "{% include '/etc/passwd' %}", "{{ 2 ** 2 ** 2 ** 9 }}",
    "{{ '%99999999999d' % 1 }}", "{{ '{:>9999999999}'.format(1) }}", "{{ lipsum(9999999) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ messages | tojson(indent=999999999) }}",
    "{{ range(10**18) | list }}", "{{ 'a' | center(10**11) }}", "{{ messages.append(1) }}",
)  # fmt: skip


def mutate_template(rng: random.Random, raw: bytes, head: int) -> bytes:
    """Put a hostile piece somewhere, or cut and mix the template's own tags."""
    text = raw.decode()
    for _ in range(rng.randint(1, 3)):
        at = rng.choice((0, len(text), rng.randrange(len(text) + 1)))
        roll = rng.random()
        if roll < 0.5:
            text = text[:at] + rng.choice(_HOSTILE) + text[at:]
        elif roll < 0.75:
            other = rng.randrange(len(text) + 1)
            text = text[:at] + text[other : other + rng.randint(1, 80)] + text[at:]
        else:
            text = text[:at] + text[at + rng.randint(1, 40) :]
    return text.encode()


def read_gguf(folder: Path) -> None:
    """Open the file as ``verify`` does, and ask for a few logits."""
    from edgetune.compare.model_spec import declared_ends, resolve_spec

    subject = resolve_spec(str(folder / "model.gguf"))
    declared_ends(subject)
    runtime = subject.open()
    try:
        ids = runtime.tokenize("once upon a time")
        runtime.logits(ids or [0])
    finally:
        runtime.close()


def read_safetensors(folder: Path) -> None:
    """Load the folder in torch, and ask for a few logits."""
    from edgetune.compare.model_spec import resolve_spec
    from edgetune.diagnose.tensors import FolderTensors

    subject = resolve_spec(str(folder))
    tensors = FolderTensors(folder)
    for name in tensors.entries:
        tensors.read(name)
    runtime = subject.open()
    try:
        runtime.logits([1, 2, 3])
    finally:
        runtime.close()


def read_tokenizer(folder: Path) -> None:
    """Load the tokenizer and spell the probes; read what ``verify`` reads of its file."""
    from edgetune.compare.loaded import LoadedModel
    from edgetune.compare.model_spec import ModelSpec
    from edgetune.compare.probes import TEXTS
    from edgetune.models.ref import ModelRef
    from edgetune.models.tokenizer_files import load_tokenizer

    side = LoadedModel(ModelSpec(str(folder), "hf", ModelRef(folder), "float32"), None)  # type: ignore[arg-type]
    _ = side.pieces, side.special_tokens
    tokenizer = load_tokenizer(folder)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        tokenizer.decode(ids)


def read_template(folder: Path) -> None:
    """Render the golden conversations."""
    from edgetune.compare.probes import CONVERSATIONS
    from edgetune.runtimes.template import render_template

    source = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for messages in CONVERSATIONS[:2]:
        render_template(source, messages, {"eos_token": "</s>", "bos_token": "<s>"}, str(folder))


KINDS: dict[str, tuple[str, Callable[..., bytes], Callable[[Path], None]]] = {
    "gguf": ("model.gguf", mutate_bytes, read_gguf),
    "safetensors": ("model.safetensors", mutate_bytes, read_safetensors),
    "tokenizer": ("tokenizer.json", mutate_json, read_tokenizer),
    "template": ("chat_template.jinja", mutate_template, read_template),
}


def make_corpus(folder: Path) -> None:
    """Write the small real model that is mutated: the embedded base, two layers of it, as files."""
    from edgetune.distill.prune_depth import cut_depth
    from edgetune.embedded import locate
    from edgetune.export.gguf.converter import GgufHeader
    from edgetune.export.gguf.f32 import convert_gguf
    from edgetune.models.tokenizer_files import load_tokenizer

    cut_depth(locate("base"), [0, 1], folder)
    convert_gguf(folder, folder / "model.gguf", GgufHeader("seed"))
    template = load_tokenizer(folder).chat_template
    (folder / "chat_template.jinja").write_text(str(template), encoding="utf-8")


def work(kind: str, seed: int, folder: Path, corpus: Path) -> None:
    """Take seeds from stdin, one a line; answer each with one line of JSON."""
    from edgetune.errors import EdgetuneError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    name, mutate, read = KINDS[kind]
    raw = (corpus / name).read_bytes()
    head = len(raw) // 20 if kind == "gguf" else 8192
    for line in sys.stdin:
        data = mutate(random.Random(int(line)), raw, head)
        (folder / name).write_bytes(data)
        answer = "read"
        try:
            read(folder)
        except EdgetuneError as error:
            answer = "refused" if error.where else f"FAULT no place named: {error.what}"
        except BaseException as error:  # a Rust panic is no Exception
            answer = f"FAULT {type(error).__name__}: {str(error)[:200]}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Worker:
    """The process that reads; watched from here."""

    def __init__(self, kind: str, corpus: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        for file in corpus.iterdir():
            if file.is_file() and file.name != KINDS[kind][0]:
                shutil.copy(file, self.folder)
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", str(self.folder), "--kind", kind,
             "--corpus", str(corpus)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.base = 0

    def run(self, seed: int, patience: float) -> tuple[str, float, int]:
        """Return what became of a case, its seconds, and the memory it took above the start."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{seed}\n".encode())
        self.process.stdin.flush()
        began, peak, line = time.monotonic(), 0, b""
        while True:
            line += self.process.stdout.read() or b""
            spent = time.monotonic() - began
            peak = max(peak, resident(self.process.pid) - self.base)
            if line.endswith(b"\n"):
                return str(json.loads(line)), spent, peak
            if self.process.poll() is not None:
                return f"FAULT the process died with {self.process.returncode}", spent, peak
            if spent > patience:
                return f"FAULT no answer in {patience:.0f} s", spent, peak
            if self.base and peak > MEMORY_BYTES:
                return f"FAULT {peak >> 20} MB", spent, peak
            time.sleep(0.005)

    def close(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def resident(pid: int) -> int:
    """Bytes that a process and its children hold."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            status = Path(f"/proc/{one}/statm").read_text().split()
            total += int(status[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, IndexError):
            continue
    return total


def fuzz(kind: str, minutes: float, cases: int | None, seed: int, corpus: Path) -> dict[str, Any]:
    """Run until the time or the cases are over; return the figures and every fault's seed."""
    end = time.monotonic() + 60 * minutes
    found: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    worker, slowest, largest, number = None, 0.0, 0, 0
    while (cases is None or number < cases) and time.monotonic() < end:
        if worker is None:
            worker = Worker(kind, corpus)
            worker.run(-1, 120.0)  # imports, and a case to warm up
            worker.base = resident(worker.process.pid)
        said, spent, peak = worker.run(seed + number, HANG_SECONDS)
        slowest, largest = max(slowest, spent), max(largest, peak)
        found[said.split()[0]] += 1
        if said.startswith("FAULT"):
            faults.append({"seed": seed + number, "what": said})
            print(f"{kind} {seed + number}: {said}", file=sys.stderr)
            worker.close()
            worker = None
        number += 1
    if worker:
        worker.close()
    return {
        "kind": kind, "cases": number, "minutes": minutes, "first_seed": seed, **found,
        "slowest_s": round(slowest, 2), "peak_mb": largest >> 20, "faults": faults,
    }  # fmt: skip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="twenty cases a kind")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.kind[0], args.seed, args.work, args.corpus)
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus = args.corpus or Path(folder)
        if not args.corpus:
            make_corpus(corpus)
        rows = []
        for kind in args.kind or KINDS:
            cases = 20 if args.quick else args.cases
            rows.append(fuzz(kind, args.minutes, cases, args.seed, corpus))
            print(rows[-1], file=sys.stderr)
    if not args.quick and not args.cases:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    if args.json:
        print(json.dumps({row["kind"]: row for row in rows}))
    sys.exit(1 if any(row["faults"] for row in rows) else 0)


if __name__ == "__main__":
    main()
