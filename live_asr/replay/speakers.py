"""How many speakers a session may expect, as the command line asks for it."""

from __future__ import annotations

from live_asr.core.errors import ConfigError


def speaker_limits(
    speakers: int | None, at_least: int | None, at_most: int | None, *, diarize: bool = True
) -> tuple[int | None, int | None]:
    """Return the session's `min_speakers` and `max_speakers`; `speakers` sets both.

    Raises ConfigError for options that contradict each other, before a server is started for them.
    """
    if not diarize and any(number is not None for number in (speakers, at_least, at_most)):
        raise ConfigError(
            "A number of speakers makes no sense with --no-diarize.",
            "Leave one of the two out.",
        )
    if speakers is not None:
        if at_least is not None or at_most is not None:
            raise ConfigError(
                "--speakers sets both --min-speakers and --max-speakers.",
                "Give --speakers alone, or the other two.",
            )
        return speakers, speakers
    if at_least is not None and at_most is not None and at_least > at_most:
        raise ConfigError(f"--min-speakers {at_least} is more than --max-speakers {at_most}.", "Swap them.")
    return at_least, at_most
