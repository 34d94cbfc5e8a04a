"""Options: precedence of sources, accepted values and error messages."""

from __future__ import annotations

import copy
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from annotated_types import Ge, Gt, Le
from greenflash import AsyncGreenflash, Greenflash

from gati.errors import ConfigurationError
from gati.events import Prompt, PromptComponent
from gati.settings import Settings, load, variables

PRODUCT = "0b9f1c5e-7a44-4c63-9f0e-5f2b1f7c3a10"
SAMPLES = {
    "agent_name": "tutor", "environment": "production", "enabled": "false", "auto_inject": "0", "import_history": "1", "product_id": PRODUCT,
    "api_key": "gf_k", "base_url": "http://127.0.0.1:1", "backend_url": "https://b.example", "queue": "kafka://one:9092/turns", "backend_api_key": "b-key",
    "local": "/tmp/store.db", "local_max_bytes": "2000000", "user_id": "u", "conversation_id": "c",
    "organization_id": "o", "properties": '{"team": "a"}', "system_prompt": "Be brief.", "input_key": "ask",
    "output_key": "told", "detail": "conversation", "submission": "incremental", "sample_rate": "0.5",
    "force_sample": "true", "capture_content": "off", "max_field_bytes": "1000", "flush_interval": "0.5",
    "batch_size": "7", "max_request_bytes": "20000", "timeout": "3", "connections": "2", "spool": "no",
    "spool_dir": "/tmp/spool", "spool_max_bytes": "200000", "journal": "off", "buffer_max_bytes": "300000", "on_full": "newest",
    "turn_timeout": "60", "shutdown_timeout": "0", "debug": "1", "eager": "1", "retention": "30", "otlp_endpoint": "http://127.0.0.1:4318", "otlp_headers": "a=b", "otlp_content": "1",
}  # fmt: skip
"""A value other than the default for every option with an environment variable."""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def error(**given: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load(**given)
    return caught.value


def secret(settings: Settings, name: str) -> str | None:
    value = getattr(settings, name)
    return None if value is None else value.get_secret_value()


def test_options_have_their_defaults():
    assert load() == Settings()


def test_every_option_that_is_not_an_object_has_a_variable():
    assert {name for name in Settings.model_fields if not variables(name)} == {"client", "exporters", "mask", "on_drop"}
    assert set(SAMPLES) == {name for name in Settings.model_fields if variables(name)}


@pytest.mark.parametrize("name", SAMPLES)
def test_each_variable_sets_its_option(name: str, monkeypatch: pytest.MonkeyPatch):
    default = getattr(load(), name)
    for variable in variables(name):
        with monkeypatch.context() as patch:
            patch.setenv(variable, SAMPLES[name])
            assert getattr(load(), name) != default, variable


def test_argument_wins_over_environment_over_dotenv_over_default(monkeypatch: pytest.MonkeyPatch):
    Path(".env").write_text("GATI_BATCH_SIZE=5\nGATI_TIMEOUT=5\nGATI_CONNECTIONS=5\nUNRELATED=1\n")
    monkeypatch.setenv("GATI_BATCH_SIZE", "6")
    monkeypatch.setenv("GATI_TIMEOUT", "6")
    settings = load(batch_size=7)
    assert (settings.batch_size, settings.timeout, settings.connections, settings.on_full) == (7, 6.0, 5, "oldest")


def test_none_and_an_empty_variable_mean_not_given(monkeypatch: pytest.MonkeyPatch):
    Path(".env").write_text("GATI_AGENT_NAME=from-file\n")
    monkeypatch.setenv("GATI_AGENT_NAME", "")
    monkeypatch.setenv("GREENFLASH_API_KEY", "")
    settings = load(api_key=None, user_id=None)
    assert (settings.agent_name, settings.api_key, settings.user_id) == ("from-file", None, None)


def test_a_dotenv_that_cannot_be_read_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture):
    Path(".env").write_bytes(b"GATI_AGENT_NAME=\xff\xfe\n")
    assert load().agent_name == "agent"
    assert [record.levelname for record in caplog.records if record.name == "gati"] == ["WARNING"]


ADDRESS = "http://elsewhere.example/api/v1"


