"""What docs/webhooks.md says is so."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from live_asr.core.messages import ClockPoint, Final, FinalSegment, FinalSpeaker, Start, WireWord
from live_asr.delivery.payload import webhook_body
from live_asr.delivery.post import Patience
from live_asr.delivery.signature import signed_headers
from live_asr.delivery.webhook import MAX_PER_RECEIVER
from tests.conftest import ROOT
from tests.delivery.sender_process import SECRET

PAPER = (ROOT / "docs" / "webhooks.md").read_text()


def shape(value: Any) -> Any:
    """Return the names and types of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    return [shape(entry) for entry in value] if isinstance(value, list) else type(value).__name__


def test_the_payload_that_is_shown_has_the_names_and_types_of_the_one_that_is_sent() -> None:
    (shown,) = (json.loads(text) for text in re.findall(r"```json\n(\{\n.+?)```", PAPER, re.DOTALL))
    word = WireWord(" Good", 0.5, 2.3, 0.95, "SPEAKER_00")
    final = Final(
        seq=1,
        revision=1,
        duration=205.8,
        language="en",
        text=" Good",
        segments=(FinalSegment(0.5, 2.3, "SPEAKER_00", "Good", (word,)),),
        speakers=(FinalSpeaker("SPEAKER_00", (), 1.8, 1),),
        links={},
        labels="full",
        started_at="2026-11-21T14:05:09.164Z",
        clock=(ClockPoint(12.5, "2026-11-21T14:05:21.730Z"),),
    )
    sent = webhook_body(
        session_id="a1",
        start=Start(metadata={"jobId": 123}),
        final=final,
        turns=(),
        error=None,
        processing_time=45.2,
    )
    assert shape(shown) == shape(json.loads(sent))
    assert list(shown) == list(json.loads(sent))


def test_the_python_code_that_is_shown_takes_each_delivery_once(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", PAPER, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    body = b'{"status": "success", "transcript": "Hello."}'
    headers = signed_headers(SECRET, "msg_1", body, time.time())
    seen: set[str] = set()
    names["receive"](SECRET, headers, body, seen)
    names["receive"](SECRET, headers, body, seen)
    assert capsys.readouterr().out == "success Hello.\n"
    assert seen == {"msg_1"}


def test_the_bounds_that_are_written_down_are_those_of_the_sender() -> None:
    patience = Patience()
    assert f"no answer within {patience.total:.0f} s" in PAPER
    assert f"no connection within {patience.connect:.0f} s" in PAPER
    assert f"at most {MAX_PER_RECEIVER} tries go to one receiver at once" in PAPER
    assert "at most 1 MB of the answer" in PAPER
    assert patience.most_bytes == 1024 * 1024
