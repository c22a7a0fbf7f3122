"""How a replay shows itself: live in a terminal, or as plain lines where the output is a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from live_asr.client.media import MediaFile
from live_asr.core.errors import LiveAsrError
from live_asr.core.messages import (
    Commit,
    Final,
    Lag,
    Notice,
    Partial,
    Ready,
    ServerMessage,
    Stopped,
    UtteranceMessage,
)
from live_asr.core.messages import Progress as FullPassProgress
from live_asr.replay.lines import Line, Lines
from live_asr.replay.summary import clock, colour_of, printable, summary


class CaptionsView:
    """Committed words on stdout, line by line, and all else on stderr: for pipes and files."""

    def __init__(self, console: Console, errors: Console, *, with_speakers: bool = True) -> None:
        self._console = console
        self._errors = errors
        self._with_speakers = with_speakers
        self._lines = Lines(with_speakers=with_speakers)
        self._stage = ""

    @contextmanager
    def showing(self, file: MediaFile) -> Iterator[None]:
        """Show the captions of `file`."""
        self._begin()
        self.say(f"{file.path} ({clock(file.duration)})")
        try:
            yield
        finally:
            self._print_lines(self._lines.flush())

    def show(self, message: ServerMessage) -> None:
        """Print what may be: lines that are complete, the full pass's stages, and who spoke in the end."""
        self._print_lines(self._lines.apply(message))
        match message:
            case FullPassProgress():
                self._report(message)
            case Final():
                self._summarize(message)
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

    def _begin(self) -> None:
        self._lines = Lines(with_speakers=self._with_speakers)
        self._stage = ""

    def _report(self, progress: FullPassProgress) -> None:
        """Name each stage of the full pass once: a pipe holds what was said, and no bars."""
        if progress.stage != self._stage:
            self._stage = progress.stage
            self.say(f"Full pass: {progress.stage}")

    def _summarize(self, final: Final) -> None:
        for line in summary(final, with_timeline=False):
            self._print(self._errors, line.plain)

    def _print_lines(self, lines: Iterable[Line]) -> None:
        for line in lines:
            label = f"{line.speaker}: " if line.speaker is not None else ""
            self._print(self._console, f"[{clock(line.start)}] {label}{line.text}")

    def _print(self, console: Console, line: str) -> None:
        console.print(Text(printable(line)), soft_wrap=True)


class TerminalView(CaptionsView):
    """Complete lines scroll by; what is still open is below them, its tail dim, and below that a bar.

    A speaker's label stands where the speaker changes. What is open takes up new labels; what has
    scrolled by cannot.
    """

    def __init__(self, console: Console, errors: Console, *, with_speakers: bool = True) -> None:
        super().__init__(console, errors, with_speakers=with_speakers)
        self._live: Live | None = None
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[position]}", markup=False),
        )
        self._task = TaskID(0)
        self._duration: float | None = None
        self._tail = ""
        self._speaker: str | None = None
        """Of the last line that was printed."""

    @contextmanager
    def showing(self, file: MediaFile) -> Iterator[None]:
        """Show the captions of `file` live until the context is left."""
        self._begin()
        self._duration = file.duration
        self._tail, self._speaker = "", None
        self._task = self._progress.add_task(
            printable(file.path.name), total=file.duration, position="connecting"
        )
        with Live(self._rendered(), console=self._console, refresh_per_second=10) as self._live:
            try:
                yield
            finally:
                self._tail = ""
                self._print_lines(self._lines.flush())
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
            case Lag():
                self._place(message.received, f" · {message.seconds:.1f} s behind")
            case Stopped():
                self._tail = ""
                self._place(message.duration, " · finishing")
            case _:
                pass
        super().show(message)
        if self._live is not None:
            self._live.update(self._rendered())

    def say(self, sentence: str) -> None:
        """Print a dim line above the captions that are being shown."""
        self._console.print(Text(printable(sentence), style="dim"), soft_wrap=True)

    def _report(self, progress: FullPassProgress) -> None:
        self._progress.update(
            self._task,
            total=1.0,
            completed=progress.fraction,
            position=f"full pass: {printable(progress.stage)} {progress.fraction:.0%}",
        )

    def _summarize(self, final: Final) -> None:
        for line in summary(final, with_timeline=True):
            self._console.print(line, soft_wrap=True)

    def _print_lines(self, lines: Iterable[Line]) -> None:
        for line in lines:
            text = Text(f"[{clock(line.start)}] ").append_text(_label(line.speaker, self._speaker))
            text.append(printable(line.text))
            # Taken first: printing draws the open lines below anew, and they go on from here.
            self._speaker = line.speaker
            self._console.print(text, soft_wrap=True)

    def _place(self, position: float, remark: str) -> None:
        self._progress.update(
            self._task, completed=position, position=f"{clock(position)} / {clock(self._duration)}{remark}"
        )

    def _rendered(self) -> Group:
        captions, speaker = Text(), self._speaker
        for line in self._lines.pending:
            is_new = line.speaker != speaker
            captions.append("\n" if captions and is_new else " " if captions else "")
            captions.append_text(_label(line.speaker, speaker)).append(printable(line.text))
            speaker = line.speaker
        captions.append(printable(self._tail), style="dim italic")
        return Group(captions, self._progress)


def _label(speaker: str | None, before: str | None) -> Text:
    """Return what stands before the words of `speaker` where those before were of `before`."""
    if speaker == before:
        return Text()
    if speaker is None:
        return Text("?: ", style="dim")  # else the words would seem to be those of the one before
    return Text(f"{printable(speaker)}: ", style=f"bold {colour_of(speaker)}")
