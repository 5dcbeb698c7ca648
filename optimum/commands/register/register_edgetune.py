"""``optimum-cli export edgetune``: edgetune's export, with its check, as a command of optimum.

optimum finds this file by its folder, a namespace package (PEP 420) that has no ``__init__.py``.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

# Files of each format where no --precision is given: in 16 bits, and in 8 and 4.
DEFAULTS = {"gguf": ("F16", "Q8_0", "Q4_K_M"), "onnx": ("fp16", "int8", "int4")}


class EdgetuneExportCommand(BaseOptimumCLICommand):
    """Arguments to `edgetune export`, which does the work and ends the process on a failure."""

    COMMAND = CommandInfo(
        name="edgetune",
        help="Export a language model to ONNX and GGUF files, each compared with the model.",
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("-m", "--model", required=True, help="Model folder or hub id.")
        parser.add_argument("output", type=Path, help="New folder for the files.")
        parser.add_argument(
            "--format", choices=sorted(DEFAULTS), default="onnx", help="Of the files.  [onnx]"
        )
        parser.add_argument(
            "--precision",
            action="append",
            metavar="NAME",
            help="fp32, fp16, int8 or int4 (ONNX); F16, Q8_0, Q4_K_M, … (GGUF); may be repeated.",
        )
        parser.add_argument(
            "--data",
            default="embedded:devices/train.jsonl",
            help="Rows to calibrate and compare on; your own are better.  [%(default)s]",
        )

    def run(self) -> None:
        """Run the export as `edgetune export` would: same files, messages and exit code."""
        from edgetune.cli import main

        schemes = self.args.precision or DEFAULTS[self.args.format]
        sys.argv = ["edgetune", "export", "--model", self.args.model, "--data", self.args.data]
        sys.argv += ["--out", str(self.args.output)]
        sys.argv += [part for scheme in schemes for part in ("--scheme", scheme)]
        main()


REGISTER_COMMANDS = [(EdgetuneExportCommand, ExportCommand)]
