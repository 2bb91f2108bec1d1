"""Rules for what is read of workflows, at once and by waiting."""

import itertools
import re
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st
from hypothesis.stateful import rule

from app.engine.hub import END
from tests.model.asgi import Answer, Exchange, answered
from tests.model.asking import Asking
from tests.model.contract import ACTIVE, Workflow, agrees
from tests.model.draws import keys, letters, local, positions, sides
from tests.model.replicas import Replica
from tests.model.side_by_side import SOON
from tests.support.waiting import eventually_sync


class Reading(Asking):
    # ---- at once

    @rule(letter=letters, key=keys, after=positions, seen=st.none() | positions, side=sides)
    def read_an_event(self, letter: str, key: str, after: int, seen: int | None, side: int) -> None:
        id = self.id(letter)
        workflow, via = self.model.workflows.get(id), self.via(side)
        headers = {}
        if seen is not None:
            first = via.ask("GET", f"/workflows/{id}/events/{key}?timeout=0")
            run = first.headers.get("etag", 'W/"00000000.1"').removeprefix('W/"').partition(".")[0]
            headers["If-None-Match"] = f'"of another", W/"{run}.{seen}"'
            seen = seen if first.status == 200 else None
        for timeout in ("0", "0.02"):
            answer = via.ask("GET", f"/workflows/{id}/events/{key}?after={after}&timeout={timeout}", headers=headers)
            self.check(answer, self.model.event(id, key, after=after, seen=seen))
            if workflow is not None and answer.status in (200, 202):
                self._shows(workflow, key, after, answer.json)
            if workflow is not None and answer.status == 200:
                assert answer.headers["etag"].endswith(f'.{workflow.position(key)}"')

    def _shows(self, workflow: Workflow, key: str, after: int, shown: Any) -> None:
        position = workflow.position(key)
        value = workflow.log[position - 1].value if position else None
        assert (shown["position"], shown["state"]) == (position, workflow.state(key, after)), shown
        assert agrees(value, shown["value"]), shown

    @rule(letter=letters, mode=st.sampled_from(["all", "any"]), after=positions, side=sides)
    def read_several_events(self, letter: str, mode: str, after: int, side: int) -> None:
        id = self.id(letter)
        query = urlencode([("key", "k"), ("key", "l"), ("mode", mode), ("after", after), ("timeout", 0)])
        answer = self.via(side).ask("GET", f"/workflows/{id}/events?{query}")
        self.check(answer, self.model.events(id, ["k", "l"], mode=mode, after=after))
        if (workflow := self.model.workflows.get(id)) is not None:
            assert [shown["key"] for shown in answer.json["events"]] == ["k", "l"]
            for shown in answer.json["events"]:
                self._shows(workflow, shown["key"], after, shown)

    @rule(letter=letters, after=positions, limit=st.integers(1, 5), key=st.none() | keys, side=sides)
    def page_through_the_history(self, letter: str, after: int, limit: int, key: str | None, side: int) -> None:
        if (workflow := self.workflow(letter)) is None:
            return
        filters = [("after", after), *([] if key is None else [("key", key)])]
        pages = self._pages(f"/workflows/{workflow.id}/history", filters, limit, side)
        found = [shown["position"] for page in pages for shown in page["events"]]
        assert found == [n for n, event in enumerate(workflow.log, 1) if n > after and key in (None, event.key)]
        assert pages[-1]["position"] == len(workflow.log)

    def _pages(self, path: str, filters: Sequence[tuple[str, Any]], limit: int, side: int) -> list[Any]:
        """All pages of a listing, each from the other replica than the one before."""
        pages: list[Any] = []
        query = urlencode([*filters, ("limit", limit)])
        for turn in itertools.count():
            answer = self.via((side + turn) % 2).ask("GET", f"{path}?{query}")
            assert answer.status == 200, answer
            pages.append(answer.json)
            if pages[-1]["next_cursor"] is None:
                break
            query = urlencode({"cursor": pages[-1]["next_cursor"], "limit": limit})
        return pages

    @rule(letter=letters, after=positions, side=sides, named=st.booleans())
    def read_the_stream(self, letter: str, after: int, side: int, named: bool) -> None:
        if (workflow := self.workflow(letter)) is None:
            return
        expected = [str(n) for n in range(after + 1, len(workflow.log) + 1)]
        end = f"{len(workflow.log)}.end"
        if workflow.terminal:
            expected.append(end)
        via, target = self.via(side), f"/workflows/{workflow.id}/stream?after=7&names={str(named).lower()}"
        headers = {"Last-Event-ID": str(after)}
        answer = via.ask("GET", target, headers=headers, enough=lambda answer: len(_ids(answer)) >= len(expected))
        assert _ids(answer) == expected, answer
        if workflow.terminal:
            assert via.ask("GET", target, headers={"Last-Event-ID": end}).status == 204

    @rule(
        letter=letters,
        limit=st.integers(1, 4),
        status=st.sampled_from(["", "SUCCEEDED", "FAILED", "CANCELLED", "TIMED_OUT", "QUEUED", "ACTIVE"]),
        name=st.sampled_from([None, "puppet", "cleanup"]),
        parent=st.booleans(),
        order=st.sampled_from(["asc", "desc"]),
        side=sides,
    )
    def list_workflows(
        self, letter: str, limit: int, status: str, name: str | None, parent: bool, order: str, side: int
    ) -> None:
        wanted = ACTIVE if status == "ACTIVE" else (status,) if status else ()
        filters = [("id_prefix", self.prefix), ("order", order), *(("status", one) for one in wanted)]
        filters += [("name", name)] if name else []
        filters += [("parent_id", self.id(letter))] if parent else []
        pages = self._pages("/workflows", filters, limit, side)
        found = [(shown["created_at"], shown["id"]) for page in pages for shown in page["workflows"]]
        assert found == sorted(found, reverse=order == "desc")
        expected = {
            workflow.id
            for workflow in self.model.workflows.values()
            if status in ("", workflow.status) or (status == "ACTIVE" and not workflow.terminal)
            if name in (None, workflow.name)
            if not parent or workflow.parent == self.id(letter)
        }
        listed = [id for _, id in found]
        # Only one with a delay is certain to be QUEUED; any other may be so for a moment.
        assert expected <= set(listed) if status == "QUEUED" else sorted(expected) == sorted(listed)

    @rule(letter=letters, side=sides)
    def look_at_the_result(self, letter: str, side: int) -> None:
        workflow = self.workflow(letter)
        answer = self.via(side).ask("GET", f"/workflows/{self.id(letter)}/result?timeout=0.01")
        assert answer.status == (404 if workflow is None else 200 if workflow.terminal else 202)

    # ---- by waiting

    @rule(letter=letters, key=keys, command=local, side=sides, other=sides)
    def wait_for_an_event_while_something_happens(
        self, letter: str, key: str, command: Sequence[Any], side: int, other: int
    ) -> None:
        workflow = self.workflow(letter)
        if workflow is None or workflow.status != "ACTIVE" or workflow.progress.doing is not None:
            return
        after = len(workflow.log)
        waiting = self._wait(self.via(side), workflow.id, key, f"events/{key}?after={after}&timeout=20")
        self.send(workflow.id, "do", self.own(command), other, None)
        if self.model.event(workflow.id, key, after=after).status == 202:
            self.send(workflow.id, "do", ["publish", key, "now"], other, None)
        answer = answered(waiting)
        self.check(answer, self.model.event(workflow.id, key, after=after))
        if answer.status == 200:
            assert answer.json["position"] > after
        self.settle()

    def _wait(self, via: Replica, id: str, place: str, target: str) -> "Future[Answer]":
        """A request that is registered with the hub by now."""
        waiting = via.begin(Exchange("GET", f"/workflows/{id}/{target}"))
        eventually_sync(lambda: via.watched(id, place))
        return waiting

    @rule(letter=letters, side=sides, other=sides)
    def cancel_while_somebody_waits(self, letter: str, side: int, other: int) -> None:
        workflow = self.workflow(letter)
        if workflow is None or workflow.terminal:
            return
        for_event = self._wait(self.via(side), workflow.id, "never", "events/never?timeout=20")
        for_end = self._wait(self.via(side), workflow.id, END, "result?timeout=20")
        self.cancel(letter, other, True)
        assert answered(for_event).status == 410
        assert answered(for_end).json["status"] == "CANCELLED"

    @rule(letter=letters, side=sides)
    def leave_in_the_middle_of_a_wait(self, letter: str, side: int) -> None:
        """Nobody is kept waiting for a client that has gone away."""
        workflow, via = self.workflow(letter), self.via(side)
        if workflow is None or workflow.terminal:
            return
        asked = Exchange("GET", f"/workflows/{workflow.id}/events/never?timeout=60")
        waiting = via.begin(asked)
        eventually_sync(lambda: via.watched(workflow.id, "never"))
        via.loop.call_soon_threadsafe(asked.leave)
        waiting.result(SOON)
        assert not via.watched(workflow.id, "never")


def _ids(answer: Answer) -> list[str]:
    """Of the whole events of a stream so far."""
    return re.findall(r"^id: (.+)$", answer.text[: answer.text.rfind("\n\n") + 1], re.MULTILINE)
