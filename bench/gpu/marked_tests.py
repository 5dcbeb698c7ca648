"""The tests marked gpu, on this machine; with --cpu on the CPU, to try the tests themselves."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
#: With --cpu one of each kind, for want of time: every test has run so when it was written.
FEW = "auto_takes or moves or sample or nf4_is and fp32 or memory or rows or policy"


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true")
    cpu = parser.parse_args().cpu
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.xml"
        command = [
            sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider",
            f"--junit-xml={path}", "--durations=5", *(["-k", FEW] if cpu else []), "tests",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
        cases = ElementTree.parse(path).getroot().iter("testcase") if path.exists() else []
        faults, passed, skipped = [], 0, []
        for case in cases:
            name = f"{case.get('classname')}::{case.get('name')}"
            if (bad := case.find("failure")) is not None or (bad := case.find("error")) is not None:
                faults.append(f"{name}: {(bad.get('message') or '')[:200]}")
            elif (why := case.find("skipped")) is not None:
                skipped.append(f"{name}: {why.get('message')}")
            else:
                passed += 1
    if not passed:
        faults.append(f"no test passed; pytest ended with {done.returncode}")
    print(json.dumps({"faults": faults, "passed": passed, "skipped": skipped}))


if __name__ == "__main__":
    main()
