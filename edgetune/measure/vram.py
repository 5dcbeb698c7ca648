"""Peak GPU memory of this process: by NVML, or by torch's own count where NVML is not installed."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

INTERVAL_S = 0.05


class VramMeter:
    """Samples the GPU memory that this process holds while the ``with`` block runs.

    NVML keeps no peak, so it is asked every 50 ms and once at the end. The pools of torch,
    llama.cpp and ONNX Runtime only grow while a model answers: the last sample misses none of it.

    Attributes:
        peak: most bytes held; 0 where nothing could be asked.
        source: ``nvml_process`` (this process, CUDA context included), ``nvml_device`` (growth of
            the device's used memory, where the driver does not tell processes apart, as in a
            container), ``torch_reserved`` (torch's pool alone, where nvidia-ml-py is not
            installed), or empty.
    """

    def __init__(self) -> None:
        self.peak, self.source = 0, ""
        self._nvml: Any = _open_nvml()
        self._handles: list[Any] = []
        self._before: list[int] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> VramMeter:
        if self._nvml is not None:
            count = self._nvml.nvmlDeviceGetCount()
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            self._before = [self._used(handle) for handle in self._handles]
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._sample()
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        elif (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
            self.peak, self.source = int(torch.cuda.max_memory_reserved()), "torch_reserved"

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        """Take this process's bytes, or the device's growth until the driver names this process."""
        held = sum(self._held(handle) for handle in self._handles)
        if held and self.source != "nvml_process":
            self.peak, self.source = 0, "nvml_process"
        if self.source != "nvml_process":
            pairs = zip(self._handles, self._before, strict=True)
            held = max((self._used(handle) - before for handle, before in pairs), default=0)
            self.source = "nvml_device" if self._handles else ""
        self.peak = max(self.peak, held)

    def _held(self, handle: Any) -> int:
        """Return the bytes that this process holds on a device, 0 where the driver does not say."""
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return 0
        return sum(one.usedGpuMemory or 0 for one in processes if one.pid == os.getpid())

    def _used(self, handle: Any) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used)


def _open_nvml() -> Any:
    """Return the module ``pynvml``, initialized; nothing where it or the driver is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
