"""What OpenAI's clients call the speakers: by the names whose voices they gave, else by letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from live_asr.audio.isolated_decoder import open_guarded_decoder
from live_asr.core.audio import Samples
from live_asr.core.errors import ClientError, DecoderDied, MediaError
from live_asr.core.messages import AudioFormat
from live_asr.core.types import samples
from live_asr.inference.scheduler import FILE_BUDGET
from live_asr.models.interfaces import FloatArray
from live_asr.server.dialects.openai_errors import BadParameter
from live_asr.server.state import ServerState

SHORTEST, MAX = 2.0, 10.0
"""Seconds of a voice that are given to know it by."""
TOLERANCE = 0.1
"""Codecs add and take a little."""


class SpeakerNames:
    """Name the speakers of one recording.

    `known` are names with their voices' embeddings; a voice whose cosine distance to one is below
    `equal_error_distance` gets that name. A name that was given stays, and is given once.
    """

    def __init__(
        self, known: Sequence[tuple[str, FloatArray]] = (), equal_error_distance: float = 0.0
    ) -> None:
        self._known = dict(known)
        self._equal_error_distance = equal_error_distance
        self._names: dict[str, str] = {}
        self._letters = 0

    def of(self, label: str | None) -> str:
        """Return a speaker's name; who has none yet gets the next letter."""
        key = label or ""
        if key not in self._names:
            taken = {*self._names.values(), *self._known}
            name = letters(self._letters)
            while name in taken:
                self._letters += 1
                name = letters(self._letters)
            self._letters += 1
            self._names[key] = name
        return self._names[key]

    def recognize(self, voices: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """Give known names to speakers that have none: by label, the centroids that may be theirs."""
        distances = sorted(
            (distance(embedding, voice), name, label)
            for name, embedding in self._known.items()
            for label, of_label in voices.items()
            for voice in of_label
        )
        for apart, name, label in distances:
            free = name not in self._names.values() and label not in self._names
            if free and apart < self._equal_error_distance:
                self._names[label] = name


def distance(first: FloatArray, second: Sequence[float] | FloatArray) -> float:
    """Return the cosine distance of two voices, 0 to 2."""
    other = np.asarray(second, np.float32)
    scale = float(np.linalg.norm(first) * np.linalg.norm(other))
    return 1.0 - float(first @ other) / scale if scale else 2.0


def letters(number: int) -> str:
    """Return A, B … Z, AA, AB … for 0, 1 …"""
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


async def voice_of(state: ServerState, name: str, file: bytes) -> FloatArray:
    """Return the embedding of the voice in a file.

    Raises ClientError for no audio, or too much or little, and what a server's decoder or engine fails with.
    """
    try:
        audio = await _decoded(state, file)
    except (ClientError, DecoderDied, MediaError) as error:
        raise BadParameter("known_speaker_references", f"The reference of {name[:80]!a}: {error}") from None
    if not samples(SHORTEST - TOLERANCE) <= audio.size <= samples(MAX + TOLERANCE):
        raise BadParameter(
            "known_speaker_references",
            f"The reference of {name[:80]!a} must have {SHORTEST:g} to {MAX:g} seconds.",
        )
    return await state.engine.embed(audio, FILE_BUDGET)


async def _decoded(state: ServerState, file: bytes) -> Samples:
    """Decode a file as far as it may be needed: shape (samples,), 16 kHz mono."""
    decoder = open_guarded_decoder(AudioFormat("container"), state.store.folder)
    try:
        pieces = [await decoder.feed(file)]
        ended = False
        while sum(piece.size for piece in pieces) <= samples(MAX + TOLERANCE):
            if decoder.has_more and not ended:
                pieces.append(await decoder.feed(b""))
            elif not ended or decoder.has_more:
                pieces.append(await decoder.finish())
                ended = True
            else:
                break
        return np.concatenate(pieces)
    finally:
        decoder.close()
