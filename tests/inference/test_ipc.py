"""What goes between processes comes back as it was."""

from __future__ import annotations

import numpy as np

from live_asr.core.types import Hypothesis, Word
from live_asr.inference.ipc import HEADER, Detected, Recognized, pack, unpack
from live_asr.models.interfaces import SpeechMemory, SpeechState


def there_and_back(message: object) -> object:
    return unpack(pack(message)[HEADER.size :])


def test_words_come_back_as_they_were() -> None:
    words = (Word(" one", 0, 4000, 0.5, (7, 8)), Word(" two", 4000, 9000, 0.9, (9,), "S1", "again"))
    recognized = Recognized(Hypothesis(words, 16_000, capped=True, language="en"), 0.25, 0.5)
    assert there_and_back(recognized) == recognized


def test_a_detectors_state_comes_back_as_it_was() -> None:
    dice = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return dice.normal(size=shape).astype(np.float32)

    memories = [SpeechMemory(values(1, 1, 128), values(1, 1, 128)) for _ in range(2)]
    state = SpeechState(memories[0], values(64), memories[1], 17)
    back = there_and_back(Detected(values(3), state))
    assert isinstance(back, Detected) and back.probabilities.shape == (3,)
    assert back.state.quiet_chunks == 17
    pairs = [
        (back.state.memory.hidden, state.memory.hidden),
        (back.state.memory.cell, state.memory.cell),
        (back.state.context, state.context),
        (back.state.successor.hidden, state.successor.hidden),
        (back.state.successor.cell, state.successor.cell),
    ]
    assert all(np.array_equal(found, expected) and found.shape == expected.shape for found, expected in pairs)
