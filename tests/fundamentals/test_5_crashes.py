"""The process may die at any moment. What was acknowledged is kept, and what was begun goes on."""

from datetime import datetime

import httpx

from tests.support.gates import notes
from tests.support.waiting import eventually_sync


def test_a_crash_in_the_middle_of_a_step_repeats_that_step_alone(client, milepost, start, result, tmp_path):
    log = tmp_path / "log"
    id = start("journey", str(tmp_path))
    eventually_sync(lambda: notes(log) == ["enters harbour", "enters lock"])

    milepost.restart()  # kill -9
    eventually_sync(lambda: len(notes(log)) == 3)
    (tmp_path / "open").touch()

    ended = result(id)
    assert (ended["status"], ended["attempts"]) == ("SUCCEEDED", 2)
    assert notes(log) == ["enters harbour", "enters lock", "enters lock", "enters sea"]
    events = client.get(f"/workflows/{id}/history").json()["events"]
    assert [(event["position"], event["value"]) for event in events] == [(1, "harbour"), (2, "lock"), (3, "sea")]


def test_a_recorded_step_does_not_run_again_however_often_the_process_dies(milepost, start, result, tmp_path):
    log = tmp_path / "log"
    id = start("journey", str(tmp_path))
    for lives in range(1, 3):
        eventually_sync(lambda: notes(log).count("enters lock") == lives)  # noqa: B023
        milepost.restart()
    (tmp_path / "open").touch()
    assert result(id)["status"] == "SUCCEEDED"
    assert notes(log).count("enters harbour") == 1
    assert notes(log).count("enters sea") == 1


def test_a_start_is_kept_from_the_moment_it_was_answered(milepost, start, result):
    ids = [start("greet", f"guest {number}") for number in range(20)]
    milepost.restart()
    assert [result(id)["output"] for id in ids] == [f"Hello, guest {number}!" for number in range(20)]


def test_a_sleep_goes_on_over_a_restart(client: httpx.Client, milepost, start, result):
    id = start("nap", 3)
    eventually_sync(lambda: client.get(f"/workflows/{id}").json()["status"] == "WAITING")
    milepost.restart()
    ended = result(id)
    assert ended["output"] >= 3
    lasted = datetime.fromisoformat(ended["completed_at"]) - datetime.fromisoformat(ended["started_at"])
    assert 3 <= lasted.total_seconds() < 6 + 9, "it did not begin anew"


def test_messages_and_waits_outlive_the_process(client: httpx.Client, milepost, start, send, result):
    id = start("collect", ["item", "item", "item"])
    send(id, "item", "before")
    milepost.restart()
    send(id, "item", "between")
    milepost.restart()
    send(id, "item", "after")
    assert result(id)["output"] == ["before", "between", "after"]


def test_an_order_is_paid_though_the_process_died_while_it_waited(client: httpx.Client, milepost, start, send):
    id = start("order", "A1")
    url = client.get(f"/workflows/{id}/events/payment_url?timeout=25").json()
    milepost.restart()
    again = client.get(f"/workflows/{id}/events/payment_url?timeout=25").json()
    assert (again["value"], again["position"], again["set_at"]) == (url["value"], url["position"], url["set_at"])
    assert send(id, "payment", "paid", wait_for="status").json()["events"]["status"]["value"] == "paid"