@pytest.mark.parametrize("address", ["GREENFLASH_BASE_URL", "GATI_BASE_URL", "GATI_BACKEND_URL"])
@pytest.mark.parametrize("key", ["GREENFLASH_API_KEY", "GATI_API_KEY", "GATI_BACKEND_API_KEY"])
def test_an_address_from_dotenv_is_not_used_with_a_key_from_elsewhere(
    address: str, key: str, monkeypatch: pytest.MonkeyPatch
):
    Path(".env").write_text(f"{address}={ADDRESS}\n{key}=gf_theirs\n")
    assert ADDRESS in (load().base_url or "", load().backend_url or "")
    monkeypatch.setenv(key, "gf_mine")
    raised = error()
    assert (raised.source, raised.given) == (f"{address} in .env", ADDRESS)
    assert key in raised.allowed
    assert "GATI_TRUST_DOTENV=1" in raised.allowed
    assert "gf_mine" not in str(raised)
    monkeypatch.setenv(address, "https://mine.example")
    assert ADDRESS not in (load().base_url or "", load().backend_url or "")


def test_an_address_from_dotenv_is_not_used_with_an_argument(monkeypatch: pytest.MonkeyPatch):
    Path(".env").write_text(f"GREENFLASH_BASE_URL={ADDRESS}\nGATI_TRUST_DOTENV=1\n")
    assert load().base_url == ADDRESS
    assert error(api_key="gf_mine").option == "base_url"
    assert load(client=Greenflash(api_key="gf_mine"))  # a client has its own address
    assert load(api_key="gf_mine", base_url="https://mine.example").base_url == "https://mine.example"
    monkeypatch.setenv("GATI_TRUST_DOTENV", "1")
    assert load(api_key="gf_mine").base_url == ADDRESS


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host/api", "http://***@host/api"),
        ("http://me:se@cr@et@host:81/api", "http://***@host:81/api"),
        ("https://host/api?key=secret&x=secret", "https://host/api?key=***&x=***"),
        ("https://secret@host", "https://***@host"),
        ("https://host/api?page=1#secret", "https://host/api?page=***#***"),
        ("https://host/api?secret", "https://host/api?***"),
        ("https://host:8000/api", "https://host:8000/api"),
    ],
)
def test_credentials_inside_an_address_are_never_shown(address: str, shown: str):
    settings = load(api_key="gf_k", base_url=address, backend_url=address)
    assert settings.base_url == address
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "secret" not in text
        assert text.count(shown) == 2


@pytest.mark.parametrize(
    "address", ["http://me:a/secret@host", "http://me:a secret@host", "http:/me:secret@host", "me:secret@host"]
)
def test_an_address_whose_password_breaks_it_is_rejected_without_showing_it(address: str):
    for name in ("base_url", "backend_url", "otlp_endpoint"):
        assert "secret" not in str(error(**{name: address}))


@pytest.mark.parametrize("address", ["http://[secret", "http://me:secret", "http://me:secret/x", "http://a secret"])
def test_an_address_without_a_host_is_shown_as_its_scheme(address: str):
    for name in ("base_url", "backend_url", "otlp_endpoint", "queue"):
        raised = error(**{name: address})
        assert "http://***" in str(raised)
        assert "secret" not in str(raised)
    assert error(base_url="ftp://host:81/x").given == "ftp://host:81/x"
    assert error(queue="kafka://one:9092,two").given == "kafka://one:9092,two"


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:secret@host/db", "postgres://host/db?password=secret", " POSTGRESQL://me:secret@host/db",
     Path("postgresql://me:secret@host/db"), "sqlite://me:secret"],
)  # fmt: skip
def test_an_address_is_no_path(address: str | Path, monkeypatch: pytest.MonkeyPatch):
    for raised in (error(local=address), error(spool_dir=address)):
        assert "secret" not in str(raised)
    assert "`gati relay run --to postgresql://…`" in error(local=address).allowed
    monkeypatch.setenv("GATI_LOCAL", str(address))
    assert (error().option, error().source) == ("local", "GATI_LOCAL")


def test_a_windows_path_is_a_path():
    assert load(local="C:/a.db", spool_dir="c:/spool").local == Path("C:/a.db").absolute()


@pytest.mark.parametrize("name", ["client", "exporters", "mask", "on_drop"])
def test_a_text_in_the_place_of_an_object_is_shown_as_its_type(name: str):
    assert error(**{name: "secret"}).given == "<str>"


