"""Which service a command uses: options, environment, `.env`, profiles."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tasker.cli import main
from tasker.cli.params import UsageError
from tasker.cli.targets import find_target
from tasker.errors import ConfigError

VARIABLES = ("TASKER_URL", "TASKER_PORT", "TASKER_TOKEN", "TASKER_PROFILE")
CONFIG = """
default_profile = "home"

[profile.home]
url = "http://home"
token = "home-token"

[profile.prod]
url = "http://prod"
token = "prod-token"

[profile.ci]
url = "http://ci"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a file of profiles, and nothing in the environment."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = tmp_path / "config" / "tasker" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG)
    file.chmod(0o600)
    return file


HERE = ("http://127.0.0.1:5000", None)
HOME = ("http://home", "home-token")


@pytest.mark.parametrize(
    ("options", "environment", "dotenv", "expected"),
    [
        ({}, {}, {}, HOME),
        ({"profile": "prod"}, {}, {}, ("http://prod", "prod-token")),
        ({"profile": "prod"}, {"TASKER_URL": "http://env", "TASKER_TOKEN": "env"}, {}, ("http://prod", "prod-token")),
        ({"profile": "ci"}, {"TASKER_TOKEN": "env"}, {}, ("http://ci", "env")),
        ({"profile": "ci"}, {}, {"TASKER_TOKEN": "file"}, ("http://ci", None)),
        ({"url": "http://flag"}, {"TASKER_PROFILE": "prod"}, {}, ("http://flag", None)),
        ({"url": "http://flag"}, {"TASKER_URL": "http://env", "TASKER_TOKEN": "env"}, {}, ("http://flag", "env")),
        ({}, {"TASKER_PROFILE": "prod"}, {}, ("http://prod", "prod-token")),
        ({}, {"TASKER_PROFILE": "prod", "TASKER_TOKEN": "env"}, {}, ("http://prod", "env")),
        ({}, {"TASKER_PROFILE": "prod", "TASKER_URL": "http://env"}, {}, ("http://env", None)),
        ({}, {"TASKER_PROFILE": "prod"}, {"TASKER_URL": "http://file"}, ("http://prod", "prod-token")),
        ({}, {"TASKER_URL": "http://env"}, {"TASKER_PROFILE": "prod"}, ("http://env", None)),
        ({}, {"TASKER_PORT": "7000"}, {}, ("http://127.0.0.1:7000", None)),
        ({}, {}, {"TASKER_URL": "http://file", "TASKER_TOKEN": "file"}, ("http://file", "file")),
        ({}, {}, {"TASKER_PROFILE": "prod"}, ("http://prod", "prod-token")),
        ({}, {}, {"TASKER_TOKEN": "file"}, (HERE[0], "file")),
        ({}, {"TASKER_TOKEN": "env"}, {}, ("http://home", "env")),
    ],
)
def test_the_nearest_names_the_service(
    options: dict[str, str],
    environment: dict[str, str],
    dotenv: dict[str, str],
    expected: tuple[str, str | None],
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in dotenv.items()))
    found = find_target(**options)
    assert (found.url, found.token) == expected


def test_without_anything_it_is_this_machine(config: Path) -> None:
    config.unlink()
    found = find_target()
    assert (found.url, found.token) == HERE


def test_a_target_does_not_show_its_token(config: Path) -> None:
    assert "home-token" not in repr(find_target())


def test_two_services_are_refused(config: Path) -> None:
    with pytest.raises(UsageError, match="not both"):
        find_target("http://a", "prod")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profile.a", "expected a readable file in TOML"),
        ("[profile.a]\ntoken = 'x'", r"\[profile.a\]: expected url"),
        ("[profile.a]\nurl = 5", r"\[profile.a\]: expected texts"),
        ("[profile.a]\nurl = 'x'\nport = 5", r"\[profile.a\]: expected url"),
        ("profil = 5", "got 'profil'"),
        ("default_profile = 5", "expected"),
        ("default_profile = 'b'", "there is no profile 'b' .* there is: none"),
    ],
)
def test_a_wrong_file_is_said(text: str, said: str, config: Path) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError, match=said):
        find_target()


def test_an_unknown_profile_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--profile", "nowhere"]) == 2
    assert "--profile: there is no profile 'nowhere'" in capsys.readouterr().err


def test_a_file_that_others_may_read_is_noted(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    find_target()
    assert capsys.readouterr().err == ""
    config.chmod(0o640)
    find_target()
    assert f"chmod 600 {config}" in capsys.readouterr().err


def test_profiles_are_added_listed_and_used(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config.unlink()
    config.parent.rmdir()
    assert main(["profile", "ls"]) == 0
    assert "No profiles" in capsys.readouterr().err
    Path("token").write_text('with"quote\n')
    assert main(["profile", "add", "one", "http://one", "--token", "@token"]) == 0
    assert main(["profile", "add", "two", "http://two"]) == 0
    assert main(["profile", "use", "two"]) == 0
    assert main(["profile", "use", "one"]) == 0
    capsys.readouterr()
    assert main(["profile", "ls"]) == 0
    assert capsys.readouterr().out == "one\thttp://one\tyes\tdefault\ntwo\thttp://two\tno\t\n"
    assert main(["profile", "ls", "--json"]) == 0
    assert 'with"quote' not in capsys.readouterr().out
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    found = find_target()
    assert (found.url, found.token) == ("http://one", 'with"quote')


def test_the_rest_of_the_file_stays_as_it_is(config: Path) -> None:
    text = '# mine\ndefault_profile = "home"\n\n[profile.home]\nurl = "http://home" # default_profile = 1\n'
    config.write_text(text)
    assert main(["profile", "add", "prod", "http://prod"]) == 0
    assert main(["profile", "use", "prod"]) == 0
    rest = '[profile.home]\nurl = "http://home" # default_profile = 1\n\n[profile.prod]\nurl = "http://prod"\n'
    assert config.read_text() == f'default_profile = "prod"\n# mine\n\n{rest}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "home", "http://x"], "there is a profile 'home' already"),
        (["add", "a b", "http://x"], "NAME: expected letters"),
        (["add", "a", "x"], "URL: expected a URL"),
        (["add", "a", "http://x", "--token", "open"], "--token: expected @file or -"),
        (["add", "a", "http://x", "--token", "@token"], "visible ASCII characters"),
        (["use", "a"], "there is no profile 'a'"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], said: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("token").write_text("two\nlines")
    assert main(["profile", *words]) == 2
    assert said in capsys.readouterr().err
    assert config.read_text() == CONFIG
