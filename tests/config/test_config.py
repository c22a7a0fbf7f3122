"""Settings: four places, one value, no silent mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from live_asr.config.reference import settings_as_markdown
from live_asr.config.settings import known_keys, load_settings, variable
from live_asr.core.errors import ConfigError
from live_asr.replay.own_server import as_environment

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where no live-asr.toml lies."""
    monkeypatch.chdir(tmp_path)


def _file(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


# Precedence


def test_without_anything_every_value_is_the_default() -> None:
    loaded = load_settings(environment={})
    assert loaded.settings.server.host == "127.0.0.1"
    assert loaded.settings.server.port == 8765
    assert set(loaded.origins.values()) == {"default"}


def test_settings_handed_on_as_environment_are_the_same_settings() -> None:
    plain = load_settings(environment={}).settings
    assert load_settings(environment=as_environment(plain)).settings == plain
    some = {
        "LIVE_ASR_STORAGE__KEEP_AUDIO_DAYS": "0.5",
        "LIVE_ASR_SERVER__ALLOWED_ORIGINS": "a.example,b.example",
    }
    changed = load_settings(environment=some).settings
    assert changed != plain
    assert load_settings(environment=as_environment(changed)).settings == changed


def test_flags_come_before_environment_before_file_before_default(tmp_path: Path) -> None:
    file = _file(tmp_path, "[server]\nport = 1\nmax_sessions = 1\nstart_timeout = 1\n")
    environment = {"LIVE_ASR_SERVER__PORT": "2", "LIVE_ASR_SERVER__MAX_SESSIONS": "2"}

    loaded = load_settings(file, {"server.port": 3, "server.host": None}, environment)

    server = loaded.settings.server
    assert (server.port, server.max_sessions, server.start_timeout, server.host) == (3, 2, 1.0, "127.0.0.1")
    assert loaded.origins["server.port"] == "flag"
    assert loaded.origins["server.max_sessions"] == "LIVE_ASR_SERVER__MAX_SESSIONS"
    assert loaded.origins["server.start_timeout"] == str(file)
    assert loaded.origins["server.host"] == "default"


def test_the_file_is_the_flags_else_the_environments_else_the_one_here(tmp_path: Path) -> None:
    (tmp_path / "live-asr.toml").write_text("[server]\nport = 1\n")
    named = tmp_path / "named.toml"
    named.write_text("[server]\nport = 2\n")
    flagged = tmp_path / "flagged.toml"
    flagged.write_text("[server]\nport = 3\n")
    environment = {"LIVE_ASR_CONFIG": str(named)}

    assert load_settings(environment={}).settings.server.port == 1
    assert load_settings(environment=environment).settings.server.port == 2
    assert load_settings(flagged, environment=environment).settings.server.port == 3


def test_every_setting_can_be_set_by_its_variable() -> None:
    values = {key: _another_value(key) for key in known_keys()}
    loaded = load_settings(environment={variable(key): value for key, value in values.items()})
    assert loaded.origins == {key: variable(key) for key in known_keys()}


def _another_value(key: str) -> str:
    """Return the default as text, or some text where the default is unset."""
    field = known_keys()[key]
    default = field.get_default(call_default_factory=True)
    if key == "streaming.language":
        return "en"
    if key == "webhook.max_bytes":
        return "4096"
    if key == "server.token":
        return "long-enough"
    if key == "storage.objects":
        return "s3://bucket/prefix"
    if default is None:
        is_number = any(kind in str(field.annotation) for kind in ("int", "float"))
        return "7" if is_number else "https://example.com/x"
    return ",".join(default) if isinstance(default, tuple) else str(default)


def test_lists_are_separated_by_commas_and_folders_know_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    environment = {
        "LIVE_ASR_SERVER__ALLOWED_ORIGINS": "https://a, https://b",
        "LIVE_ASR_STORAGE__DATA": "~/data",
    }
    settings = load_settings(environment=environment).settings
    assert settings.server.allowed_origins == ("https://a", "https://b")
    assert settings.storage.data == Path("/home/someone/data")


def test_an_empty_variable_unsets_what_may_be_unset(tmp_path: Path) -> None:
    file = _file(tmp_path, '[streaming]\nlanguage = "en"\n[server]\ntoken = "top-secret"\n')
    environment = {"LIVE_ASR_STREAMING__LANGUAGE": "", "LIVE_ASR_SERVER__TOKEN": ""}
    settings = load_settings(file, environment=environment).settings
    assert settings.streaming.language is None
    assert settings.server.token is None


def test_settings_are_frozen() -> None:
    settings = load_settings(environment={}).settings
    with pytest.raises(ValidationError):
        settings.server.port = 1


# Mistakes


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[server]\nprot = 1\n", "Unknown setting in", "Did you mean server.port?"),
        ("[sever]\nport = 1\n", "Unknown section in", "Did you mean server?"),
        ("server = 1\n", "is a section", "[server]"),
        ("[server\n", "is not TOML", "Correct it"),
        ("[server]\nport = 'abc'\n", "server.port cannot be 'abc'", "TCP port"),
        ("[server]\nport = 70000\n", "less than or equal to 65535", "TCP port"),
        ("[inference]\ndevice = 'gpu'\n", "'auto', 'cpu' or 'cuda'", "GPU"),
        ("[streaming]\nstep = -1\n", "streaming.step cannot be -1", "Seconds"),
    ],
)
def test_a_mistake_in_the_file_is_named_and_mended(
    tmp_path: Path, text: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_file(tmp_path, text), environment={})
    assert message in caught.value.message
    assert "settings.toml" in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "name", ["LIVE_ASR_SERVER__PROT", "LIVE_ASR_SERVER_PORT", "LIVE_ASR_SERVE__PORT", "LIVE_ASR_PORT"]
)
def test_an_unknown_variable_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environment={name: "1"})
    assert name in caught.value.message
    assert caught.value.hint == "Did you mean LIVE_ASR_SERVER__PORT?"


