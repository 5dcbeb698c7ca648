"""``edgetune doctor``: what this machine can do, and how to fix what it cannot."""

from __future__ import annotations

import importlib
import importlib.util
import json

import click

# module, what it is for, the command that installs it
_NEEDED = (
    ("torch", "training", "pip install torch"),
    ("transformers", "models", "pip install transformers"),
    ("peft", "adapters", "pip install peft"),
    ("bitsandbytes", "4-bit base weights", "pip install bitsandbytes"),
    ("trl", "fine-tuning", "pip install trl"),
    ("llama_cpp", "GGUF files", "pip install llama-cpp-python (needs a C++ compiler)"),
    ("gguf", "writing GGUF", "pip install gguf"),
    ("auto_round", "llama.cpp's converter", "pip install 'auto-round>=0.14.2,<0.15'"),
    ("onnxruntime", "ONNX files", "pip install onnxruntime"),
    ("onnxruntime_genai", "writing ONNX", "pip install onnxruntime-genai"),
)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead.")
def command(as_json: bool) -> None:
    """Say what this machine can do: cores, memory, GPU, every runtime, what is missing."""
    from edgetune.models.compute_dtype import choose_dtype
    from edgetune.models.hardware import describe_machine

    machine = describe_machine()
    checks = [
        {"module": module, "for": purpose, "ok": not (fault := _fault(module)),
         "fault": fault, "mend": mend if fault else ""}
        for module, purpose, mend in _NEEDED
    ]  # fmt: skip
    device = "cuda" if machine["gpu"] else "cpu"
    chosen = choose_dtype("auto", device)
    machine["compute_dtype"], machine["compute_dtype_reason"] = chosen.name, chosen.reason
    machine["flops"] = dict(chosen.flops)
    healthy = all(check["ok"] for check in checks)
    machine["warnings"] = _warnings(checks)
    machine["gpu_formats"] = _gpu_formats(checks) if machine["gpu"] else {}
    if as_json:
        click.echo(json.dumps({"ok": healthy, "machine": machine, "checks": checks}))
    else:
        _print(machine, checks)
    if not healthy:
        raise click.exceptions.Exit(2)


def _fault(module: str) -> str:
    """Why a module cannot be used; empty when it can. Importing is the only honest test."""
    if importlib.util.find_spec(module) is None:
        return "not installed"
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken build can raise anything
        return f"{type(error).__name__}: {error}"
    return ""


def _gpu_formats(checks: list[dict[str, object]]) -> dict[str, str]:
    """Return for each format why it does not run on the GPU, and what would; empty where it does.

    Where its package is not installed or broken, the checks say so.
    """
    from edgetune.runtimes.gpu import REMEDIES, find_gpu_fault

    working = {check["module"] for check in checks if check["ok"]}
    found = {}
    for kind, module in (("hf", "torch"), ("gguf", "llama_cpp"), ("onnx", "onnxruntime")):
        if module in working:
            fault = find_gpu_fault(kind)
            found[kind] = f"{fault}: {REMEDIES[kind]}" if fault else ""
    return found


def _warnings(checks: list[dict[str, object]]) -> list[str]:
    """What works, but not as it could."""
    if not all(check["ok"] for check in checks if check["module"] == "llama_cpp"):
        return []
    from edgetune.runtimes.amx import has_broken_amx

    if not has_broken_amx():
        return []
    return [
        "this llama.cpp was compiled for AMX by a GCC that compiles that wrongly (bug 114098), and "
        "other programs crash with it; edgetune goes round it. To be fast again: "
        "CMAKE_ARGS='-DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8' "
        "pip install --force-reinstall --no-cache-dir --no-deps llama-cpp-python"
    ]


def _print(machine: dict[str, object], checks: list[dict[str, object]]) -> None:
    memory = float(str(machine["memory_bytes"])) / 2**30
    features = ", ".join(str(machine["features"]).strip("[]").replace("'", "").split(", "))
    click.echo(f"processor   {machine['processor']}, {machine['cores']} cores ({features})")
    click.echo(f"memory      {memory:.1f} GiB")
    click.echo(f"GPU         {machine['gpu'] or 'none: everything runs on the CPU'}")
    click.echo(f"computes in {machine['compute_dtype']} ({machine['compute_dtype_reason']})")
    for kind, fault in machine["gpu_formats"].items():  # type: ignore[attr-defined]
        name = "Hugging Face models" if kind == "hf" else f"{kind.upper()} files"
        click.echo(f"on the GPU  {name}: {fault or 'yes'}")
    if machine["gpu"] and importlib.util.find_spec("pynvml") is None:
        click.echo(
            "GPU memory  by torch's own count: pip install nvidia-ml-py counts the process's"
        )
    for warning in machine["warnings"]:  # type: ignore[attr-defined]
        click.echo(f"{click.style('warning', fg='yellow')}     {warning}")
    for check in checks:
        mark = (
            click.style("ok     ", fg="green") if check["ok"] else click.style("missing", fg="red")
        )
        click.echo(f"{mark}     {check['module']!s:<18} {check['for']}")
        if not check["ok"]:
            click.echo(f"            {check['fault']}: {check['mend']}")
