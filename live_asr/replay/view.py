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
)
from live_asr.errors import LiveAsrError


class CaptionsView:
    """One line per utterance on stdout, all else on stderr: for pipes and files."""

    def __init__(self, console: Console, errors: Console) -> None:
        self._console = console
        self._errors = errors

    @contextmanager
    def showing(self, file: MediaFile) -> Iterator[None]:
        """Show the captions of `file`."""
        self.say(f"{file.path} ({_clock(file.duration)})")
        yield

    def show(self, message: ServerMessage) -> None:
        """Print an utterance when it is complete."""
        if isinstance(message, UtteranceMessage) and message.text.strip():
            self._print(self._console, f"[{_clock(message.start)}] {message.text.strip()}")
        elif isinstance(message, Notice):
            self.say(message.message)

    def say(self, sentence: str) -> None:
        """Print a line on stderr."""
        self._print(self._errors, sentence)

    def complain(self, error: LiveAsrError, path: Path | None = None) -> None:
        """Print the error in one line on stderr."""
        where = f"{path}: " if path is not None else ""
        self._print(self._errors, f"Error: {where}{error}")

    def _print(self, console: Console, line: str) -> None:
        console.print(Text(_printable(line)), soft_wrap=True)


class TerminalView(CaptionsView):
    """Complete utterances scroll by; the open one is below them, its tail dim, and below that a bar."""

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
        self._committed = self._tail = ""

    @contextmanager
    def showing(self, file: MediaFile) -> Iterator[None]:
        """Show the captions of `file` live until the context is left."""
        self._duration = file.duration
        self._committed = self._tail = ""
        self._task = self._progress.add_task(
            _printable(file.path.name), total=file.duration, position="connecting"
        )
        with Live(self._rendered(), console=self._console, refresh_per_second=10) as self._live:
            try:
                yield
            finally:
                self._tail = ""
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
            case Commit():
                self._committed += message.text
                self._tail = ""
            case UtteranceMessage():
                self._committed = self._tail = ""
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
        captions = Text(_printable(self._committed).lstrip())
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
