"""What other programs' clients send, nearly: the third target of the suite `fuzz`.

An input's first byte names a decoder of one of the dialects; the rest is what it is given. What cannot be
read is refused by a sentence, or, where a protocol knows no such thing, by the one error that ends its
connection.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import FormData
from starlette.requests import Request

from benchmarks.fuzz_inputs import BYTEWISE, LARGEST_FRAME_BYTES, Corpus, Source, retold, spliced
from benchmarks.fuzz_target import MAX_SENTENCE, Outcome, UnsoundError
from live_asr.core.errors import ClientError, LiveAsrError
from live_asr.core.fields import parse_json
from live_asr.core.messages import client_from_dict, to_dict
from live_asr.server.dialects import openai_parameters, whisperlivekit
from live_asr.server.dialects.deepgram.parameters import read_keyterms, read_query
from live_asr.server.dialects.openai_errors import status_of
from live_asr.server.dialects.realtime.conversation import read_event
from live_asr.server.dialects.realtime.settings import SessionSettings
from live_asr.server.dialects.uploads import read_form
from live_asr.server.dialects.wyoming import Event, start_of
from live_asr.server.dialects.wyoming import read_event as read_wyoming

FORM = "multipart/form-data; boundary=here"
MAX_UPLOAD_BYTES = 1024 * 1024
MAX_WYOMING_LINE = 64 * 1024


def items(data: bytes) -> list[tuple[str, str]]:
    """Return the parameters of a query."""
    return parse_qsl(data.decode("utf-8", "replace"), keep_blank_values=True)


def deepgram_query(data: bytes) -> str:
    """Read the query of a stream and of a recording."""
    read = [read_query(items(data), is_live=is_live) for is_live in (True, False)]
    for asked in read:
        check_start(asked.start)
    asked = read[0]
    return f"{asked.start.audio} {asked.channels} {len(asked.warnings)} {asked.utterance_end}"


def deepgram_control(data: bytes) -> str:
    """Read a `Configure`."""
    message = parse_json(data.decode("utf-8", "replace"))
    return f"{len(read_keyterms(message))} terms" if isinstance(message, dict) else "no object"


def realtime_event(data: bytes) -> str:
    """Read an event, and what an update asks for."""
    event = read_event(data.decode("utf-8", "replace"))
    if "session" not in event:
        return f"event {len(event.get('bytes', b'')).bit_length()}"
    settings = SessionSettings().changed(event["session"])
    check_start(settings.start())
    json.dumps([settings.shown("s"), settings.shown_as_beta("s")])
    settings.update()
    return f"session {len(settings.warnings)} {settings.format} {settings.turn_detection is None}"


def whisperlivekit_query(data: bytes) -> str:
    """Read the query of `/asr`."""
    wanted = whisperlivekit.read_query(dict(items(data)))
    for is_file in (True, False):
        check_start(whisperlivekit.start_of(wanted, "container", is_file=is_file))
    return f"{wanted['mode']} {wanted['pace']} {wanted['audio']}"


def openai_form(data: bytes) -> str:
    """Read the fields of a form."""
    form = FormData(items(data))
    asked = openai_parameters.read(form, "tiny.en", task="transcribe")
    check_start(asked.start)
    return f"{len(asked.warnings)} warnings, {len(asked.start.vocabulary).bit_length()}"


async def form_body(data: bytes) -> str:
    """Read the body of a form, which comes in pieces."""
    pieces = iter([data[at : at + 1000] for at in range(0, len(data), 1000)])

    async def receive() -> dict[str, Any]:
        piece = next(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", FORM.encode())]}
    form = await read_form(Request(scope, receive), Path(tempfile.gettempdir()), MAX_UPLOAD_BYTES)
    await form.close()
    return f"{len(form)} fields"


async def wyoming_events(data: bytes) -> str:
    """Read all events of Wyoming; where one is none the connection ends."""
    reader, kinds = asyncio.StreamReader(limit=MAX_WYOMING_LINE), []
    reader.feed_data(data)
    reader.feed_eof()
    try:
        while True:
            kinds.append(wyoming_kind(await read_wyoming(reader)))
    except EOFError:
        return f"events {kinds[:5]}"
    except (ValueError, asyncio.LimitOverrunError) as error:
        return f"events {kinds[:5]}, then {type(error).__name__}"


def wyoming_kind(event: Event) -> str:
    """Read what an event asks for."""
    if event.type not in ("audio-start", "audio-chunk", "transcribe"):
        return "other"
    try:
        check_start(start_of(event.data, event.data))
    except ClientError as error:
        check_sentence(error)
        return f"{event.type} refused"
    return event.type


def check_start(start: Any) -> None:
    """Raise UnsoundError for what a session cannot be opened with, or taken up with."""
    written = to_dict(start)  # with numbers as the wire has them
    if to_dict(client_from_dict(json.loads(json.dumps(written)))) != written:
        raise UnsoundError("What is to be opened does not read back as it was written.")


Decoder = Callable[[bytes], str | Awaitable[str]]
SEEDS: dict[Decoder, tuple[bytes, ...]] = {
    deepgram_query: (
        b"model=nova-3&encoding=linear16&sample_rate=16000&channels=2&multichannel=true&interim_results=true"
        b"&utterance_end_ms=1000&endpointing=300&vad_events=true&punctuate=true&diarize=true&language=en",
        b"keyterm=Yankee&keywords=Rose:2&tag=a&extra=b:c&callback=https://example.com/&detect_language=de"
        b"&detect_language=en&paragraphs=true&utterances=true&redact=pci&numerals=true",
    ),
    deepgram_control: (b'{"type":"Configure","keyterms":["Yankee"],"features":null}',),
    realtime_event: (
        b'{"type":"input_audio_buffer.append","event_id":"e","audio":"AAAA"}',
        b'{"type":"session.update","session":{"type":"transcription","audio":{"input":{"format":{"type":'
        b'"audio/pcm","rate":24000},"noise_reduction":{"type":"near_field"},"transcription":{"model":"m",'
        b'"language":"en","languages":["en"],"prompt":"a, b","keywords":["c"],"delay":"low"},'
        b'"turn_detection":{"type":"server_vad","threshold":0.5,"prefix_padding_ms":300,'
        b'"silence_duration_ms":500}}},"include":["item.input_audio_transcription.logprobs"]}}',
        b'{"type":"transcription_session.update","session":{"input_audio_format":"g711_ulaw",'
        b'"input_audio_transcription":{"model":"m"},"turn_detection":{"type":"semantic_vad","eagerness":"low"}}}',
    ),
    whisperlivekit_query: (b"language=auto&mode=diff&audio=pcm&pace=fast&diarize=false&token=x",),
    openai_form: (
        urlencode(
            [
                *(("model", "whisper-1"), ("language", "en"), ("prompt", "Kubernetes, Nguyen.")),
                *(("response_format", "verbose_json"), ("timestamp_granularities[]", "word")),
                *(("temperature", "0.2"), ("chunking_strategy[type]", "server_vad"), ("keywords[]", "Diane")),
                *(("chunking_strategy[threshold]", "0.3"), ("include[]", "logprobs"), ("stream", "true")),
                ("known_speaker_names[]", "Anna"),
                ("known_speaker_references[]", "data:audio/wav;base64,AAAA"),
            ]
        ).encode(),
        b"model=gpt-4o-transcribe-diarize&response_format=diarized_json&chunking_strategy=auto",
    ),
    form_body: (
        b'--here\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--here\r\n'
        b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        b"RIFF....WAVE\r\n--here--\r\n",
    ),
    wyoming_events: (
        b'{"type":"transcribe","data":{"language":"en","transcript_names":["Anna"]}}\n'
        b'{"type":"audio-start","data":{"rate":16000,"width":2,"channels":1}}\n'
        b'{"type":"audio-chunk","data_length":15,"payload_length":4}\n{"rate":16000 }\0\0\0\0'
        b'{"type":"audio-stop"}\n',
    ),
}
"""Each decoder, and what clients send to it."""


class DialectJudge:
    """Give an input to the decoder that it names."""

    def __init__(self) -> None:
        self._decoders = list(SEEDS)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Close the loop; idempotent."""
        self._loop.close()

    def __call__(self, data: bytes) -> Outcome:
        """Read one input; it is refused by a sentence or read."""
        decoder = self._decoders[(data[0] if data else 0) % len(self._decoders)]
        name = getattr(decoder, "__name__", "decoder")
        try:
            result = decoder(data[1:])
            if not isinstance(result, str):
                result = self._loop.run_until_complete(waited_for(result))
        except LiveAsrError as error:
            check_sentence(error)
            return Outcome("refused", f"{name} {error.code} {re.sub(r'[^a-z` ]', '', str(error))[:60]}")
        return Outcome("read", f"{name} {result}")


