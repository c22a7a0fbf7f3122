"""What the benchmarks play to the server: recorded speech with its words, and sounds that hold none."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
"""Everything is played as s16le mono at this rate."""

Samples = NDArray[np.int16]

SPEECH = {
    "talk5_lj": "talks/talk5_lj.flac",
    "conv2_public": "conversations/conv2_public.flac",
    "conv6_public": "conversations/conv6_public.flac",
    "conv4_overlap_public": "conversations/conv4_overlap_public.flac",
    "ami_dev00": "conversations/ami_dev00.flac",
    "ami_trn04": "conversations/ami_trn04.flac",
    "jfk": "clips/misc/jfk.flac",
}
"""Clip → its file in the speech folder. `sample` comes with the models, and `libri` is put together."""

LIBRI_GAP = 0.6
"""Pause between two clips of `libri`, seconds: long enough to end an utterance."""


class MissingSpeechError(Exception):
    """A clip's file is not on this machine; its sentence says where it was looked for."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A piece of audio to play, and what is said in it."""

    name: str
    """As in the tables, `talk5_lj@90` for one that starts at second 90 of its file."""
    audio: Samples
    """(samples,) int16, 16 kHz mono."""
    truth: str | None
    """The words said, as published; None where nobody wrote them down, empty where there are none."""

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.audio) / RATE_HZ

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the samples: what a cached reference is kept under."""
        return hashlib.sha256(self.audio.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Spoken:
    """One published utterance: its words and when they are said, in seconds of the file."""

    start: float
    end: float
    text: str


def speech_folder() -> Path | None:
    """Return the folder of recorded speech: LIVE_ASR_BENCH_SPEECH, else ../shared/speech, else None."""
    named = os.environ.get("LIVE_ASR_BENCH_SPEECH")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "speech"
    return folder if folder.is_dir() else None


def load_clip(name: str, seconds: float, call_dir: Path | None = None) -> Clip:
    """Load the first `seconds` of a clip, or those from S on where the name ends in `@S`.

    The truth holds the utterances within the cut; of one that straddles its edge, the words go in up to
    the same share as its time. `call_dir` holds `sample`'s files. Raises MissingSpeechError where a file is
    not here.
    """
    base, _, at = name.partition("@")
    start = float(at or 0)
    audio, spoken = _whole(base, call_dir)
    first = round(start * RATE_HZ)
    piece = audio[first : first + round(seconds * RATE_HZ)]
    truth = None if spoken is None else words_between(spoken, start, start + len(piece) / RATE_HZ)
    return Clip(name, piece, truth)


def words_between(spoken: list[Spoken], start: float, end: float) -> str:
    """Return the words said between two times, an utterance across an edge cut by its share of time."""
    kept: list[str] = []
    for utterance in spoken:
        words = utterance.text.split()
        length = max(utterance.end - utterance.start, 1e-6)
        before = min(max((start - utterance.start) / length, 0.0), 1.0)
        until = min(max((end - utterance.start) / length, 0.0), 1.0)
        kept += words[round(before * len(words)) : round(until * len(words))]
    return " ".join(kept)


def looped(clip: Clip, seconds: float) -> Clip:
    """Repeat a clip until it lasts `seconds`; its truth is dropped, since only cost is measured on it."""
    needed = round(seconds * RATE_HZ)
    return Clip(f"{clip.name} looped", np.resize(clip.audio, needed), None)


def lasting(clip: Clip, seconds: float) -> Clip:
    """Return a clip that is repeated or cut so that it lasts `seconds`; it has no truth."""
    if seconds > clip.duration:
        return looped(clip, seconds)
    return replace(clip, audio=clip.audio[: round(seconds * RATE_HZ)], truth=None)


def decode(path: Path) -> Samples:
    """Decode a media file to int16 mono at 16 kHz."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    pieces: list[Samples] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    return np.concatenate(pieces).astype(np.int16, copy=False)


def _whole(name: str, call_dir: Path | None) -> tuple[Samples, list[Spoken] | None]:
    if name == "sample":
        return _sample_call(call_dir)
    folder = speech_folder()
    if folder is None:
        raise MissingSpeechError(f"{name}: no speech folder; set LIVE_ASR_BENCH_SPEECH to one.")
    if name == "libri":
        return _libri(folder)
    if name not in SPEECH:
        raise MissingSpeechError(
            f"{name}: no such clip; there are {', '.join([*SPEECH, 'libri', 'sample'])}."
        )
    path = folder / SPEECH[name]
    if not path.is_file():
        raise MissingSpeechError(f"{name}: {path} is not there.")
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return decode(path), _from_manifest(folder, name)
    utterances = json.loads(beside.read_text())["utterances"]
    return decode(path), [Spoken(said["start"], said["end"], said["text"]) for said in utterances]


def _from_manifest(folder: Path, name: str) -> list[Spoken] | None:
    for entry in manifest(folder):
        if entry["id"] == name and entry["transcript"] is not None:
            return [Spoken(0.0, float(entry["seconds"]), entry["transcript"])]
    return None


