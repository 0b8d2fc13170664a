"""Settings: sources of values, which of them win, and the errors for wrong ones."""

from __future__ import annotations

import os
import textwrap
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasker.config.loading import describe_settings, load_settings
from tasker.config.prices import ModelPrice
from tasker.config.settings import Settings, available_cpus, is_loopback
from tasker.errors import ConfigError

PROJECT = Path(__file__).parents[2]
TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Remove all settings from the environment, and run in a folder without a `.env`."""
    for name in list(os.environ):
        if name.startswith(("TASKER_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(**flags: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(**flags)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_the_defaults() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 5000, Path(".tasker"))
    assert settings.database_file == Path(".tasker/tasker.db")
    assert settings.processes == max(2, available_cpus())
    assert settings.heartbeat * 2 <= settings.lease


def test_constructing_settings_reads_nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_PORT", "1234")
    Path(".env").write_text("TASKER_SLOTS=7\n")
    assert (Settings().port, Settings().slots) == (5000, 100)


def test_a_flag_wins_over_the_environment_and_that_over_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TASKER_PORT=1\nTASKER_SLOTS=1\nTASKER_PROCESSES=1\n")
    monkeypatch.setenv("TASKER_PORT", "2")
    monkeypatch.setenv("TASKER_SLOTS", "2")
    settings = load_settings(port="3", slots=None)
    assert (settings.port, settings.slots, settings.processes) == (3, 2, 1)


def test_an_empty_value_is_unset_in_every_source(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TASKER_PORT=4000\nTASKER_SLOTS=\n")
    for name in ("TASKER_PORT", "OPENAI_API_KEY", "TASKER_TOKEN", "TASKER_DATABASE_URL", "TASKER_NO_SUCH"):
        monkeypatch.setenv(name, "")
    settings = load_settings(host="")
    assert (settings.port, settings.slots, settings.host) == (4000, 100, "127.0.0.1")
    assert settings.gpt.api_key is None
    assert settings.token is None


def test_values_are_read_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "TASKER_TASKS": "mytasks.py, package.module,",
        "TASKER_LEASE": "PT1M",
        "TASKER_TIMEOUT": "0.5",
        "TASKER_MAX_BODY": "2MiB",
        "TASKER_CHILD_MAX_MEMORY": "1GB",
        "TASKER_LOG_LEVEL": "WARNING",
        "TASKER_ALLOWED_HOSTS": "tasks.example.org,localhost",
        "TASKER_GPT_PROVIDER": "Local",
        "TASKER_GPT_THREADS": "3",
        "OPENAI_API_KEY": "sk-1",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.tasks == ("mytasks.py", "package.module")
    assert (settings.lease, settings.timeout) == (timedelta(minutes=1), timedelta(milliseconds=500))
    assert (settings.max_body, settings.child_max_memory) == (2 * 1024**2, 1000**3)
    assert settings.log_level == "warning"
    assert settings.allowed_hosts == ("tasks.example.org", "localhost", "127.0.0.1")
    assert (settings.gpt.provider, settings.gpt.threads) == ("local", 3)
    assert (settings.gpt.api_key, settings.gpt.base_url) == (SecretStr("sk-1"), "http://127.0.0.1:1/v1")


def test_all_faults_are_reported_at_once_by_the_names_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TASKER_SLOTS=none\nTASKER_DATADIR=x\n")
    monkeypatch.setenv("TASKER_PORT", "abc")
    monkeypatch.setenv("TASKER_GPT_TIMEOUT", "-1")
    monkeypatch.setenv("OPENAI_BASE_URL", "api.example.org")
    assert faults_of(auth="maybe") == [
        "TASKER_DATADIR (in .env): expected a setting of Tasker, got an unknown name; the nearest is TASKER_DATA_DIR",
        "TASKER_PORT: expected a port from 0 to 65535 (0: any free one), got 'abc'",
        "--auth: expected auto, on or off, got 'maybe'",
        "TASKER_SLOTS (in .env): expected a whole number from 1 to 100000, got 'none'",
        "OPENAI_BASE_URL: expected a URL with http:// or https://, got 'api.example.org'",
        "TASKER_GPT_TIMEOUT: expected more than 0 seconds (30, 0.5, or ISO 8601: PT5M), got '-1'",
    ]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TASKER_RETENTION", "0"),
        ("TASKER_RETENTION", "-1"),
        ("TASKER_RETENTION", "P10000D"),
        ("TASKER_RETENTION", "long"),
        ("TASKER_RETENTION", "nan"),
        ("TASKER_PORT", "65536"),
        ("TASKER_PORT", "5000.5"),
        ("TASKER_HOST", "two words"),
        ("TASKER_SLOTS", "0"),
        ("TASKER_PROCESSES", "0"),
        ("TASKER_LEASE", "0"),
        ("TASKER_DRAIN", "nan"),
        ("TASKER_DRAIN", "inf"),
        ("TASKER_DRAIN", "1e300"),
        ("TASKER_MAX_BODY", "12"),
        ("TASKER_MAX_RESULT", "much"),
        ("TASKER_CHILD_MAX_MEMORY", "-1"),
        ("TASKER_CHILD_MAX_TASKS", "0"),
        ("TASKER_LOG_FORMAT", "xml"),
        ("TASKER_GPT_PROVIDER", "other"),
        ("TASKER_GPT_THREADS", "0"),
    ],
)
def test_invalid_values_are_refused(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    (fault,) = faults_of()
    assert fault.startswith(f"{variable}: expected ")
    assert fault.endswith(f", got {value!r}")


PRICES = 'prices as JSON, {"model": {"input": 0.15, "output": 0.6, "cached_input": 0.075}}'


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("nope", "it is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "all of it: Input should be a valid dictionary"),
        ('{"m": 5}', "m: Input should be a tuple, list, dictionary or an instance of ModelPrice"),
        (
            '{"m": {"input": -1, "cached": 3}, "n": {"input": NaN, "output": "1"}}',
            "m.input: Input should be greater than or equal to 0; m.output: Field required; m.cached: Extra inputs"
            " are not permitted; n.input: Input should be a finite number; n.output: Input should be a valid number",
        ),
        ('{"m": {"input": 1, "output": 1}, "m": {"input": 2, "output": 2}}', "'m' is there twice"),
        ('{"": {"input": 1, "output": 1}}', ".[key]: String should have at least 1 character"),
    ],
)
def test_wrong_prices_are_each_named(value: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_GPT_PRICES", value)
    assert faults_of() == [f"TASKER_GPT_PRICES: expected {PRICES} ({why}), got {value!r}"]


def test_prices_are_read_from_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TASKER_GPT_PRICES", '{"a": {"input": 1, "output": 0.6}, "*": {"input": 0, "output": 2, "cached_input": 0.5}}'
    )
    assert load_settings().gpt.prices == {"a": ModelPrice(1.0, 0.6), "*": ModelPrice(0.0, 2.0, 0.5)}


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"TASKER_TOKEN": "short-secret", "OPENAI_BASE_URL": "ftp://user:secret@host"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    faults = faults_of(database_url="postgresql://user:secret@host/db", auth="bad")
    assert "secret" not in " ".join(faults).replace("a secret", "")
    assert any(fault.startswith("TASKER_TOKEN: ") and "12 characters, not shown" in fault for fault in faults)
    shown = repr(Settings(token=SecretStr(TOKEN)))
    assert TOKEN not in shown


@pytest.mark.parametrize(
    "token", ["short", "with a space in it", "fifteen-letters", "ünïcödé-sixteen-ch", "a" * 15 + "\n"]
)
def test_a_weak_token_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_TOKEN", token)
    (fault,) = faults_of()
    assert "expected a token of 16 or more visible ASCII characters" in fault


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "tasks.example.org"])
def test_off_loopback_a_token_or_auth_must_be_set(host: str) -> None:
    (fault,) = faults_of(host=host)
    assert fault.startswith(f"TASKER_HOST: {host} is reachable from other machines")
    assert "set TASKER_TOKEN" in fault
    assert "TASKER_AUTH=off" in fault
    assert load_settings(host=host, auth="off").host == host
    assert load_settings(host=host, auth="on").host == host
    assert load_settings(host=host, token=TOKEN).host == host


def test_a_token_that_would_be_ignored_is_refused() -> None:
    (fault,) = faults_of(auth="off", token=TOKEN)
    assert fault.startswith("TASKER_AUTH: expected auto or on with TASKER_TOKEN, got off")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_is_recognised(host: str) -> None:
    assert is_loopback(host)
    assert load_settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "127.0.0.1.nip.io", ""])
def test_other_addresses_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_the_service_answers_under_the_address_it_listens_on() -> None:
    assert load_settings(host="192.168.1.5", auth="off").allowed_hosts[-1] == "192.168.1.5"
    assert load_settings(host="fd00::1", auth="off").allowed_hosts[-1] == "[fd00::1]"
    assert load_settings(host="0.0.0.0", auth="off").allowed_hosts == Settings().allowed_hosts
    assert load_settings(host="::", auth="off").allowed_hosts == Settings().allowed_hosts


def test_a_database_url_is_one_of_postgresql() -> None:
    for url in ("postgresql://tasker@db/tasker", "postgres:///tasker"):
        assert load_settings(database_url=url).database_url == SecretStr(url)
    (fault,) = faults_of(database_url="mysql://tasker:secret@db/tasker")
    assert fault.startswith("TASKER_DATABASE_URL: expected a URL with postgresql://")
    assert "secret" not in fault


def test_a_url_to_listen_needs_one_of_the_database() -> None:
    (fault,) = faults_of(listen_url="postgresql://u:secret@db/tasker")
    assert fault.startswith("TASKER_LISTEN_URL: expected none without TASKER_DATABASE_URL")
    assert "secret" not in fault
    url = "postgresql://db/tasker"
    assert load_settings(listen_url=url, database_url="postgresql://pooler/tasker").listen_url == SecretStr(url)


def test_a_service_without_a_worker_needs_a_database_for_others() -> None:
    (fault,) = faults_of(worker="off")
    assert fault.startswith("TASKER_WORKER (--no-worker)")
    assert not load_settings(worker="off", database_url="postgresql://db/tasker").worker


def test_the_heartbeat_fits_twice_into_the_lease() -> None:
    assert faults_of(lease=10, heartbeat=6) == [
        "TASKER_HEARTBEAT: expected at most half of TASKER_LEASE (10 s), got 6 s"
    ]
    assert load_settings(lease=10, heartbeat=5).heartbeat == timedelta(seconds=5)


def test_the_buffer_holds_the_largest_body() -> None:
    assert faults_of(max_buffered="1KiB") == [
        "TASKER_MAX_BUFFERED: expected at least 1048576 (TASKER_MAX_BODY), got 1024"
    ]


def test_a_dotenv_that_cannot_be_read_is_named() -> None:
    Path(".env").write_bytes(b"TASKER_PORT=\xff\n")
    with pytest.raises(ConfigError, match=r"^\.env: expected a readable file in UTF-8"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('A=1\nTASKER_TOKEN="abc\n', "line 2: expected NAME=value, with every quote closed"),
        ("TASKER_DATA_DIR='x\nTASKER_PORT=1\n", "line 1: expected NAME=value"),
        ("A\nexport TASKER_TOKEN\n", "line 2: expected NAME=value"),
        ("\nTASKER_DATA_DIR=a\0b\n", "line 1: expected text, got a NUL character"),
    ],
)
def test_a_line_of_dotenv_that_would_be_ignored_is_named(text: str, why: str) -> None:
    """A token that is not read leaves the service open to everybody."""
    Path(".env").write_text(text)
    with pytest.raises(ConfigError, match=rf"^\.env: {why}"):
        load_settings()


def test_lines_of_other_programs_in_dotenv_are_ignored() -> None:
    Path(".env").write_text('OTHER="abc\nTASKER_SLOTS=7\n')
    assert load_settings().slots == 7


def test_a_huge_value_is_not_shown_as_a_whole() -> None:
    [fault] = faults_of(slots="9" * 5000)
    assert len(fault) < 400


def test_variables_of_the_client_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_URL", "http://localhost:5000")
    load_settings()


def test_the_example_file_holds_every_setting_with_its_default() -> None:
    blocks = [_example(setting.description, setting.variable, setting.default) for setting in describe_settings()]
    text = (PROJECT / ".env.example").read_text(encoding="utf-8")
    assert text.rstrip("\n").split("\n\n")[1:] == blocks


def _example(description: str, variable: str, default: str) -> str:
    comment = textwrap.wrap(description + ".", 118, initial_indent="# ", subsequent_indent="# ")
    return "\n".join([*comment, f"#{variable}={default}"])


@pytest.mark.parametrize(
    ("text", "kept_for"),
    [("60", timedelta(minutes=1)), ("P90D", timedelta(days=90)), ("forever", "forever"), ("FOREVER", "forever")],
)
def test_retention_is_a_time_or_forever(text: str, kept_for: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKER_RETENTION", text)
    assert load_settings().retention == kept_for