@pytest.mark.parametrize("engine", ["local", "ray", "ray://head:10001", "10.0.0.1:6379", "[::1]:6379"])
def test_who_recognises_is_this_machine_or_a_cluster_by_its_address(engine: str) -> None:
    assert load_settings(flags={"inference.engine": engine}).settings.inference.engine == engine


@pytest.mark.parametrize("engine", ["", "remote", "http://head:10001", "ray://head"])
def test_what_is_no_address_of_a_cluster_is_refused(engine: str) -> None:
    with pytest.raises(ConfigError, match=r"inference\.engine cannot be .*ray://head:10001"):
        load_settings(flags={"inference.engine": engine})


@pytest.mark.parametrize("store", ["s3://captions", "s3://my.bucket/talks/2026", "file:///mnt/cap%20tions"])
def test_an_object_store_is_a_bucket_or_a_folder(store: str) -> None:
    assert load_settings(flags={"storage.objects": store}).settings.storage.objects == store


@pytest.mark.parametrize(
    "store",
    ["/mnt/captions", "file://captions", "s3://", "s3://b/x?y", "https://s3.example.com/b", "gs://b/x"],
)
def test_what_is_neither_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match=r"storage\.objects cannot be .*s3://bucket/prefix"):
        load_settings(flags={"storage.objects": store})


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean server\.port"):
        load_settings(flags={"server.prot": 1}, environment={})