def manifest(folder: Path) -> list[dict[str, str]]:
    """Return the entries of a speech folder's list of clips."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines() if line]


def _libri(folder: Path) -> tuple[Samples, list[Spoken]]:
    """Put LibriSpeech clips one after another, in an order that changes the reader each time."""
    entries = [entry for entry in manifest(folder) if entry["file"].startswith("clips/librispeech/")]
    entries.sort(key=lambda entry: hashlib.sha256(entry["id"].encode()).hexdigest())
    gap = np.zeros(round(LIBRI_GAP * RATE_HZ), np.int16)
    pieces: list[Samples] = []
    spoken: list[Spoken] = []
    at = 0.0
    for entry in entries:
        audio = decode(folder / entry["file"])
        spoken.append(Spoken(at, at + len(audio) / RATE_HZ, entry["transcript"]))
        pieces += [audio, gap]
        at += (len(audio) + len(gap)) / RATE_HZ
    return np.concatenate(pieces), spoken


def _sample_call(folder: Path | None) -> tuple[Samples, list[Spoken]]:
    """Load the 30 s telephone call that comes with the models, with its STM transcript."""
    if folder is None or not (folder / "sample.wav").is_file():
        raise MissingSpeechError("sample: no test call here; `live-asr models pull test-call` brings it.")
    path = folder / "sample.wav"
    spoken = []
    for line in path.with_suffix(".stm").read_text().splitlines():
        _, _, _, start, end, text = line.split(maxsplit=5)
        spoken.append(Spoken(float(start), float(end), text))
    return decode(path), spoken


# Sounds without a word -------------------------------------------------------------------------------


def nonspeech(seconds: float) -> list[Clip]:
    """Make silence, noise, hum, clicks and music; add the recorded choir and vinyl hiss where they are.

    The generated ones come from fixed seeds, so that every run hears the same samples.
    """
    count = round(seconds * RATE_HZ)
    makers: dict[str, Callable[[int], NDArray[np.float64]]] = {
        "silence": np.zeros,
        "white noise": partial(noise, exponent=0.0),
        "pink noise": partial(noise, exponent=0.5),
        "hum": _hum,
        "key clicks": _key_clicks,
        "chords": _chords,
    }
    clips = [Clip(name, to_int16(make(count)), "") for name, make in makers.items()]
    folder = speech_folder()
    recorded = {"choir": "sp_ambi_choir.flac", "vinyl hiss": "sp_vinyl_hiss.flac"}
    for name, file in recorded.items():
        if folder is not None and (folder / "nonspeech" / file).is_file():
            clips.append(Clip(name, np.resize(decode(folder / "nonspeech" / file), count), ""))
    return clips


def silence(seconds: float) -> Clip:
    """Make digital silence."""
    return Clip("silence", np.zeros(round(seconds * RATE_HZ), np.int16), "")


def to_int16(audio: NDArray[np.float64]) -> Samples:
    """Return sound between -1 and 1 as samples; what is outside is clipped."""
    return np.round(np.clip(audio, -1.0, 1.0) * 32767).astype(np.int16)


def noise(count: int, exponent: float) -> NDArray[np.float64]:
    """Noise whose amplitude falls as frequency**-exponent, at 5 % of full scale (RMS)."""
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(count))
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / RATE_HZ), 20.0)
    audio = np.fft.irfft(spectrum * frequency**-exponent, count)
    return np.asarray(audio * 0.05 / np.sqrt(np.mean(audio**2)))


def _hum(count: int) -> NDArray[np.float64]:
    """Mains hum: 50 Hz and its harmonics over a little hiss."""
    time = np.arange(count) / RATE_HZ
    harmonics = [(1, 0.10), (2, 0.06), (3, 0.04), (4, 0.02), (6, 0.01)]
    tone = sum(level * np.sin(2 * np.pi * 50 * number * time) for number, level in harmonics)
    return np.asarray(tone + 0.02 * noise(count, 0.0))


def _key_clicks(count: int) -> NDArray[np.float64]:
    """Typing: two bursts of a few milliseconds for each key, 4 to 8 keys a second, now and then a pause."""
    random = np.random.default_rng(2)
    audio = 0.02 * noise(count, 0.5)
    at = 0.2
    while at * RATE_HZ + 2000 < count:
        for delay, level in ((0.0, 0.5), (random.uniform(0.05, 0.09), 0.25)):
            first = round((at + delay) * RATE_HZ)
            length = 400
            burst = random.standard_normal(length) * np.exp(-np.arange(length) / 60)
            audio[first : first + length] += level * random.uniform(0.5, 1.0) * burst
        at += random.uniform(0.12, 0.25) if random.random() < 0.9 else random.uniform(0.8, 2.0)
    return audio


def _chords(count: int) -> NDArray[np.float64]:
    """Music: four chords over and over, a melody above them and a drum on every half second."""
    random = np.random.default_rng(3)
    time = np.arange(count) / RATE_HZ
    beat = (time * 2).astype(int)
    roots_hz = np.array([220.0, 174.6, 261.6, 196.0])[(beat // 4) % 4]
    swell = np.exp(-2.0 * (time * 2 % 1))
    audio = np.zeros(count)
    for ratio in (1.0, 1.26, 1.498):
        for harmonic in (1, 2, 3):
            phase = 2 * np.pi * np.cumsum(roots_hz * ratio * harmonic) / RATE_HZ
            audio += 0.05 / harmonic * np.sin(phase)
    scale = np.array([1.0, 1.122, 1.26, 1.498, 1.682, 2.0])
    notes_hz = 440.0 * scale[random.integers(0, len(scale), beat.max() + 1)][beat]
    audio += 0.10 * swell * np.sin(2 * np.pi * np.cumsum(notes_hz) / RATE_HZ)
    audio += 0.15 * np.exp(-40.0 * (time * 2 % 1)) * random.standard_normal(count)
    return audio
