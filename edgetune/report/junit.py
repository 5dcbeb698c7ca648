"""Gates as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

#: What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Mapping[str, Any]) -> str:
    """Return one test case for each gate of a report; those that do not hold are failures."""
    gates = report["gates"]
    failed = sum(not gate["ok"] for gate in gates)
    counts = {"tests": str(len(gates)), "failures": str(failed), "errors": "0"}
    name = _text(report["name"])
    root = ElementTree.Element("testsuites", {"name": "edgetune", **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    if report.get("created"):
        suite.set("timestamp", _text(report["created"]))
    for gate in gates:
        case = {"classname": f"{name}.gates", "name": _text(gate["name"])}
        element = ElementTree.SubElement(suite, "testcase", case)
        value = gate["value"]
        said = "nothing was measured" if value is None else f"the value is {value:.6g}"
        if not gate["ok"]:
            message = f"{_text(gate['name'])}: {said}, the limit is {gate['limit']:g}"
            failure = {"message": message, "type": "gate"}
            ElementTree.SubElement(element, "failure", failure).text = message
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _text(value: object) -> str:
    return _FORBIDDEN.sub("\ufffd", str(value))