def test_an_unknown_option_is_named_with_a_suggestion():
    raised = error(batchsize=3)
    assert (raised.option, raised.given) == ("batchsize", 3)
    assert "did you mean 'batch_size'?" in raised.allowed
    assert "agent_name" in error(xyz=1).allowed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("agent_name", ""), ("agent_name", True), ("agent_name", "x" * 256), ("batch_size", 0), ("batch_size", True),
        ("batch_size", "many"), ("batch_size", 1.5), ("sample_rate", 1.1), ("sample_rate", float("nan")),
        ("timeout", float("inf")), ("turn_timeout", float("inf")), ("product_id", "my-product"), ("base_url", "ftp://x"),
        ("backend_url", "http://"), ("backend_url", "example.com"), ("detail", "all"), ("enabled", "maybe"),
        ("local", 3), ("local", ""), ("properties", "x"), ("properties", [1]), ("system_prompt", {}),
        ("system_prompt", {"text": "x"}), ("system_prompt", 4), ("mask", "x"), ("on_drop", "x"), ("client", "x"), ("spool_dir", 3),
        ("api_key", 5), ("user_id", 1.5), ("turn_timeout", 1e308), ("buffer_max_bytes", 10**400),
        ("spool_max_bytes", 2**63), ("local_max_bytes", 2**63), ("max_request_bytes", 2**31), ("max_field_bytes", 2**31),
        ("local", "\0"), ("local", "\ud800"), ("spool_dir", "a\0b"),
        ("spool_dir", Path("\ud800")), ("base_url", "http://a\0b"), ("api_key", "gf_…"), ("api_key", "gf_a\nb"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_rejected_with_the_allowed_values(name: str, value: object):
    raised = error(**{name: value})
    assert re.split(r"[.\[]", raised.option)[0] == name
    assert raised.source is None
    assert raised.allowed in str(raised)


@pytest.mark.parametrize(
    "name",
    [
        "agent_name", "environment", "user_id", "conversation_id", "organization_id", "input_key", "output_key", "api_key",
        "backend_api_key", "base_url", "backend_url", "otlp_endpoint", "system_prompt",
    ],
)  # fmt: skip
def test_a_text_with_a_lone_surrogate_is_refused(name: str):
    raised = error(**{name: "http://h/\udcff"})
    assert (raised.option, raised.allowed.endswith("; texts without lone surrogates")) == (name, True)
    str(raised).encode()


@pytest.mark.parametrize(
    ("value", "place", "given", "allowed"),
    [
        ({"team": "\udcff"}, "properties.team", "\udcff", "texts without lone surrogates"),
        ({"\udcff": "x"}, "properties", "\udcff", "texts without lone surrogates"),
        ({"a": {"b": ["x", ("y", "\ud800")]}}, "properties.a.b[1][1]", "\ud800", "texts without lone surrogates"),
        ({"n": [10**400]}, "properties.n[0]", "<int of 1329 bits>", "numbers of at most 1000 bits"),
        ({1: 2}, "properties", "a key of type int", "texts as keys"),
    ],
)
def test_what_cannot_be_sent_inside_a_value_is_named_with_its_place(
    value: Any, place: str, given: object, allowed: str
):
    raised = error(properties=value)
    assert (raised.option, raised.given) == (place, given)
    assert raised.allowed.endswith(f"; {allowed}")
    str(raised).encode()


def test_a_value_that_contains_itself_or_is_nested_too_deep_is_refused():
    cycle: dict[str, Any] = {}
    cycle["x"] = [cycle]
    deep: Any = "x"
    for _ in range(5_000):
        deep = {"a": deep}
    for value in (cycle, deep):
        assert error(properties=value).allowed.endswith("; at most 24 levels")
    assert load(properties={"a": {"b": [{"c": 10**100}]}}).properties["a"] == {"b": [{"c": 10**100}]}


def test_a_lone_surrogate_inside_a_prompt_is_refused():
    variables = {"content": "Hi {{x}}", "variables": {"x": "\udcff"}}
    assert error(system_prompt=variables).option == "system_prompt.variables.x"
    assert error(system_prompt=Prompt("x", components=[PromptComponent("\udcff")])).option == (
        "system_prompt.components[0].content"
    )


def test_a_text_from_an_environment_that_is_no_unicode_names_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATI_USER_ID", os.fsdecode(b"\xff"))
    raised = error()
    assert (raised.option, raised.source) == ("user_id", "GATI_USER_ID")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are texts there")
def test_a_path_may_have_any_name_that_the_file_system_takes(tmp_path: Path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    path.mkdir()
    assert (load(local=path / "a.db").local, load(spool_dir=path).spool_dir) == (path / "a.db", path)


def test_every_number_has_a_smallest_and_a_largest_value():
    for name, option in Settings.model_fields.items():
        if {int, float} & {option.annotation, *get_args(option.annotation)}:
            limits = [each for each in option.metadata if isinstance(each, (Ge, Gt, Le))]
            assert len(limits) == 2, name


@pytest.mark.parametrize("name", ["user_id", "agent_name", "batch_size", "turn_timeout", "sample_rate"])
def test_a_number_that_python_does_not_print_is_refused(name: str):
    assert error(**{name: 10**5000}).given == "<int of 16610 bits>"


def test_an_invalid_value_from_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATI_BATCH_SIZE", "many")
    raised = error()
    assert str(raised) == (
        "option 'batch_size' (from GATI_BATCH_SIZE): got 'many', allowed: a whole number from 1 to 10000"
    )
    monkeypatch.setenv("GATI_BATCH_SIZE", "3")
    monkeypatch.setenv("GATI_PROPERTIES", '{"a": ')
    assert error().source == "GATI_PROPERTIES"


@pytest.mark.parametrize("blank", ["", "   ", "\n"])
@pytest.mark.parametrize("name", ["api_key", "backend_api_key"])
def test_a_blank_key_is_rejected(name: str, blank: str):
    assert error(**{name: blank}).option == name


def test_a_blank_key_in_the_environment_names_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GREENFLASH_API_KEY", "  ")
    assert error().source == "GREENFLASH_API_KEY"


def test_whitespace_around_keys_is_stripped():
    assert secret(load(api_key=" gf_key \n"), "api_key") == "gf_key"


def test_errors_show_no_secrets():
    hidden = "gf_live_canary"
    given: list[dict[str, object]] = [
        {"product_id": hidden}, {"greenflash_api_key": "canary"}, {"token": ["canary"]}, {"detail": "Bearer canary"},
        {"api_key": hidden, "client": object()}, {"backend_url": "ftp://me:canary@host"}, {"api_key": ["canary"]},
        {"base_url": "http://me:canary@"},
    ]  # fmt: skip
    for options_given in given:
        raised = error(**options_given)
        assert "canary" not in f"{raised} {raised.args} {raised.given} {raised.__cause__!r} {raised.__context__!r}"


def test_settings_show_no_key_and_cannot_be_pickled():
    settings = load(api_key="gf_canary", backend_api_key="canary2", backend_url="https://me:canary3@b.example")
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump()}".replace(str(settings.backend_url), "")
    with pytest.raises(TypeError):
        pickle.dumps(settings)
    assert copy.deepcopy(settings) == settings


def test_name_is_an_alias_of_agent_name():
    assert load(name="tutor").agent_name == "tutor"
    assert load(name="tutor", agent_name="tutor").agent_name == "tutor"
    assert error(name="tutor", agent_name="teacher").option == "agent_name"


def test_ids_may_be_whole_numbers_and_uuids():
    settings = load(user_id=7, conversation_id=UUID(PRODUCT), product_id=UUID(PRODUCT))
    assert (settings.user_id, settings.conversation_id, settings.product_id) == ("7", PRODUCT, PRODUCT)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("off", False),
        ("0", False),
        ("/a/b.db", Path("/a/b.db").absolute()),
    ],
)
def test_local_is_a_boolean_or_a_path(given: object, expected: object):
    assert load(local=given).local == expected


