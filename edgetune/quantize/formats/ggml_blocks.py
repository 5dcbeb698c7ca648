"""The block layouts of ggml types: bytes to quants, scales and mins, and back.

A weight is scale x quant - min in blocks of 16 or 32; a float16 super-block scale ``d``, and
``dmin`` where there are mins, multiply the blocks' own. Quants and super-block scales can be
rewritten with everything else kept, so what a method chose is what the file holds.

Source: ggml-common.h and ``dequantize_row_*`` of ggml-quants.c (llama.cpp). R rows, C columns, B
blocks and S super-blocks a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgetune.errors import Unsupported
from edgetune.quantize.formats.codec import Unpacked


@dataclass(frozen=True)
class GgmlCodec:
    """The block layout of one ggml type.

    Attributes:
        zero: quant whose value is −min.
        last: highest quant; the lowest is ``first``.
        read: bytes [R, S, size of a super-block] to :class:`Unpacked`.
        write: puts quants [R, S, weights of a super-block] into such bytes, in place.
        block: weights of a super-block, and its bytes.
        super-block scales: at which of its bytes the float16 stand that multiply scales and mins.
    """

    zero: int
    first: int
    last: int
    read: Callable[[np.ndarray], Unpacked]
    write: Callable[[np.ndarray, np.ndarray], None]
    block: tuple[int, int]
    super_scales: tuple[int, ...]

    def unpack(self, raw: np.ndarray) -> Unpacked:
        """Return the quants and scales of rows ``[R, row_bytes]``."""
        quants = self.read(self._superblocks(raw))
        return quants._replace(quants_RC=quants.quants_RC.reshape(len(raw), -1))

    def pack(self, raw: np.ndarray, quants_RC: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with their quants replaced and their scales kept."""
        packed = raw.copy()
        blocks = self._superblocks(packed)
        self.write(blocks, quants_RC.astype(np.uint8).reshape(*blocks.shape[:2], self.block[0]))
        return packed

    def read_super_scales(self, raw: np.ndarray) -> np.ndarray:
        """Return what multiplies each super-block's scales, then its mins, [R, S, 1 or 2]."""
        return np.stack([_halves(self._superblocks(raw), at) for at in self.super_scales], axis=-1)

    def write_super_scales(self, raw: np.ndarray, scales_RSF: np.ndarray) -> np.ndarray:
        """Return the rows ``raw`` with these super-block scales, as float16; quants stay."""
        packed = raw.copy()
        blocks = self._superblocks(packed)
        for number, at in enumerate(self.super_scales):
            halves = np.ascontiguousarray(scales_RSF[..., number : number + 1], np.float16)
            blocks[..., at : at + 2] = halves.view(np.uint8)
        return packed

    def _superblocks(self, raw: np.ndarray) -> np.ndarray:
        return raw.reshape(len(raw), -1, self.block[1])


def find_codec(ggml_type: str) -> GgmlCodec:
    """Return the codec of a type.

    Raises:
        Unsupported: its values are no multiples of a scale (the IQ types), or it has no scale.
    """
    if ggml_type not in CODECS:
        raise Unsupported(
            f"the quants of {ggml_type} cannot be rewritten",
            hint=f"types whose quants can be: {', '.join(CODECS)}",
        )
    return CODECS[ggml_type]


def _halves(blocks: np.ndarray, at: int) -> np.ndarray:
    """Return the float16 at byte ``at`` of each block, as float32 [R, B]."""
    part = np.ascontiguousarray(blocks[..., at : at + 2])
    return part.view(np.float16)[..., 0].astype(np.float32)


def _flat(values_RSB: np.ndarray) -> np.ndarray:
    return values_RSB.reshape(len(values_RSB), -1)


# Q8_0: a float16 scale, 32 int8 quants; here quant + 128.
def _read_q8_0(blocks: np.ndarray) -> Unpacked:
    return Unpacked(blocks[..., 2:] ^ 0x80, _halves(blocks, 0), None)


