"""How a replay shows itself: live in a terminal, or as plain lines where the output is a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from live_asr.client.media import MediaFile
from live_asr.core.messages import (
    Commit,
    Lag,
    Notice,
    Partial,
    Ready,
    ServerMessage,
    Stopped,
    UtteranceMessage,
    WireWord,
)
from live_asr.errors import LiveAsrError

_LINE_CHARACTERS = 60
"""An utterance may last half a minute: its sentences are printed as soon as they fill a line."""


class CaptionsView:
    """Committed words on stdout, line by line, and all else on stderr: for pipes and files."""

    def __init__(self, console: Console, errors: Console) -> None:
        self._console = console
        self._errors = errors
        self._pending: list[WireWord] = []

    @contextmanager
    def showing(self, file: MediaFile) -> Iterator[None]:
        """Show the captions of `file`."""
        self.say(f"{file.path} ({_clock(file.duration)})")
        try:
            yield
        finally:
            self._print_pending()

    def show(self, message: ServerMessage) -> None:
        """Print what is committed: whole sentences, and the rest when the utterance is complete."""
        match message:
            case Commit():
                for word in message.words:
                    self._pending.append(word)
                    is_sentence = word.text.rstrip().endswith((".", "?", "!", "。", "？", "！"))
                    if is_sentence and len(self._pending_text) >= _LINE_CHARACTERS:
                        self._print_pending()
            case UtteranceMessage():
                self._print_pending()
            case Notice():
                self.say(message.message)
            case _:
                pass

    def say(self, sentence: str) -> None:
        """Print a line on stderr."""
        self._print(self._errors, sentence)

    def complain(self, error: LiveAsrError, path: Path | None = None) -> None:
        """Print the error in one line on stderr."""
        where = f"{path}: " if path is not None else ""
        self._print(self._errors, f"Error: {where}{error}")

    @property
    def _pending_text(self) -> str:
        return "".join(word.text for word in self._pending).strip()

    def _print_pending(self) -> None:
        # Taken away before it is printed: printing draws the live part below anew.
        text, words = self._pending_text, self._pending
        self._pending = []
        if text:
            self._print(self._console, f"[{_clock(words[0].start)}] {text}")

    def _print(self, console: Console, line: str) -> None:
        console.print(Text(_printable(line)), soft_wrap=True)


class TerminalView(CaptionsView):
    """Complete sentences scroll by; the open one is below them, its tail dim, and below that a bar."""

    def __init__(self, console: Console, errors: Console) -> None:
        super().__init__(console, errors)
        self._live: Live | None = None
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[position]}", markup=False),
        )
        self._task = TaskID(0)
        self._duration: float | None = None
        self._tail = ""

    @contextmanager
    def showing(self, file: MediaFile) -> Iterator[None]:
        """Show the captions of `file` live until the context is left."""
        self._duration = file.duration
        self._tail = ""
        self._task = self._progress.add_task(
            _printable(file.path.name), total=file.duration, position="connecting"
        )
        with Live(self._rendered(), console=self._console, refresh_per_second=10) as self._live:
            try:
                yield
            finally:
                self._tail = ""
                self._print_pending()
                self._live.update(self._rendered())
                self._progress.remove_task(self._task)
        self._live = None

    def show(self, message: ServerMessage) -> None:
        """Take the message into the picture."""
        match message:
            case Ready():
                self._place(0.0, "")
            case Partial():
                self._tail = message.text
            case Commit() | UtteranceMessage():
                self._tail = ""
                super().show(message)
            case Lag():
                self._place(message.received, f" · {message.seconds:.1f} s behind")
            case Stopped():
                self._place(message.duration, " · finishing")
            case _:
                super().show(message)
        if self._live is not None:
            self._live.update(self._rendered())

    def say(self, sentence: str) -> None:
        """Print a dim line above the captions that are being shown."""
        self._console.print(Text(_printable(sentence), style="dim"), soft_wrap=True)

    def _place(self, position: float, remark: str) -> None:
        self._progress.update(
            self._task,
            completed=position,
            position=f"{_clock(position)} / {_clock(self._duration)}{remark}",
        )

    def _rendered(self) -> Group:
        captions = Text(_printable(self._pending_text))
        captions.append(_printable(self._tail), style="dim italic")
        return Group(captions, self._progress)


def _clock(position: float | None) -> str:
    if position is None:
        return "?"
    minutes, seconds = divmod(int(position), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def _printable(text: str) -> str:
    """Drop what could steer a terminal: names of files and recognised text come from outside."""
    return "".join(character if character.isprintable() else " " for character in text)
