"""The house's floors: imports point down, and each heavy library has its owners."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "edgetune"
FLOORS = {
    "errors": 0, "log": 0, "recipe": 0, "recipe_file": 0, "artifact": 0,
    "recipe_use": 0, "recipe_values": 0, "rundir": 0, "disk": 0, "lock": 0, "libraries": 0,
    "embedded": 0, "naming": 0,
    "ops": 1,
    "data": 2, "models": 2, "train": 2, "distill": 2, "quantize": 2, "export": 2, "runtimes": 2,
    "measure": 2, "verify": 2,
    "stages": 3,
    "report": 4, "pipeline": 4, "preflight": 4,
    "cli": 5,
}  # fmt: skip
OWNERS = {
    "peft": {"models"},
    "bitsandbytes": {"models"},
    "trl": {"train"},
    "auto_round": {"export/gguf_converter.py", "quantize/autoround.py"},
    "onnxruntime": {
        "runtimes/ort.py",
        "export/onnx.py",
        "export/onnx_blocks.py",
        "export/onnx_adapter.py",
    },
    "onnxruntime_genai": {"export/onnx.py"},
    "llama_cpp": {"runtimes/llamacpp.py", "runtimes/llama_batch.py", "quantize/ggml.py"},
    "click": {"cli"},
}
FILES = sorted(p for p in ROOT.rglob("*.py"))


def imports_of(path: Path) -> list[str]:
    """Every module a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide the floor"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def room_of(path: Path) -> str:
    """The package or module of the house a file belongs to."""
    parts = path.relative_to(ROOT).parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in FLOORS, f"{room} has no floor: add it to the plan"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "edgetune" or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        other = parts[1]
        assert FLOORS[other] <= FLOORS[room], f"{path.name} reaches up to {other}"
        if room == "stages":
            assert other != "stages", f"{path.name} imports another stage"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_heavy_libraries_have_owners(path: Path) -> None:
    here = path.relative_to(ROOT)
    for name in imports_of(path):
        owners = OWNERS.get(name.split(".")[0])
        if owners is not None:
            assert here.as_posix() in owners or here.parts[0] in owners, f"{here} imports {name}"


def test_light_floors_import_no_torch() -> None:
    light = [p for p in FILES if FLOORS.get(room_of(p)) == 0]
    light += [p for p in FILES if room_of(p) == "cli"]
    heavy = {"torch", "transformers", "peft", "trl", "datasets", "onnxruntime", "llama_cpp"}
    for path in light:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {str(n.module).split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
        assert not names & heavy, f"{path} imports {names & heavy} as it is loaded"