def _write_q8_0(blocks: np.ndarray, quants: np.ndarray) -> None:
    blocks[..., 2:] = quants ^ 0x80


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """Byte j holds weight j in its low half and weight j + n in its high half."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _pack_nibbles(quants: np.ndarray) -> np.ndarray:
    half = quants.shape[-1] // 2
    packed: np.ndarray = (quants[..., :half] & 15) | (quants[..., half:] << 4)
    return packed


def _legacy(bits: int, has_minimum: bool) -> GgmlCodec:
    """Q4_0, Q4_1, Q5_0, Q5_1: float16 scale (and minimum), fifth bits as a uint32, nibbles."""
    start = 4 if has_minimum else 2
    low = start + (4 if bits == 5 else 0)

    def read(blocks: np.ndarray) -> Unpacked:
        quants = _nibbles(blocks[..., low:])
        if bits == 5:
            fifth = np.unpackbits(blocks[..., start:low], axis=-1, bitorder="little")
            quants = quants | (fifth << 4)
        mins = -_halves(blocks, 2) if has_minimum else None
        return Unpacked(quants, _halves(blocks, 0), mins)

    def write(blocks: np.ndarray, quants: np.ndarray) -> None:
        blocks[..., low:] = _pack_nibbles(quants & 15)
        if bits == 5:
            blocks[..., start:low] = np.packbits(quants >> 4, axis=-1, bitorder="little")

    zero = 0 if has_minimum else 1 << (bits - 1)
    return GgmlCodec(
        zero, 0, (1 << bits) - 1, read, write, (32, low + 16), (0, 2)[: 1 + has_minimum]
    )


def _k_scales(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unpack the 8 scales and 8 minima of 6 bits each of Q4_K and Q5_K (get_scale_min_k4)."""
    low, high, rest = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    scales = np.concatenate([low & 63, (rest & 15) | ((low >> 6) << 4)], axis=-1)
    minima = np.concatenate([high & 63, (rest >> 4) | ((high >> 6) << 4)], axis=-1)
    return scales, minima


def _q45_k(bits: int) -> GgmlCodec:
    """Q4_K, Q5_K: d, dmin, 12 bytes of scales, for 5 bits 32 bytes of fifth bits, nibbles."""
    low = 16 + (32 if bits == 5 else 0)

    def read(blocks: np.ndarray) -> Unpacked:
        scales, minima = _k_scales(blocks[..., 4:16])
        scale = _halves(blocks, 0)[..., None] * scales
        mins = _halves(blocks, 2)[..., None] * minima
        # 32 bytes hold 32 weights in their low halves and the next 32 in their high ones.
        quants = _nibbles(blocks[..., low:].reshape(*blocks.shape[:2], 4, 32))
        quants = quants.reshape(*blocks.shape[:2], 8, 32)
        if bits == 5:
            fifth = blocks[..., None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]
            quants = quants | ((fifth & 1) << 4)
        return Unpacked(quants.reshape(*blocks.shape[:2], 256), _flat(scale), _flat(mins))

    def write(blocks: np.ndarray, quants: np.ndarray) -> None:
        parts = quants.reshape(*blocks.shape[:2], 4, 64)
        blocks[..., low:] = _pack_nibbles(parts & 15).reshape(*blocks.shape[:2], 128)
        if bits == 5:
            fifth = (quants >> 4).reshape(*blocks.shape[:2], 8, 32)
            places = np.arange(8, dtype=np.uint8)[:, None]
            blocks[..., 16:48] = (fifth << places).sum(axis=-2, dtype=np.uint8)

    return GgmlCodec(0, 0, (1 << bits) - 1, read, write, (256, low + 128), (0, 2))


# Q6_K: 128 bytes of low halves, 64 of upper two bits, 16 int8 scales of 16 weights each, d.
def _read_q6_k(blocks: np.ndarray) -> Unpacked:
    shape = blocks.shape[:2]
    low = blocks[..., :128].reshape(*shape, 2, 2, 32)  # half, row of 32 bytes
    high = blocks[..., 128:192].reshape(*shape, 2, 32)
    parts = [
        (low[..., row, :] >> (4 * half) & 15) | ((high >> (2 * (2 * half + row)) & 3) << 4)
        for half in (0, 1)
        for row in (0, 1)
    ]
    quants = np.stack(parts, axis=-2).reshape(*shape, 256)
    scales = np.ascontiguousarray(blocks[..., 192:208]).view(np.int8).astype(np.float32)
    return Unpacked(quants, _flat(_halves(blocks, 208)[..., None] * scales), None)


