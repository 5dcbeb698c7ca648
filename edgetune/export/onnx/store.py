"""The file of a graph's weights, written one weight at a time.

Layout: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
from onnx import numpy_helper

_INLINE_BYTES = 990  # a weight of so many lies in the graph itself, as onnx.save has it
_CHUNK_BYTES = 16 << 20  # of a weight in another order, put in order at a time


class WeightStore:
    """The weights of a graph on their way to its file.

    Args:
        path: of the file, which must not exist; with none bytes are counted and nothing is written.
        name: of the file, as the graph has it.

    Attributes:
        tensors: the graph's initializers, in the order they were added.
        bytes: of the file.
    """

    def __init__(self, path: Path | None, name: str) -> None:
        self.tensors: list[onnx.TensorProto] = []
        self.bytes = 0
        self._name = name
        self._file = path.open("xb") if path is not None else None

    def __enter__(self) -> WeightStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._file is not None:
            self._file.close()

    def add(self, name: str, values: np.ndarray) -> None:
        """Append a weight.

        Args:
            name: of the initializer.
            values: in any order of bytes.
        """
        if values.nbytes <= _INLINE_BYTES:
            self.tensors.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
            return
        kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
        tensor = onnx.TensorProto(name=name, data_type=kind, dims=values.shape)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": self._name, "offset": self.bytes, "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.tensors.append(tensor)
        self.bytes += values.nbytes
        if self._file is not None:
            step = max(1, _CHUNK_BYTES * len(values) // values.nbytes)
            for at in range(0, len(values), step):
                self._file.write(np.ascontiguousarray(values[at : at + step]).data)
