"""A session that is made again with less audio than its messages tell of: a disk has lost the end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from live_asr.core.messages import Stopped
from live_asr.core.types import Word, samples
from tests.core.restoring import MONOLOGUE, MONOLOGUE_AUDIO, TALK, TALK_AUDIO, Life

SAMPLE = st.integers(0, samples(17.0))


@pytest.mark.parametrize(("script", "audio"), [(MONOLOGUE, MONOLOGUE_AUDIO), (TALK, TALK_AUDIO)])
@settings(deadline=None, max_examples=30)
@given(SAMPLE, SAMPLE, st.booleans())
def test_it_ends_with_the_words_that_were_said_where_no_audio_comes(
    script: tuple[Word, ...], audio: np.ndarray, died: int, left: int, keeps_state: bool
) -> None:
    life = Life(script, audio, keeps_state=keeps_state)
    life.hear_until(died)
    said = life.session.transcript.text
    life.die()
    life._audio = audio[: min(left, died)]
    messages = life.end()
    assert isinstance(messages[-1], Stopped)
    assert life.session.transcript.text.startswith(said)
    assert [m.seq for m in messages] == list(range(1, len(messages) + 1))  # type: ignore[union-attr]
