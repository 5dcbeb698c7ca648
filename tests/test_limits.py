"""Limits of size: a function's lines and parameters, a file's lines; exceptions with reasons."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_OF_A_FUNCTION = 60
PARAMETERS_OF_A_FUNCTION = 6
LINES_OF_A_FILE = 300
# "file" or "file::function" -> why it is over a limit. A row that is no longer needed fails.
EXCEPTIONS = {
    "ops/linear_loss.py::forward": "torch hands an autograd function every input as a parameter",
}


def find_excess() -> dict[str, str]:
    """Return what is over a limit in the package: file or file::function, and by how much."""
    excess = {}
    for path in sorted((ROOT / "edgetune").rglob("*.py")):
        name = path.relative_to(ROOT / "edgetune").as_posix()
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > LINES_OF_A_FILE:
            excess[name] = f"{lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for problem in measure_function(node):
                    excess[f"{name}::{node.name}"] = problem
    return excess


def measure_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return the limits that a function is over: its lines with decorators, its parameters."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    lines = (node.end_lineno or node.lineno) - first + 1
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    parameters = [argument for argument in every if argument.arg not in ("self", "cls")]
    # Click hands a command each of its options as a parameter.
    is_command = any("command" in ast.unparse(d) for d in node.decorator_list)
    problems = []
    if lines > LINES_OF_A_FUNCTION and not is_command:
        problems.append(f"{lines} lines")
    if len(parameters) > PARAMETERS_OF_A_FUNCTION and not is_command:
        problems.append(f"{len(parameters)} parameters")
    return problems


def test_sizes_are_within_limits() -> None:
    excess = find_excess()
    over = {name: size for name, size in excess.items() if name not in EXCEPTIONS}
    assert not over, "split these, or give the reason in EXCEPTIONS"
    unneeded = sorted(set(EXCEPTIONS) - set(excess))
    assert not unneeded, "these are within the limits now: remove their rows"


@pytest.mark.parametrize(
    ("source", "problems"),
    [
        ("def f(a, b, c, d, e, g):\n    return 1\n", []),
        ("def f(a, b, c, d, e, g, *, h):\n    return 1\n", ["7 parameters"]),
        ("def f(self, a, b, c, d, e, g):\n    return 1\n", []),
        ("def f():\n" + "    x = 1\n" * 60, ["61 lines"]),
        ("def f():\n" + "    x = 1\n" * 59, []),
        ("@command()\ndef f(a, b, c, d, e, g, h):\n    return 1\n", []),
    ],
    ids=["six", "seven", "self", "long", "just-short", "command"],
)
def test_each_limit_is_found(source: str, problems: list[str]) -> None:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert measure_function(node) == problems
