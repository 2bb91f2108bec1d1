"""What reaches outside is a step. Its result is recorded, and a recorded step is never run again."""

import httpx

from tests.support.gates import notes


def test_each_step_is_recorded_in_the_order_of_its_call(client: httpx.Client, start, result, tmp_path):
    (tmp_path / "open").touch()
    id = start("journey", str(tmp_path))
    assert result(id)["output"] == ["was at the harbour", "was at the lock", "was at the sea"]

    steps = client.get(f"/workflows/{id}/steps").json()["steps"]
    assert [(step["seq"], step["name"], step["status"]) for step in steps] == [
        (1, "visit", "SUCCEEDED"),
        (2, "visit", "SUCCEEDED"),
        (3, "visit", "SUCCEEDED"),
    ]
    assert [step["output"] for step in steps] == result(id)["output"]


def test_an_event_is_visible_before_the_next_step_is_over(client: httpx.Client, start, tmp_path):
    id = start("journey", str(tmp_path))
    assert client.get(f"/workflows/{id}/events/place?timeout=25").json()["value"] == "harbour"
    (tmp_path / "open").touch()


def test_a_step_is_tried_as_often_as_it_may_be(client: httpx.Client, start, result, tmp_path):
    id = start("stubborn", str(tmp_path))
    assert result(id)["output"] == "it took 3 tries"
    assert notes(tmp_path / "log") == ["try"] * 3
    assert [step["attempts"] for step in client.get(f"/workflows/{id}/steps").json()["steps"]] == [3]


def test_a_step_that_fails_for_good_fails_its_workflow_with_its_own_words(client: httpx.Client, start, result):
    failed = result(start("hopeless"))
    assert failed["status"] == "FAILED"
    assert (failed["error"]["type"], failed["error"]["step"]) == ("LookupError", "fail")
    assert failed["error"]["message"] == "there is no such thing"
    step = client.get(f"/workflows/{failed['id']}/steps").json()["steps"][0]
    assert (step["status"], step["attempts"]) == ("FAILED", 2)