async def waited_for(result: Awaitable[str]) -> str:
    """Return what comes of it."""
    return await result


def check_sentence(error: LiveAsrError) -> None:
    """Raise UnsoundError where a refusal says nothing, too much, or is no mistake of the client's."""
    if not isinstance(error, ClientError) or not error.message or len(str(error)) > MAX_SENTENCE:
        raise UnsoundError(f"{type(error).__name__} {error.code!r}: {str(error)[:80]!r}")
    if not 400 <= status_of(error) < 500:
        raise UnsoundError(f"The code {error.code!r} says that the server is at fault.")


def seeds() -> Iterator[bytes]:
    """Yield what clients send, each with the number of its decoder before it."""
    for number, given in enumerate(SEEDS.values()):
        yield from (bytes([number]) + data for data in given)


def nearly(corpus: Corpus, chance: random.Random) -> bytes:
    """Make an input that is nearly what a client sends."""
    data = corpus.pick(chance)
    head, rest = data[:1], data[1:]
    for _ in range(chance.choice((1, 1, 2, 4))):
        kind = chance.random()
        if kind < 0.4 and rest[:1] == b"{":
            rest = retold(rest, chance)
        elif kind < 0.5:
            rest = spliced(rest, corpus.pick(chance)[1:], chance)
        else:
            rest = chance.choice(BYTEWISE)(rest, chance)
    return head + rest[:LARGEST_FRAME_BYTES]


def dialects() -> Source:
    """Return the source of what other programs' clients send."""
    return Source(list(seeds()), nearly)
