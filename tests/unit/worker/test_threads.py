"""How many threads score."""

import os

import pytest

from worker.settings import BatchSettings, Settings
from worker.threads import cores_of, lanes_of

CORES = len(os.sched_getaffinity(0))


def read(device: str = "cpu", lanes: int = 0) -> Settings:
    return Settings.model_validate({"device": device, "batch": BatchSettings(lanes=lanes)})


def test_lanes_are_the_cores_of_this_process_unless_set() -> None:
    assert lanes_of(read()) == cores_of(read()) == CORES
    assert lanes_of(read(lanes=3)) == cores_of(read(lanes=3)) == 3


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_is_fed_by_two_lanes_unless_set(device: str) -> None:
    assert lanes_of(read(device)) == min(2, CORES)
    assert lanes_of(read(device, lanes=5)) == 5


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_takes_no_cores_from_what_the_cpu_does(device: str) -> None:
    assert cores_of(read(device)) == CORES
