"""A session that is made again by a server with other models: tokens and voices mean nothing to them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from live_asr.core.checkpoint import Checkpoint, Models
from live_asr.core.messages import Stopped
from live_asr.core.types import Word, samples
from tests.core.restoring import MONOLOGUE, MONOLOGUE_AUDIO, TALK, TALK_AUDIO, Life

THEN = Models("tiny.en", "campplus")
KEPT = Checkpoint(
    last_seq=9,
    safe_sample=samples(9.0),
    language="en",
    words=(Word(" so", samples(8.0), samples(8.5), 0.9, (7,)),),
    voices=((1.0, 0.0),),
    models=THEN,
)


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (THEN, ["language", "words", "voices"]),
        (Models("base", "campplus"), ["voices"]),
        (Models("tiny.en", "ge2e"), ["language", "words"]),
        (Models("tiny.en", None), ["language", "words"]),
        (Models("base", "ge2e"), []),
    ],
)
def test_a_snapshot_holds_for_the_models_that_it_was_made_with(now: Models, left: list[str]) -> None:
    held = Checkpoint.from_dict(json.loads(json.dumps(KEPT.to_dict()))).for_models(now)
    assert [name for name in ("language", "words", "voices") if getattr(held, name)] == left
    assert (held.last_seq, held.safe_sample, held.models) == (9, samples(9.0), now)


def test_a_snapshot_of_a_version_that_named_no_models_is_done_without() -> None:
    unnamed = KEPT.to_dict()
    del unnamed["models"]
    assert Checkpoint.from_dict(unnamed).for_models(THEN) == Checkpoint(models=THEN)


class Moved(Life):
    """A sequence of servers of which each has other models than the one before."""

    servers = 0

    def die(self) -> None:
        self.servers += 1
        # Numbers that fit neither the vocabulary nor the space of voices that come now.
        self._state["words"] = [[*word[:4], [10**6]] for word in self._state.get("words", [])]
        self._state["voices"] = [[0.5] * 192 for _ in self._state.get("voices", [])]
        checkpoint = Checkpoint.from_dict(self._state).for_models(
            Models(f"r{self.servers}", f"e{self.servers}")
        )
        self._state = json.loads(json.dumps(checkpoint.to_dict()))
        super().die()


@pytest.mark.parametrize(
    ("script", "audio", "seconds"),
    [(MONOLOGUE, MONOLOGUE_AUDIO, (3.1, 9.0)), (TALK, TALK_AUDIO, (7.5, 14.0))],
)
def test_a_session_goes_on_with_other_models_and_says_every_word_once(
    script: tuple[Word, ...], audio: np.ndarray, seconds: tuple[float, ...]
) -> None:
    life = Moved(script, audio)
    for second in seconds:
        life.hear_until(samples(second))
        assert life._state["words"]
        life.die()
    stopped = life.end()[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.text.split() == [word.text.strip() for word in script]
