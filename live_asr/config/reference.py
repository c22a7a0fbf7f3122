"""The reference of all settings, written from their statements."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

from live_asr.config.settings import DEFAULT_FILE, ENV_FILE, Settings
from live_asr.config.values import shown


def settings_as_markdown() -> str:
    """Write the reference of all settings: what `docs/configuration.md` holds."""
    lines = [
        "# Configuration",
        "",
        "<!-- Written by `live-asr config --markdown`; a test checks that it is current. -->",
        "",
        "A setting's value is the last of: its default, a TOML file, an environment variable, a flag.",
        f"The file is the one named by `--config` or `{ENV_FILE}`, else `{DEFAULT_FILE}` in the working",
        "folder. `server.port` is `port` in the file's table `[server]`, and `LIVE_ASR_SERVER__PORT` in the",
        "environment. Unknown keys are errors that name the nearest. `live-asr config` prints each value and",
        "where it came from.",
    ]
    for name, field in Settings.model_fields.items():
        section: Any = field.annotation
        lines += [
            "",
            f"## {name}",
            "",
            section.__doc__ or "",
            "",
            "| setting | default | meaning |",
            "| --- | --- | --- |",
        ]
        for key, setting in section.model_fields.items():
            extra = setting.json_schema_extra or {}
            default = extra["shown"] if "shown" in extra else _code(setting.get_default())
            choices = getattr(setting.annotation, "__args__", ())
            allowed = (
                f" One of {', '.join(f'`{choice}`' for choice in choices)}." if _is_literal(setting) else ""
            )
            lines.append(f"| `{name}.{key}` | {default} | {setting.description}{allowed} |")
    return "\n".join(lines) + "\n"


def _is_literal(field: FieldInfo) -> bool:
    return "Literal" in str(field.annotation)


def _code(default: object) -> str:
    return "unset" if default is None else "none" if default == () else f"`{shown(default)}`"
