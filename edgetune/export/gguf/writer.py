"""The gguf package's writer, quick enough for large vocabularies."""

from __future__ import annotations

import struct
from typing import Any

from gguf import GGUFValueType, GGUFWriter


class GgufWriter(GGUFWriter):
    """Packs lists whole: value by value, a vocabulary of 150,000 tokens takes three seconds."""

    def _pack_val(self, val: Any, vtype: Any, add_vtype: bool, sub_type: Any = None) -> bytes:
        letter, are_texts = (
            self._simple_value_packing.get(sub_type), sub_type == GGUFValueType.STRING
        )  # fmt: skip
        if vtype != GGUFValueType.ARRAY or not (letter or are_texts) or len(val) == 0:
            packed: bytes = super()._pack_val(val, vtype, add_vtype, sub_type)
            return packed
        head = struct.pack("<I", vtype) if add_vtype else b""
        head += struct.pack("<IQ", sub_type, len(val))
        if not are_texts:
            return head + struct.pack(f"<{len(val)}{letter}", *val)
        texts = [one.encode() if isinstance(one, str) else one for one in val]
        return head + b"".join(struct.pack("<Q", len(one)) + one for one in texts)
