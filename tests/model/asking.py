"""Rules for what is asked of workflows: starts, messages, callbacks, cancel, resume, delete."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.model.asgi import Answer
from tests.model.contract import CREATED, agrees
from tests.model.draws import commands, idempotency_keys, keys, letters, names, sides, topics, values
from tests.model.side_by_side import SideBySide


class Asking(SideBySide):
    # ---- starting

    @initialize(one=sides, other=sides)
    def begin(self, one: int, other: int) -> None:
        for letter, side in (("a", one), ("b", other)):
            self.start(letter, "puppet", None, side)

    @rule(letter=letters, name=names, input=values, side=sides)
    def start(self, letter: str, name: str, input: Any, side: int) -> None:
        id = self.id(letter)
        tags = {"side": str(side)}
        expected = self.model.start(id, name, input, tags=tags)
        body = {"id": id, "name": name, "input": input, "tags": tags}
        self.check(self.via(side).ask("POST", "/workflows", body), expected)
        self.settle()

    @rule(letter=letters, side=sides, mortal=st.booleans(), name=st.sampled_from(["puppet", "guarded"]))
    def start_for_later_or_not_long(self, letter: str, side: int, mortal: bool, name: str) -> None:
        id = self.id(letter)
        expected = self.model.start(id, name, None, **({"mortal": True} if mortal else {"delayed": True}))
        more = {"timeout": 0.05} if mortal else {"delay": 3600}
        self.check(self.via(side).ask("POST", "/workflows", {"id": id, "name": name, **more}), expected)
        self.settle()

    @rule(name=st.sampled_from(["count", "mute"]), input=values, side=sides)
    def start_and_wait_for_the_result(self, name: str, input: Any, side: int) -> None:
        id = f"{self.prefix}{name}"
        expected = self.model.start(id, name, input)
        body = {"id": id, "name": name, "input": input}
        answer = self.via(side).ask("POST", "/workflows?wait_for_result=true&timeout=10", body)
        self.check(answer, expected)
        if answer.code is None:
            assert agrees(self.model.workflows[id].progress.output, answer.json["output"])
            assert answer.json["status"] == "SUCCEEDED"

    # ---- commands and messages

    @rule(letter=letters, command=commands, side=sides, key=idempotency_keys)
    def command(self, letter: str, command: Sequence[Any], side: int, key: str | None) -> None:
        self._command(letter, command, side, key)

    # More of the same, as most that can happen is begun by a command.

    @rule(letter=letters, command=commands, side=sides)
    def another_command(self, letter: str, command: Sequence[Any], side: int) -> None:
        self._command(letter, command, side, None)

    @rule(command=commands, side=sides)
    def yet_another_command(self, command: Sequence[Any], side: int) -> None:
        self._command("a", command, side, None)

    @rule(letter=letters, side=sides, topic=topics, payload=values, other=values)
    def make_and_complete_a_callback(self, letter: str, topic: str, side: int, payload: Any, other: Any) -> None:
        before = len(self.model.callbacks)
        self._command(letter, ["callback", topic], side, None)
        if len(self.model.callbacks) > before:
            for value in (payload, other):
                self.complete_a_callback(value, before, 1 - side)

    def _command(self, letter: str, command: Sequence[Any], side: int, key: str | None) -> None:
        if self.fits(self.id(letter), command):
            self.send(self.id(letter), "do", self.own(command), side, key)
            self.settle()

    @rule(letter=letters, topic=topics, payload=values, side=sides, key=idempotency_keys)
    def message(self, letter: str, topic: str, payload: Any, side: int, key: str | None) -> None:
        self.send(self.id(letter), topic, payload, side, key)
        self.settle()

    def send(self, id: str, topic: str, payload: Any, side: int, key: str | None, query: str = "") -> Answer:
        workflow = self.model.workflows.get(id)
        before = 0 if workflow is None else len(workflow.messages)
        expected = self.model.send(id, topic, payload, key)
        headers = {"Idempotency-Key": key or f"only-{next(self.numbers)}"}
        body = {"topic": topic, "payload": payload}
        answer = self.via(side).ask("POST", f"/workflows/{id}/messages{query}", body, headers=headers)
        self.check(answer, expected)
        if expected == CREATED:
            assert answer.json["position"] == before + 1
        return answer

    @rule(letter=letters, key=keys, value=values, side=sides)
    def message_and_wait_for_what_comes_of_it(self, letter: str, key: str, value: Any, side: int) -> None:
        id, command = self.id(letter), ["publish", key, value]
        if not self.fits(id, command):
            return
        answer = self.send(id, "do", command, side, None, f"?wait_for={key}&timeout=10")
        if answer.code is None:
            found = answer.json["events"][key]
            assert (found["state"], found["position"]) == ("set", self.model.workflows[id].position(key)), found
            assert agrees(value, found["value"])
        self.settle()

    @rule(payload=values, which=st.integers(0, 9), side=sides)
    def complete_a_callback(self, payload: Any, which: int, side: int) -> None:
        made = [url for _, _, url in self.model.callbacks if url.known]
        if made:
            url = made[which % len(made)]
            expected = self.model.complete(url, payload)
            target = url.seen.removeprefix("http://milepost.test")
            self.check(self.via(side).ask("POST", target, payload), expected)
            self.settle()

    # ---- from outside

    @rule(letter=letters, side=sides, children=st.booleans())
    def cancel(self, letter: str, side: int, children: bool) -> None:
        id = self.id(letter)
        expected = self.model.cancel(id, children=children)
        answer = self.via(side).ask("POST", f"/workflows/{id}/cancel?children={str(children).lower()}")
        self.check(answer, expected)
        self._names_the_status(answer, id)
        self.settle()

    @rule(letter=letters, side=sides)
    def resume(self, letter: str, side: int) -> None:
        id = self.id(letter)
        expected = self.model.resume(id)
        answer = self.via(side).ask("POST", f"/workflows/{id}/resume")
        self.check(answer, expected)
        self.settle()

    @rule(letter=letters, side=sides)
    def delete(self, letter: str, side: int) -> None:
        self.delete_one(self.id(letter), side)
        self.settle()

    @rule(letter=letters, side=sides, how=st.sampled_from(["return", "raise", "cancel"]))
    def end_it_and_ask_for_more(self, letter: str, side: int, how: str) -> None:
        """What has ended takes no messages, is not started again, and goes on only if it was cancelled."""
        id = self.subject(letter, side).id
        if how == "cancel":
            self.check(self.via(side).ask("POST", f"/workflows/{id}/cancel"), self.model.cancel(id))
        else:
            self.send(id, "do", [how, "the end"], side, None)
        self.settle()
        self.send(id, "x", None, side, None)
        for other in ({"name": "puppet"}, {"name": "guarded"}, {"name": "puppet", "input": "another"}):
            expected = self.model.start(id, other["name"], other.get("input"))
            self.check(self.via(side).ask("POST", "/workflows", {"id": id, **other}), expected)
        for what, expected in (("resume", self.model.resume(id)), ("cancel", self.model.cancel(id))):
            self.check(self.via(side).ask("POST", f"/workflows/{id}/{what}"), expected)
        self.settle()
        self.check(self.via(side).ask("POST", f"/workflows/{id}/resume"), self.model.resume(id))
        self.settle()

    def _names_the_status(self, answer: Answer, id: str) -> None:
        if answer.code == "workflow-finished":
            assert answer.json["workflow_status"] == self.model.workflows[id].status
        elif answer.code is None:
            assert answer.json["status"] == self.model.workflows[id].status
