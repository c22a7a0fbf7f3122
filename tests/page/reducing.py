"""The page's reducer, called from a test: messages in, state out."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

REDUCE = """async (messages) => {
    const { initialState, reduce, plainText, wordCount, isTailLost, detectedLanguage, shownUtterances } =
        await import("/web/state/state.js");
    const { colorOf, shownName } = await import("/web/state/speakers.js");
    const { turnsOf } = await import("/web/state/turns.js");
    const { behind, elapsed, timeShown, hearing, wordsFor } = await import("/web/state/words.js");
    const freeze = (value) => {
        if (value && typeof value === "object") Object.values(Object.freeze(value)).forEach(freeze);
        return value;
    };
    const byLabel = (value) => Object.fromEntries(
        ["S1", "S2", "S3", "SPEAKER_00", "SPEAKER_01"].map((label) => [label, value(label)]));
    const state = messages.reduce(
        (state, message) => freeze(reduce(state, freeze(message))), freeze(initialState()));
    return {
        ...state,
        text: plainText(state),
        shown: shownUtterances(state),
        who: byLabel((label) => shownName(label, state.cast)),
        colors: byLabel((label) => colorOf(label, state.cast)),
        turns: state.utterances.map((utterance) => turnsOf(utterance.words).map((turn) => turn.speaker)),
        count: wordCount(state),
        behind: behind(state),
        elapsed: elapsed(state),
        hearing: hearing(state),
        clock: timeShown(state),
        isTailLost: isTailLost(state),
        detected: detectedLanguage(state),
        words: wordsFor(state),
    };
}"""

ASKED = {"type": "page.permission_asked"}
OPENED = {"type": "page.microphone_opened"}
READY = {"type": "ready", "session": "abc", "max_unacked_bytes": 1, "received_bytes": 0}
LIVE = [ASKED, OPENED, READY]


def reduced(page: Page, *messages: dict[str, Any]) -> Any:
    """Return the state after these messages. States and messages are frozen: a change to one throws."""
    return page.evaluate(REDUCE, list(messages))


def word(text: str, start: float, end: float, speaker: str | None = None) -> dict[str, Any]:
    return {"text": text, "start": start, "end": end, "speaker": speaker}


def commit(utterance: int, *words: dict[str, Any]) -> dict[str, Any]:
    return {"type": "commit", "utterance": utterance, "words": list(words)}
