"""Settings are read once, and a wrong one stops the start with a line that says what to do."""

import pytest

from app import settings
from app.settings import Settings, SettingsError


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        settings.load({f"MILEPOST_{name}": value for name, value in environment.items()})
    return str(refused.value)


def load(**environment: str) -> Settings:
    return settings.load({f"MILEPOST_{name}": value for name, value in environment.items()})


def test_without_any_setting_it_serves_loopback_from_an_embedded_database_with_the_examples():
    given = settings.load({"PATH": "/bin", "HOME": "/"})
    assert (given.host, given.port) == ("127.0.0.1", 8000)
    assert given.database_url is None
    assert str(given.data_dir) == ".milepost"
    assert given.with_examples
    assert given.default_timeout == 60
    assert (given.processes, given.role) == (1, "all")


def test_examples_are_off_with_a_real_database_unless_told_otherwise():
    assert not load(DATABASE_URL="postgresql://h/d").with_examples
    assert load(DATABASE_URL="postgresql://h/d", EXAMPLES="true").with_examples
    assert not load(EXAMPLES="false").with_examples


def test_an_unknown_setting_is_refused_with_the_one_that_may_have_been_meant():
    assert refusal(PROT="1") == "MILEPOST_PROT is no setting of Milepost; did you mean MILEPOST_PORT?"
    assert refusal(XYZZY="1") == "MILEPOST_XYZZY is no setting of Milepost; unset it."


def test_a_setting_written_in_another_case_is_not_passed_over():
    with pytest.raises(SettingsError, match="did you mean MILEPOST_PORT"):
        settings.load({"milepost_port": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "80x"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("DATABASE_URL", "mysql://user:hush@host/db"),
        ("DATABASE_URL", "host=localhost"),
        ("PUBLIC_URL", "shop.example.com"),
        ("PUBLIC_URL", "https://user@shop.example.com"),
        ("PUBLIC_URL", "https://shop.example.com:port"),
        ("CORS_ORIGINS", "https://a.example.com, *"),
        ("CORS_ORIGINS", "https://a.example.com/path"),
        ("WORKFLOWS", "shop.flows, my-module"),
        ("EXAMPLES", "perhaps"),
        ("DEFAULT_TIMEOUT", "3601"),
        ("DEFAULT_TIMEOUT", "nan"),
        ("GRACE", "inf"),
        ("CONCURRENCY", "0"),
        ("PROCESSES", "0"),
        ("PROCESSES", "65"),
        ("ROLE", "boss"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_malformed_value_is_refused_by_its_name_in_one_line_and_never_shown(name: str, value: str):
    line = refusal(**{name: value})
    assert line.startswith(f"MILEPOST_{name} (")
    assert "\n" not in line
    assert "hush" not in line


def test_a_refusal_says_what_a_value_must_be():
    assert refusal(PORT="80x").endswith(": must be a whole number.")
    assert refusal(LINGER="soon").endswith(": must be a number.")
    assert refusal(EXAMPLES="perhaps").endswith(": must be true or false.")
    assert refusal(CONCURRENCY="0").endswith(": must be greater than or equal to 1.")


def test_an_empty_value_is_as_unset():
    assert load(DATABASE_URL="", PORT=" ").port == 8000


def test_a_role_says_whether_requests_are_taken_and_workflows_run():
    duties = {name: load(ROLE=name).role for name in ("all", "API", "worker")}
    assert {name: (role.takes_requests, role.runs_workflows) for name, role in duties.items()} == {
        "all": (True, True),
        "API": (True, False),
        "worker": (False, True),
    }


def test_lists_are_separated_by_commas_and_spaces_do_not_count():
    given = load(WORKFLOWS="shop.flows , other,", CORS_ORIGINS="https://A.example.com,http://localhost:3000")
    assert given.workflows == ("shop.flows", "other")
    assert given.cors_origins == ("https://a.example.com", "http://localhost:3000")


def test_every_spelling_of_a_postgresql_address_is_one():
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        url = load(DATABASE_URL=f"{scheme}://u:p@h/d").database_url
        assert url
        assert url.get_secret_value() == "postgresql://u:p@h/d"


def test_the_database_password_is_not_shown_by_printing_the_settings():
    assert "hush" not in repr(load(DATABASE_URL="postgresql://user:hush@host/db"))


def test_without_a_database_and_without_the_embedded_one_it_does_not_start():
    assert "MILEPOST_DATABASE_URL must be set" in refusal(EMBEDDED="false")


def test_an_address_beyond_loopback_is_served_only_when_that_is_wanted():
    for elsewhere in ("0.0.0.0", "myhost"):
        with pytest.raises(SettingsError, match="MILEPOST_ALLOW_ANONYMOUS=true"):
            load(HOST=elsewhere).check_address()
        load(HOST=elsewhere, ALLOW_ANONYMOUS="true").check_address()
    for loopback in ("localhost", "127.0.0.2", "::1"):
        load(HOST=loopback).check_address()


def test_an_address_beyond_loopback_is_served_where_there_are_keys():
    with pytest.raises(SettingsError, match="set MILEPOST_API_KEYS_FILE"):
        load(HOST="0.0.0.0").check_address()
    load(HOST="0.0.0.0", API_KEYS_FILE="keys").check_address()


def test_nobody_is_told_that_keys_are_asked_for_and_are_not():
    told = "MILEPOST_ALLOW_ANONYMOUS=true and MILEPOST_API_KEYS_FILE contradict each other: unset one of them."
    assert refusal(API_KEYS_FILE="keys", ALLOW_ANONYMOUS="true") == told
    assert refusal(API_KEYS_FILE="keys", ALLOW_ANONYMOUS="true", HOST="0.0.0.0") == told


def test_a_public_address_is_kept_without_a_slash_at_its_end():
    assert load(PUBLIC_URL="https://Shop.example.com/milepost/").public_url == "https://shop.example.com/milepost"


def test_a_time_to_live_must_leave_room_for_missed_beats():
    assert "MILEPOST_TIME_TO_LIVE" in refusal(TIME_TO_LIVE="2")
