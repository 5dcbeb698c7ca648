"""The command line: one thin command a file, imported only when it runs."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import warnings
from collections.abc import Mapping
from types import FrameType, MappingProxyType
from typing import Any

import click

from edgetune import __version__
from edgetune.errors import EdgetuneError, Interrupted, nearest

# In the order of the work. The summaries stand here so that help imports no command.
COMMANDS = {
    "init": "Write a starter recipe.",
    "plan": "Say what memory, disk and time a recipe will take.",
    "doctor": "Say what this machine can do.",
    "data": "Look at the data that a recipe names.",
    "synthesize": "Have a teacher write rows, and keep what validators accept.",
    "prepare": "Read, clean, split and tokenize rows into the dataset that training reads.",
    "tune": "Fine-tune a model on rows with QLoRA.",
    "distill": "Train a smaller student on the teacher's cached distribution.",
    "merge": "Merge an adapter into its base, measured over both bases.",
    "quantize": "Choose the type of every tensor.",
    "export": "Write GGUF and ONNX files and compare each with the model.",
    "verify": "Compare a candidate model with a reference, and name what differs.",
    "compare": "Have people vote blindly for the better of two models' answers.",
    "bench": "Measure models and files, each in its own runtime.",
    "report": "Write a run's report again, or compare two runs.",
    "sweep": "Search the settings of a recipe, measured on the file that ships.",
    "run": "Do all of it: skip what is done, go on where it was interrupted.",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of the same name, so that help loads nothing heavy."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command's module, or none for an unknown name."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgetune.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is no such one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(f"no command '{args[0]}'{nearest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="edgetune %(version)s")
def cli() -> None:
    """Tune, distil, merge, quantize and export a language model; measure every file that ships.

    `edgetune run RECIPE` does the whole job. Every stage also works alone on Hugging Face folders
    and data files. Results go to stdout, everything else to stderr.

    Exit codes: 0 done, 2 your input, 3 a gate failed, 130 interrupted, 1 a bug of ours.
    """


def main() -> None:
    """Run the command line; turn what edgetune can explain into a message and an exit code."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # OpenMP's threads spin while they wait: beside one other job on two cores training fell from
    # 780 to 56 tokens/s. Not to spin at all costs a tenth of an idle machine's speed, so they spin
    # for some microseconds and then sleep. Read when torch is imported, so it is set before.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # oneDNN keeps a program for each shape it multiplied in bfloat16, 5 MB apiece, 1,024 of them:
    # with rows of all lengths training grew to 4.8 GB. 64 hold the shapes of a step that recur.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    # torch keeps its own 1,024 of what it asked oneDNN for: 450 MB after 41 rows of all lengths.
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.warnoptions:  # what libraries deprecate among themselves is not the user's to fix
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
    try:
        # Without standalone mode click hands a command's exit code back instead of ending.
        code = cli.main([_expand_home(one) for one in sys.argv[1:]], standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        _finish(error.exit_code, str(error.format_message()))
    except (click.Abort, KeyboardInterrupt):
        message = "interrupted; the same command goes on from the last checkpoint"
        click.echo(message, err=True)
        _finish(130, message)
    except EdgetuneError as error:
        label = "stopped" if isinstance(error, Interrupted) else "error"
        click.echo(f"{click.style(label, fg='red', bold=True)}: {error}", err=True)
        _finish(error.exit_code, str(error), error.result)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        from edgetune.disk import explain_place, is_place_fault

        if not is_place_fault(error):
            raise
        fault = explain_place(error, error.filename or "the disk", "the system")
        click.echo(f"{click.style('error', fg='red', bold=True)}: {fault}", err=True)
        _finish(fault.exit_code, str(fault))


def _expand_home(argument: str) -> str:
    """Return ``--flag=~/x`` with the home folder, which shells expand only after a space."""
    flag, home, rest = argument.partition("~")
    if not home or not re.fullmatch(r"(--(?!set=)[\w-]+=)?", flag):
        return argument
    from edgetune.recipe import expand_home

    return flag + expand_home(home + rest)


def _finish(code: int, message: str, result: Mapping[str, Any] = MappingProxyType({})) -> None:
    """End with ``code``; programs that asked for JSON get the reason as JSON, after the result."""
    if "--json" in sys.argv:
        said = {**result, "ok": False, "exit_code": code, "error": message}
        click.echo(json.dumps(said, default=str))
    sys.exit(code)