@pytest.mark.parametrize("make", [Greenflash, AsyncGreenflash])
def test_a_sync_or_async_client_replaces_the_key(make: type[Greenflash], monkeypatch: pytest.MonkeyPatch):
    client = make(api_key="gf_mine")
    monkeypatch.setenv("GREENFLASH_API_KEY", "gf_other")
    settings = load(client=client)
    assert settings.client is client
    assert settings.api_key is None
    assert error(client=client, api_key="gf_x").option == "client"


def test_an_api_key_next_to_a_backend_url_is_the_backends_key():
    settings = load(backend_url="https://b.example/", api_key="old-key")
    assert settings.backend_url == "https://b.example"
    assert (secret(settings, "backend_api_key"), settings.api_key) == ("old-key", None)


def test_a_greenflash_key_next_to_a_backend_url_stays_greenflashs():
    both = load(backend_url="https://b.example", api_key="gf_key")
    assert (secret(both, "api_key"), both.backend_api_key) == ("gf_key", None)
    explicit = load(backend_url="https://b.example", backend_api_key="b", api_key="other")
    assert (secret(explicit, "api_key"), secret(explicit, "backend_api_key")) == ("other", "b")
    hosted = load(backend_url="https://b.example", base_url="http://127.0.0.1:1", api_key="test")
    assert (secret(hosted, "api_key"), hosted.backend_api_key) == ("test", None)


