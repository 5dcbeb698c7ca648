"""Devices of bench: which are chosen, which are refused, and what runs on none is listed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from edgetune.data.build_encoder import make_encoder
from edgetune.data.dataset.make import load_splits
from edgetune.errors import EdgetuneError, InputError
from edgetune.log import Log
from edgetune.measure import run as measure_run
from edgetune.measure.devices import Devices, choose_devices
from edgetune.measure.run import measure_subjects
from edgetune.measure.subject import Subject, Workload, make_subject, make_workload
from edgetune.measure.vram import VramMeter
from edgetune.measure.workers import Workers
from edgetune.models.tokenizer_files import load_tokenizer
from edgetune.recipe import BenchSection
from tests.model_files import make_gguf, make_onnx
from tests.stages.test_bench import make_sections

BOTH = ("cpu", "cuda")


def set_gpu(monkeypatch: pytest.MonkeyPatch, present: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)


@pytest.mark.parametrize(
    ("present", "model_device", "expected"),
    [
        (False, "auto", Devices()),
        (False, "cpu", Devices()),
        (True, "auto", Devices(BOTH, BOTH)),
        (True, "cpu", Devices()),
        (True, "cuda", Devices(("cuda",), BOTH)),
    ],
)
def test_auto_follows_the_machine_and_the_model_device(
    present: bool, model_device: str, expected: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_gpu(monkeypatch, present)
    assert choose_devices(BenchSection(), model_device) == expected


def test_devices_of_the_recipe_are_taken_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, True)
    section = BenchSection.model_validate({"devices": ["cuda", "cpu", "cuda"]})
    assert choose_devices(section, "cpu") == Devices(("cuda", "cpu"), ("cuda", "cpu"))


def test_an_absent_device_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpu(monkeypatch, False)
    with pytest.raises(InputError, match="no CUDA device") as error:
        choose_devices(BenchSection(devices=BOTH), "auto")
    assert error.value.where == "bench.devices"
    with pytest.raises(InputError) as error:
        choose_devices(BenchSection(), "cuda")
    assert error.value.where == "model.device"


@pytest.mark.parametrize("value", [[], ["gpu"], "gpu"])
def test_other_devices_are_no_setting(value: Any) -> None:
    with pytest.raises(ValidationError):
        BenchSection.model_validate({"devices": value})


def make_work(model: Path, rows: Path) -> tuple[Workload, BenchSection]:
    sections = make_sections(model, rows)
    encoder = make_encoder(load_tokenizer(model), sections.data, None)
    data = load_splits(sections.data, 0, Log(quiet=True)).train
    return make_workload(encoder, data, sections.bench, seed=0), sections.bench


def test_files_that_no_build_runs_on_the_gpu_are_listed_with_the_remedy(
    tiny_model: Path, device_rows: Path, tmp_path: Path
) -> None:
    """The builds for the CPU that are installed here say it themselves."""
    work, section = make_work(tiny_model, device_rows)
    subjects = [make_subject(make_gguf(tiny_model), "file"),
                make_subject(make_onnx(tiny_model), "file")]  # fmt: skip
    log = Log(tmp_path / "log.jsonl", quiet=True)
    found = measure_subjects(subjects, work, section, tmp_path / "s", log, Devices(files=BOTH))
    for model, remedy in zip(found, ("-DGGML_CUDA=on", "onnxruntime-gpu"), strict=True):
        assert {one.where["device"] for one in model.measurements} == {"cpu"}
        assert model.not_measured is not None
        assert [one.device for one in model.not_measured] == ["cuda"]
        assert remedy in model.not_measured[0].why
    assert "is not measured on cuda" in (tmp_path / "log.jsonl").read_text()


def fake_measure(faults: dict[tuple[str, str], str]) -> Any:
    """Return a stand-in for the worker: a figure, or the error of a (name, device)."""

    def measure(subject: Subject, job: dict[str, Any], *_: Any) -> list[dict[str, Any]]:
        device = job["device"]
        if fault := faults.get((subject.name, device)):
            raise EdgetuneError(fault)
        if job["keep"]:
            Path(job["keep"]).touch()
        where = {"runtime": "x", "device": device, "references": sorted(job["references"])}
        return [{"name": "load_s", "value": 1.0, "unit": "s", "n": 1, "ci95": None,
                 "where": where}]  # fmt: skip

    return measure


def test_the_reference_is_the_first_device_that_a_model_was_measured_on(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, section = make_work(tiny_model, device_rows)
    subjects = [make_subject(tiny_model, "teacher", "teacher"),
                make_subject(make_gguf(tiny_model), "file", "f.gguf")]  # fmt: skip
    monkeypatch.setattr(measure_run, "find_gpu_fault", lambda kind: None)
    monkeypatch.setattr(measure_run, "_measure", fake_measure({}))
    quiet = Log(quiet=True)
    devices = Devices(("cuda",), BOTH)
    teacher, file = measure_subjects(subjects, work, section, tmp_path / "a", quiet, devices)
    assert [one.where["device"] for one in teacher.measurements] == ["cuda"]
    assert [one.where["device"] for one in file.measurements] == ["cpu", "cuda"]
    assert all(one.where["references"] == ["teacher"] for one in file.measurements)

    short = fake_measure({("teacher", "cuda"): "torch.OutOfMemoryError: CUDA out of memory."})
    monkeypatch.setattr(measure_run, "_measure", short)
    teacher, file = measure_subjects(subjects, work, section, tmp_path / "b", quiet, devices)
    assert teacher.measurements == [] and teacher.not_measured is not None
    assert "memory is too small" in teacher.not_measured[0].why
    assert all(one.where["references"] == [] for one in file.measurements)


def test_an_error_that_is_not_the_gpus_ends_the_bench(
    tiny_model: Path, device_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, section = make_work(tiny_model, device_rows)
    subject = make_subject(tiny_model, "teacher", "teacher")
    monkeypatch.setattr(measure_run, "find_gpu_fault", lambda kind: None)
    for device, fault in (("cuda", "IndexError"), ("cpu", "out of memory")):
        monkeypatch.setattr(measure_run, "_measure", fake_measure({("teacher", device): fault}))
        with pytest.raises(EdgetuneError, match=fault):
            measure_subjects([subject], work, section, tmp_path, Log(quiet=True), Devices(BOTH))


def test_the_gpu_pool_is_released_before_the_first_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: released.append(True))
    with Workers(1):
        assert not released  # a GPU was never used
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with Workers(1):
        assert released == [True]


class FakeNvml:
    """The calls of pynvml that the meter makes, with given bytes of this process and device."""

    class NVMLError(Exception):
        pass

    def __init__(self, process: list[int | None], device: list[int]) -> None:
        self._process, self._device = process, device

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        import os

        used = self._process.pop(0) if len(self._process) > 1 else self._process[0]
        mine = SimpleNamespace(pid=os.getpid(), usedGpuMemory=used)
        return [mine, SimpleNamespace(pid=1, usedGpuMemory=10**12)]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        used = self._device.pop(0) if len(self._device) > 1 else self._device[0]
        return SimpleNamespace(used=used)


@pytest.mark.parametrize(
    ("process", "device", "expected"),
    [
        ([5, 9, 7], [100], (9, "nvml_process")),
        ([None], [100, 130, 120], (30, "nvml_device")),
        ([None, 9], [100, 130], (9, "nvml_process")),
    ],
)
def test_vram_is_of_this_process_or_else_the_growth_of_the_device(
    process: list[int | None], device: list[int], expected: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(process, device))
    with VramMeter() as meter:
        for _ in range(3):
            meter._sample()
    assert (meter.peak, meter.source) == expected


def test_vram_without_nvml_is_the_pool_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with VramMeter() as meter:
        pass
    assert (meter.peak, meter.source) == (0, "")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 77)
    with VramMeter() as meter:
        pass
    assert (meter.peak, meter.source) == (77, "torch_reserved")
