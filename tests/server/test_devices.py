"""A server on several devices: here on two parts of a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from live_asr.config.settings import InferenceSettings, load_settings
from live_asr.core.errors import ConfigError
from live_asr.inference.simulated import simulated_load
from live_asr.server.run import further_loads
from tests.started import StartServer


def test_each_part_of_a_cpu_has_its_share_of_the_workers() -> None:
    given = {"inference.device": "cpu", "inference.devices": "cpu,cpu"}
    settings = load_settings(flags=given, environment={}).settings
    first, (second,) = further_loads(settings, simulated_load(lanes=4))
    assert (first.workers, second.workers, second.gpu) == (2, 2, None)
    none_given = load_settings(environment={}).settings
    load = simulated_load(lanes=4)
    assert further_loads(none_given, load) == (load, [])


def test_gpus_are_told_apart_and_those_that_are_not_used_are_refused() -> None:
    settings = load_settings(flags={"inference.devices": "cuda:0,cuda:2"}, environment={}).settings
    with pytest.raises(ConfigError, match="names cuda, and the models run on cpu"):
        further_loads(settings, simulated_load())


@pytest.mark.parametrize("devices", [("gpu",), ("cpu", "cuda:0"), ("cuda:1", "cuda:1"), ("cuda",)])
def test_devices_that_make_no_sense_are_refused(devices: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        InferenceSettings(devices=devices)


def test_a_server_on_two_of_them_captions_a_file(start_server: StartServer, sample_wav: Path) -> None:
    import httpx

    server = start_server(LIVE_ASR_INFERENCE__DEVICES="cpu,cpu", LIVE_ASR_INFERENCE__DEVICE="cpu")
    assert server.metric("live_asr_lanes") >= 2
    with sample_wav.open("rb") as file:
        answer = httpx.post(
            f"{server.url}/v1/audio/transcriptions",
            files={"file": ("call.wav", file)},
            data={"model": "whisper-1", "response_format": "text"},
            timeout=300.0,
        )
    assert answer.status_code == 200, answer.text
    assert len(answer.text.split()) > 20