def _write_q6_k(blocks: np.ndarray, quants: np.ndarray) -> None:
    shape = blocks.shape[:2]
    parts = quants.reshape(*shape, 2, 4, 32)
    low = [(parts[..., row, :] & 15) | ((parts[..., row + 2, :] & 15) << 4) for row in (0, 1)]
    blocks[..., :128] = np.stack(low, axis=-2).reshape(*shape, 128)
    places = (2 * np.arange(4, dtype=np.uint8))[:, None]
    high = ((parts >> 4) << places).sum(axis=-2, dtype=np.uint8)
    blocks[..., 128:192] = high.reshape(*shape, 64)


# Q3_K: 32 bytes of third bits, 64 of lower two, 12 bytes of 16 six-bit scales, d.
def _read_q3_k(blocks: np.ndarray) -> Unpacked:
    shape = blocks.shape[:2]
    third, low = blocks[..., None, None, :32], blocks[..., 32:96].reshape(*shape, 2, 1, 32)
    two = low >> (2 * np.arange(4, dtype=np.uint8))[:, None] & 3
    places = np.arange(8, dtype=np.uint8).reshape(2, 4, 1)
    quants = (two | ((third >> places & 1) << 2)).reshape(*shape, 256)
    packed = blocks[..., 96:108]
    low_bits = np.concatenate([packed[..., :8] & 15, packed[..., :8] >> 4], axis=-1)
    high_bits = packed[..., None, 8:] >> (2 * np.arange(4, dtype=np.uint8))[:, None] & 3
    scales = low_bits | (high_bits.reshape(*shape, 16) << 4)
    scale = _halves(blocks, 108)[..., None] * (scales.astype(np.float32) - 32)
    return Unpacked(quants, _flat(scale), None)


def _write_q3_k(blocks: np.ndarray, quants: np.ndarray) -> None:
    shape = blocks.shape[:2]
    parts = quants.reshape(*shape, 2, 4, 32)
    places = (2 * np.arange(4, dtype=np.uint8))[:, None]
    blocks[..., 32:96] = ((parts & 3) << places).sum(axis=-2, dtype=np.uint8).reshape(*shape, 64)
    bits = np.arange(8, dtype=np.uint8)[:, None]
    eights = quants.reshape(*shape, 8, 32)
    blocks[..., :32] = ((eights >> 2) << bits).sum(axis=-2, dtype=np.uint8)


# Q2_K: 16 bytes of scale and minimum (4 bits each) of 16 weights, 64 bytes of quants, d, dmin.
def _read_q2_k(blocks: np.ndarray) -> Unpacked:
    shape = blocks.shape[:2]
    low = blocks[..., 16:80].reshape(*shape, 2, 1, 32)
    quants = (low >> (2 * np.arange(4, dtype=np.uint8))[:, None] & 3).reshape(*shape, 256)
    packed = blocks[..., :16]
    scale = _halves(blocks, 80)[..., None] * (packed & 15)
    mins = _halves(blocks, 82)[..., None] * (packed >> 4)
    return Unpacked(quants, _flat(scale), _flat(mins))


def _write_q2_k(blocks: np.ndarray, quants: np.ndarray) -> None:
    shape = blocks.shape[:2]
    parts = quants.reshape(*shape, 2, 4, 32)
    places = (2 * np.arange(4, dtype=np.uint8))[:, None]
    blocks[..., 16:80] = (parts << places).sum(axis=-2, dtype=np.uint8).reshape(*shape, 64)


#: By ggml type. Q8_0 has no quant −128: ggml never writes it.
CODECS: dict[str, GgmlCodec] = {
    "Q8_0": GgmlCodec(128, 1, 255, _read_q8_0, _write_q8_0, (32, 34), (0,)),
    "Q6_K": GgmlCodec(32, 0, 63, _read_q6_k, _write_q6_k, (256, 210), (208,)),
    "Q5_K": _q45_k(5),
    "Q5_1": _legacy(5, True),
    "Q5_0": _legacy(5, False),
    "Q4_K": _q45_k(4),
    "Q4_1": _legacy(4, True),
    "Q4_0": _legacy(4, False),
    "Q3_K": GgmlCodec(4, 0, 7, _read_q3_k, _write_q3_k, (256, 110), (108,)),
    "Q2_K": GgmlCodec(0, 0, 3, _read_q2_k, _write_q2_k, (256, 84), (80, 82)),
}