def test_what_kubernetes_puts_beside_a_service_is_no_setting() -> None:
    environment = {
        "LIVE_ASR_SERVICE_HOST": "10.0.0.1",
        "LIVE_ASR_SERVICE_PORT": "8765",
        "LIVE_ASR_PORT": "tcp://10.0.0.1:8765",
        "LIVE_ASR_PORT_8765_TCP": "tcp://10.0.0.1:8765",
        "LIVE_ASR_PORT_8765_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(environment=environment).settings.server.port == 8765


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.toml", environment={})


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("sesame", "at least 8 characters"),
        ("aGVsbG8gd29ybGQ=", "base64 has a variety for URLs"),
        ("aGVsbG8/d29ybGQ/", "base64 has a variety for URLs"),
        ("open, sesame", "a subprotocol"),
        ("öffne dich bitte", "a subprotocol"),
    ],
)
def test_a_token_that_a_browser_cannot_send_or_anybody_guesses_is_refused(token: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load_settings(environment={"LIVE_ASR_SERVER__TOKEN": token})
    assert token not in str(caught.value)


def test_a_token_of_all_characters_that_a_subprotocol_may_hold_is_taken() -> None:
    token = "Az09!#$%&'*+-.^_`|~"
    settings = load_settings(environment={"LIVE_ASR_SERVER__TOKEN": token}).settings
    assert settings.server.token is not None and settings.server.token.get_secret_value() == token


# What is shown


def test_every_value_is_shown_with_its_origin_and_secrets_are_masked() -> None:
    rows = {
        key: (value, origin)
        for key, value, origin in load_settings(
            environment={"LIVE_ASR_SERVER__TOKEN": "hunter-2-and-3"}
        ).rows()
    }
    assert rows["server.token"] == ("********", "LIVE_ASR_SERVER__TOKEN")
    assert rows["server.port"] == ("8765", "default")
    assert rows.keys() == known_keys().keys()


def test_a_wrong_secret_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_file(tmp_path, "[server]\ntoken = 12345678\n"), environment={})
    assert "12345678" not in str(caught.value)
    assert caught.value.__cause__ is None


SECRET_URL = "https://someone:hunter2@hooks.example.com:8443/done/swordfish?token=sesame"


def test_of_the_webhooks_url_only_the_host_is_shown() -> None:
    loaded = load_settings(environment={"LIVE_ASR_WEBHOOK__URL": SECRET_URL})
    assert loaded.settings.webhook.url == SECRET_URL
    rows = {key: value for key, value, _ in loaded.rows()}
    assert rows["webhook.url"] == "https://hooks.example.com:8443/…"
    shown = f"{rows} {loaded.settings!r} {loaded!r}"
    assert not any(secret in shown for secret in ("someone", "hunter2", "swordfish", "sesame"))


@pytest.mark.parametrize(
    "url",
    [
        "hooks.example.com/swordfish",
        "ftp://hooks.example.com/swordfish",
        "/swordfish",
        "https:///swordfish",
        "https://hooks.example.com:port/swordfish",
        "https://[hooks.example.com/swordfish",
        "https://hooks.example.com/sword fish/swordfish",
        "https://hooks.example.com/swordfish\n",
        "https://hooks.example.com/swordfish" + "x" * 2048,
    ],
)
def test_a_webhooks_url_that_is_none_is_refused_at_once_and_not_repeated(tmp_path: Path, url: str) -> None:
    file = _file(tmp_path, f"[webhook]\nurl = {json.dumps(url)}\n")
    for named, environment in [(file, {}), (None, {"LIVE_ASR_WEBHOOK__URL": url})]:
        with pytest.raises(ConfigError) as caught:
            load_settings(named, environment=environment)
        assert caught.value.message.startswith(
            "webhook.url cannot be what it is: it should be an absolute http or https URL"
        )
        assert ("settings.toml" if named else "LIVE_ASR_WEBHOOK__URL") in caught.value.message
        assert "swordfish" not in str(caught.value)


def test_a_webhooks_url_may_be_empty_and_then_nobody_is_told(tmp_path: Path) -> None:
    file = _file(tmp_path, f'[webhook]\nurl = "{SECRET_URL}"\n')
    assert load_settings(file, environment={"LIVE_ASR_WEBHOOK__URL": ""}).settings.webhook.url is None
    file = _file(tmp_path, '[webhook]\nurl = ""\n')
    assert load_settings(file, environment={}).settings.webhook.url is None


def test_every_setting_says_what_it_means_and_there_are_few() -> None:
    assert all(field.description for field in known_keys().values())
    assert len(known_keys()) <= 110  # those of a cluster included


def test_the_reference_in_docs_is_current() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == settings_as_markdown()
