"""A log line tells what happened, in one line, and no secrets."""

import json
import logging
import time

import pytest

from app import telemetry


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_own_lines_and_those_of_libraries_have_one_form(capsys):
    telemetry.configure("info", "json")
    telemetry.logger("app.engine.hub").info("woken", waiters=3)
    logging.getLogger("shop.flows").warning("odd %s", "order")
    own, foreign = lines(capsys)
    assert (own["event"], own["component"], own["level"], own["waiters"]) == ("woken", "engine.hub", "info", 3)
    assert (foreign["event"], foreign["component"], foreign["level"]) == ("odd order", "shop.flows", "warning")
    assert own["timestamp"].endswith("Z")


def test_what_is_below_the_level_is_not_written(capsys):
    telemetry.configure("warning", "json")
    telemetry.logger("hub").info("woken")
    logging.getLogger("shop.flows").info("hello")
    assert lines(capsys) == []


@pytest.mark.parametrize(
    "text",
    [
        "could not reach postgresql://user:hush@host/db",
        "POST /callbacks/hush?from=provider",
        "authorization: Bearer hush",
        "connection failed: password=hush user=me",
        f"/workflows/mp_hush{'A' * 39}",
    ],
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_masked_wherever_they_stand(capsys, form: str, text: str):
    telemetry.configure("info", form)
    log = telemetry.logger("hub")
    log.info("trying", target=text, nested={"deeper": [text]}, token="hush")
    logging.getLogger("library").warning(text)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("broken")
    written = capsys.readouterr().err
    assert "trying" in written
    assert "broken" in written
    assert "hush" not in written


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_logged_value_can_not_forge_a_second_line_or_colour_the_terminal(capsys, form: str):
    telemetry.configure("info", form)
    telemetry.logger("hub").info("seen\n2026 forged", value="\x1b[31mred\r\n2026 forged\u2028")
    written = capsys.readouterr().err
    assert len(written.splitlines()) == 1
    assert "\x1b" not in written


def test_long_strings_are_cut(capsys):
    telemetry.configure("info", "json")
    telemetry.logger("hub").info("seen", value="x" * 10_000)
    assert len(lines(capsys)[0]["value"]) == telemetry.LONGEST


@pytest.mark.parametrize(
    "text", ["k" * 1_000_000, "a://a:" * 200_000, "password " * 100_000], ids=lambda text: text[:9]
)
def test_long_strings_cost_no_more_than_what_is_kept_of_them(capsys, text: str):
    telemetry.configure("info", "json")
    began = time.perf_counter()
    telemetry.logger("app.test").error("long", text=text, exception=text)
    assert time.perf_counter() - began < 1
    assert len(capsys.readouterr().err) < 20_000


def test_who_logs_already_goes_over_to_a_new_form(capsys):
    telemetry.configure("info", "json")
    logger = telemetry.logger("app.engine.hub").bind()
    logger.info("before")
    telemetry.configure("info", "json", process=2)
    logger.info("after")
    before, after = lines(capsys)
    assert "process" not in before
    assert after["process"] == 2
