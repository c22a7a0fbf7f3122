"""The house itself: what importing does. Ruff checks what is written down."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "live_asr"
FILES = sorted(PACKAGE.rglob("*.py"))
NETWORKS = {"live_asr.models.campplus", "live_asr.models.ge2e", "live_asr.full_pass.pyannote_parts"}
"""Written in torch, and imported only where it is computed with."""
HEAVY = {"torch", "pyannote", "faster_whisper", "ctranslate2", "onnxruntime", "kaldi_native_fbank", "ray"}
RARE = {"alembic", "av", "boto3", "docx", "langcodes", "lxml", "obstore", "psycopg"}
"""Needed by some servers, or once in a while: megabytes of each that others go without."""


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = [module_of(file) for file in FILES]


def loaded_by(*modules: str) -> set[str]:
    """Return which top-level packages a fresh process loads when it imports these modules."""
    code = (
        "import json, sys; before = set(sys.modules); "  # what measures coverage may be there already
        f"import {', '.join(modules)}; "
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(process.stdout.splitlines()[-1]))


# What importing does ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module", ["live_asr.server.run", "live_asr.server.app", "live_asr.cli", "live_asr.client"]
)
def test_the_process_that_owns_the_sockets_loads_no_library_that_it_may_never_need(module: str) -> None:
    assert not loaded_by(module) & (HEAVY | RARE)


def test_no_module_loads_a_model_library_before_a_model_is_built() -> None:
    assert not loaded_by(*(module for module in MODULES if module not in NETWORKS)) & HEAVY


def test_the_policy_needs_nothing_but_the_standard_library_and_numpy() -> None:
    core = [module for module in MODULES if module.startswith("live_asr.core")]
    ours = loaded_by(*core) - set(sys.stdlib_module_names) - {"live_asr", "numpy", "__main__"}
    # orjson: the one way in which messages are written and read.
    assert {name for name in ours if not name.startswith("_")} <= {"orjson"}


EFFECTS = """
import json, sys, threading
effects = []

def audit(event, arguments):
    if event == "open":
        path, mode = str(arguments[0]), arguments[1]
        if mode is not None and set(mode) & set("wax+") or (arguments[2] or 0) & 3:
            effects.append(f"writes {path}")
    elif event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.mkdir", "os.remove"):
        effects.append(event)

import importlib
import logging, signal
for module in sys.argv[2:]:  # what others do when they are imported is not ours
    importlib.import_module(module)

def settings():
    caught = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    return caught, list(logging.getLogger().handlers)

before = settings()
sys.dont_write_bytecode = True
sys.addaudithook(audit)
importlib.import_module(sys.argv[1])
if settings() != before:
    effects.append("changes signals or logging")
effects += [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps(effects))
"""


@pytest.mark.parametrize("module", ["live_asr.server.run", "live_asr.cli", "live_asr.inference.worker"])
def test_importing_a_module_writes_starts_and_connects_nothing(module: str) -> None:
    others = [
        "asyncio",
        "numpy",
        "fastapi",
        "uvicorn",
        "prometheus_client",
        "typer",
        "rich",
    ]
    process = subprocess.run(
        [sys.executable, "-c", EFFECTS, module, *others], capture_output=True, text=True, check=True
    )
    assert json.loads(process.stdout.splitlines()[-1]) == []
    assert process.stdout.count("\n") == 1 and not process.stderr, "importing says nothing"


@pytest.mark.parametrize("file", FILES, ids=MODULES)
def test_a_module_holds_definitions_and_constants_only(file: Path) -> None:
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    allowed = ast.Import | ast.ImportFrom | definitions | ast.Assign | ast.AnnAssign
    for node in ast.parse(file.read_text()).body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_guard = isinstance(node, ast.If) and ast.unparse(node.test) in (
            "__name__ == '__main__'",
            "TYPE_CHECKING",
            "not __package__",  # a file that Alembic runs
        )
        is_command = ast.unparse(node).startswith("app.add_typer(")
        assert is_text or is_guard or is_command or isinstance(node, allowed), (
            f"line {node.lineno}: {ast.unparse(node)}"
        )


def test_no_two_test_modules_have_one_name() -> None:
    """Of two pytest would collect the one that comes first, and only say of the other that it cannot."""
    names = Counter(
        file.name for file in Path(__file__).parent.rglob("test_*.py") if ".cache" not in file.parts
    )
    assert [name for name, count in names.items() if count > 1] == []