def test_former_environment_variables_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATI_API_KEY", "old-key")
    monkeypatch.setenv("GATI_BACKEND_URL", "https://b.example")
    monkeypatch.setenv("GREENFLASH_API_KEY", "gf_key")
    settings = load()
    assert (secret(settings, "backend_api_key"), secret(settings, "api_key")) == ("old-key", "gf_key")
    argument = load(api_key="newer")
    assert (secret(argument, "backend_api_key"), secret(argument, "api_key")) == ("newer", "gf_key")


def test_a_greenflash_key_in_the_former_variable_is_greenflashs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATI_API_KEY", "gf_key")
    settings = load()
    assert (secret(settings, "api_key"), settings.backend_api_key) == ("gf_key", None)
    both = load(backend_url="https://b.example", api_key="old-key")
    assert (secret(both, "api_key"), secret(both, "backend_api_key")) == ("gf_key", "old-key")


def test_a_structured_prompt_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GATI_SYSTEM_PROMPT", '{"external_prompt_id": "p", "content": "Hi"}')
    assert load().system_prompt == Prompt("Hi", "p")


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load().batch_size = 3


def test_configuration_errors_survive_pickling():
    raised = error(batch_size=0)
    restored = pickle.loads(pickle.dumps(raised))
    assert (str(restored), restored.option, restored.source) == (str(raised), "batch_size", None)


def test_unknown_variables_are_named_in_one_line_with_what_was_probably_meant(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GATI_SAMPLERATE=0.5\n")
    for name in ("GATI_FLUSH_INTERVALL", "gati_local", "GATI_PRODUCT", "GATI_ZZZ", "GATI_TRUST_DOTENV", "GATI_ENABLED"):
        monkeypatch.setenv(name, "1")
    load()
    load()
    assert caplog.messages == [
        "gati does not know these environment variables, which have no effect: "
        "GATI_FLUSH_INTERVALL (did you mean GATI_FLUSH_INTERVAL?), GATI_PRODUCT (did you mean GATI_PRODUCT_ID?), "
        "GATI_SAMPLERATE (did you mean GATI_SAMPLE_RATE?), GATI_ZZZ, gati_local (did you mean GATI_LOCAL?)"
    ]


def test_the_name_of_an_unknown_variable_cannot_control_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text("GATI_FOO\x1b]0;title\x07\x1b[2J\u202e=1\n", "utf-8")
    load()
    assert r"GATI_FOO\x1b]0;title\x07\x1b[2J\u202e" in caplog.text
    assert not set("\x1b\x07\u202e") & set(caplog.text)


def test_values_of_unknown_variables_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GATI_APIKEY", "gf_secret")
    load()
    assert "GATI_APIKEY (did you mean GATI_API_KEY?)" in caplog.text
    assert "gf_secret" not in caplog.text


def test_a_path_below_a_home_that_does_not_exist_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    with pytest.raises(ConfigurationError, match="needs a home folder"):
        load(spool_dir="~/spool")


def test_a_relative_path_keeps_its_folder_when_the_program_changes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATI_LOCAL", "store.db")
    settings = load(spool_dir="spool")
    assert (settings.spool_dir, settings.local) == (tmp_path / "spool", tmp_path / "store.db")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a working directory that is in use")
def test_a_relative_path_is_valid_in_a_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert load(spool_dir="spool").spool_dir == Path("spool")
