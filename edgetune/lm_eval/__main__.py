"""``edgetune-lm-eval``: lm-eval's own command line, which knows ``--model edgetune`` here.

lm-eval 0.4.13 finds no model outside its own package. Releases after it read the entry point
``lm_eval.models`` of installed packages, and then plain ``lm_eval --model edgetune`` works too.
"""

from __future__ import annotations

import sys

from edgetune.errors import EdgetuneError, InputError


def main() -> None:
    """Run lm-eval with the arguments of this process."""
    try:
        evaluate()
    except EdgetuneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is a command line
        sys.exit(error.exit_code)


def evaluate() -> None:
    """Register the model and hand over to lm-eval's command line.

    Raises:
        InputError: lm-eval is not installed.
    """
    try:
        from lm_eval.__main__ import cli_evaluate

        from edgetune.lm_eval import model  # noqa: F401 - its decorator registers it
    except ImportError as error:
        raise InputError(
            f"lm-eval is not installed ({error})", hint="pip install 'edgetune[lm-eval]'"
        ) from error
    cli_evaluate()


if __name__ == "__main__":
    main()
