"""Hypothesis drives two replicas and the contract side by side, and compares after every rule.

A rule asks one replica or the other, tells the contract the same, and waits until both replicas show what the contract
says. What they show meanwhile may lag behind it, and never contradict it.
"""

import itertools
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlencode

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from app.engine.hub import END
from tests.model import looks
from tests.model.contract import ACTIVE, CREATED, OK, Answer, Contract, Workflow, agrees
from tests.model.replicas import Lost, Replica, Trap, answered
from tests.support.waiting import eventually_sync

SOON = 15.0
"""Seconds in which everything has to come out."""

letters = st.sampled_from("aaabbcd")
sides = st.sampled_from([0, 1])
labels = st.integers(0, 999)
topics = st.sampled_from(["x", "y"])
keys = st.sampled_from(["k", "l"])
names = st.sampled_from(["puppet"] * 4 + ["guarded"] * 2 + ["count", "mute", "nobody"])
values = st.sampled_from([None, 0, 1, True, 1.0, "", "text", [], {"b": 1, "a": [None]}, {"a": [None], "b": 1.0}, 2**70])
idempotency_keys = st.sampled_from([None, None, "one", "two"])

queued = st.one_of(
    st.tuples(st.just("step"), labels),
    st.tuples(st.just("both"), labels, labels),
    st.tuples(st.just("write"), labels),
    st.tuples(st.just("nap")),
    st.tuples(st.just("flop"), st.just("it flopped")),
)
"""Commands whose outcome is the same whenever they are carried out."""
local = st.one_of(
    queued,
    st.tuples(st.just("publish"), keys, values),
    st.tuples(st.just("burst"), st.integers(1, 8)),
    st.tuples(st.just("recall")),
    st.tuples(st.just("chance")),
    st.tuples(st.just("return"), values),
    st.tuples(st.sampled_from(["raise", "crash"]), st.just("it is broken")),
)
"""Commands that concern nobody else."""
commands = st.one_of(
    local,
    local,
    st.tuples(st.just("doze")),
    st.tuples(st.sampled_from(["receive", "look"]), topics),
    st.tuples(st.just("callback"), topics),
    st.tuples(st.just("child"), letters),
    st.tuples(st.sampled_from(["result", "stop"]), letters),
    st.tuples(st.just("watch"), letters, keys),
    st.tuples(st.just("tell"), letters, topics, values),
)
QUEUED = ("step", "both", "write", "nap", "flop")
JOURNAL = ("journal.before_flush", "journal.after_flush")
PLACES = (
    *JOURNAL,
    "step.before_call",
    "step.after_call",
    "transaction.after_commit",
    "mailbox.before_read",
    "executor.after_claim",
    "executor.after_read",
)
"""Where a replica is killed or frozen."""
_numbers = itertools.count(1)


def listed(command: Sequence[Any]) -> list[Any]:
    return list(command)


class Machine(RuleBasedStateMachine):
    """One example: workflows of its own on replicas that are there already."""

    def __init__(self, replicas: tuple[Replica, Replica]) -> None:
        super().__init__()
        self.replicas = replicas
        self.model = Contract()
        self.prefix = f"m{next(_numbers)}-"
        self.disasters = 0
        for replica in replicas:
            if not replica.up:
                replica.start()

    # ---- helpers

    def id(self, letter: str) -> str:
        return self.prefix + letter

    def workflow(self, letter: str) -> Workflow | None:
        return self.model.workflows.get(self.id(letter))

    @property
    def alive(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.up and not replica.frozen]

    def via(self, side: int) -> Replica:
        replica = self.replicas[side]
        return replica if replica in self.alive else self.alive[0]

    def own(self, command: Sequence[Any]) -> list[Any]:
        """A command with this example's ids."""
        verb, *given = command
        if verb in ("child", "result", "stop", "watch", "tell"):
            given[0] = self.id(given[0])
        return [verb, *given]

    def fits(self, id: str, command: Sequence[Any]) -> bool:
        """Whether the outcome does not depend on who is quicker: what waits in line must concern nobody else."""
        workflow = self.model.workflows.get(id)
        if workflow is None or workflow.terminal:
            return True
        idle = workflow.status == "ACTIVE" and workflow.progress.doing is None
        return idle or command[0] in QUEUED

    def check(self, answer: Any, expected: Answer) -> None:
        assert (answer.status, answer.code) == expected, f"{expected} was due: {answer}"

    def insist(self, side: int, method: str, target: str, body: Any = None, **headers: str) -> Any:
        """Ask again as long as there is no answer; of whoever is there."""
        refused = 0
        while True:
            try:
                answer = self.via(side).ask(method, target, body, **headers)
            except Lost:
                self.bury()
                continue
            if answer.status != 503:
                return answer
            refused += 1
            assert refused < 50, f"{method} {target} is refused for ever: {answer}"

    def bury(self) -> None:
        """Whoever was killed is declared dead, and what it ran is taken over."""
        for replica in self.replicas:
            if replica.up and replica.engine.killed.is_set():
                replica.kill()
        for replica in self.alive:
            replica.take_over()

    def declare_dead(self, replica: Replica) -> str:
        """A frozen one: the others are to take it for dead."""
        (other,) = self.alive
        id = replica.engine.executor
        other.run(other.engine.execute("update executors set alive = false where id = %s", id))
        other.take_over()
        return id

    # ---- the comparison

    def settle(self, *ids: str) -> None:
        """Wait until all replicas show what the contract says."""
        for id in list(ids or self.model.workflows):
            if id in self.model.workflows:
                self._settled(self.model.workflows[id])

    def _settled(self, workflow: Workflow) -> None:
        said: str | None = ""

        def same() -> bool:
            nonlocal said
            alive = self.alive
            for replica, seen in [(r, r.submit(looks.look(r, workflow, wait=True))) for r in alive]:
                found = seen.result(SOON)
                wrong = looks.contradiction(workflow, found)
                assert wrong is None, f"{workflow.id} through {replica}: {wrong}"
                said = looks.difference(workflow, found)
                if said is not None:
                    said = f"{workflow.id} through {replica}: {said}"
                    return False
            return True

        eventually_sync(same, SOON, lambda: f"{said}\n{workflow}")

    def pin(self, workflow: Workflow) -> None:
        """Find out how far an ended workflow had got, which must be a place where it could be stopped."""
        seen = self.alive[0].run(looks.look(self.alive[0], Workflow(workflow.id, workflow.name, workflow.input)))
        shown = seen.workflow["status"]
        for progress in workflow.trail:
            candidate = Workflow(workflow.id, workflow.name, workflow.input, tags=workflow.tags, parent=workflow.parent)
            candidate.messages, candidate.progress, candidate.ended = workflow.messages, progress, workflow.ended
            candidate.facts = dict(workflow.facts)
            if looks.contradiction(candidate, seen) is None and looks.difference(candidate, seen) is None:
                workflow.progress = progress
                return
        raise AssertionError(f"{shown} workflow stopped where it could not be: {seen}\n{workflow.trail}")

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
        self.settle(id)

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

    @rule(letter=letters, command=commands, side=sides)
    def another_command(self, letter: str, command: Sequence[Any], side: int) -> None:
        self._command(letter, command, side, None)

    def _command(self, letter: str, command: Sequence[Any], side: int, key: str | None) -> None:
        if self.fits(self.id(letter), command):
            event(f"command {command[0]}")
            self._send(self.id(letter), "do", self.own(command), side, key)
            self.settle()

    @rule(letter=letters, topic=topics, payload=values, side=sides, key=idempotency_keys)
    def message(self, letter: str, topic: str, payload: Any, side: int, key: str | None) -> None:
        self._send(self.id(letter), topic, payload, side, key)
        self.settle()

    def _send(self, id: str, topic: str, payload: Any, side: int, key: str | None, query: str = "") -> Any:
        expected = self.model.send(id, topic, payload, key)
        headers = {} if key is None else {"idempotency_key": key}
        body = {"topic": topic, "payload": payload}
        answer = self.via(side).ask("POST", f"/workflows/{id}/messages{query}", body, **headers)
        self.check(answer, expected)
        if expected == CREATED:
            assert answer.json["position"] == len(self.model.workflows[id].messages)
        return answer

    @rule(letter=letters, key=keys, value=values, side=sides)
    def message_and_wait_for_what_comes_of_it(self, letter: str, key: str, value: Any, side: int) -> None:
        id, command = self.id(letter), ["publish", key, value]
        if not self.fits(id, command):
            return
        answer = self._send(id, "do", command, side, None, f"?wait_for={key}&timeout=10")
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
        self._delete(self.id(letter), side)
        self.settle()

    def _delete(self, id: str, side: int) -> None:
        expected = self.model.delete(id)
        self.check(self.via(side).ask("DELETE", f"/workflows/{id}"), expected)
        if expected.code is None:
            for replica in self.alive:
                assert replica.ask("GET", f"/workflows/{id}/history").status == 404

    def _names_the_status(self, answer: Any, id: str) -> None:
        if answer.code == "workflow-finished":
            assert answer.json["workflow_status"] == self.model.workflows[id].status
        elif answer.code is None:
            assert answer.json["status"] == self.model.workflows[id].status

    # ---- reading

    @rule(letter=letters, key=keys, after=st.integers(0, 30), seen=st.none() | st.integers(0, 30), side=sides)
    def read_an_event(self, letter: str, key: str, after: int, seen: int | None, side: int) -> None:
        id = self.id(letter)
        workflow, via = self.model.workflows.get(id), self.via(side)
        headers = {}
        if seen is not None:
            first = via.ask("GET", f"/workflows/{id}/events/{key}?timeout=0")
            if first.status != 200:
                return
            run = first.headers["etag"].removeprefix('W/"').partition(".")[0]
            headers["if_none_match"] = f'W/"{run}.{seen}"'
        for timeout in ("0", "0.02"):
            answer = via.ask("GET", f"/workflows/{id}/events/{key}?after={after}&timeout={timeout}", **headers)
            self.check(answer, self.model.event(id, key, after=after, seen=seen))
            if workflow is not None and answer.status in (200, 202):
                self._shows(workflow, key, after, answer.json)
        if answer.status == 200 and workflow is not None:
            assert answer.headers["etag"].endswith(f'.{workflow.position(key)}"')

    def _shows(self, workflow: Workflow, key: str, after: int, shown: Any) -> None:
        position = workflow.position(key)
        value = workflow.log[position - 1].value if position else None
        assert shown["position"] == position, shown
        assert shown["state"] == workflow.state(key, after), shown
        assert agrees(value, shown["value"]), shown

    @rule(letter=letters, mode=st.sampled_from(["all", "any"]), after=st.integers(0, 20), side=sides)
    def read_several_events(self, letter: str, mode: str, after: int, side: int) -> None:
        id = self.id(letter)
        query = urlencode([("key", "k"), ("key", "l"), ("mode", mode), ("after", after), ("timeout", 0)])
        answer = self.via(side).ask("GET", f"/workflows/{id}/events?{query}")
        self.check(answer, self.model.events(id, ["k", "l"], mode=mode, after=after))
        workflow = self.model.workflows.get(id)
        if workflow is not None:
            assert [shown["key"] for shown in answer.json["events"]] == ["k", "l"]
            for shown in answer.json["events"]:
                self._shows(workflow, shown["key"], after, shown)

    @rule(letter=letters, after=st.integers(0, 20), limit=st.integers(1, 5), key=st.none() | keys, side=sides)
    def page_through_the_history(self, letter: str, after: int, limit: int, key: str | None, side: int) -> None:
        workflow = self.workflow(letter)
        if workflow is None:
            return
        only = [] if key is None else [("key", key)]
        query, found = urlencode([("after", after), ("limit", limit), *only]), []
        for turn in itertools.count():
            page = self.via(side + turn & 1).ask("GET", f"/workflows/{workflow.id}/history?{query}").json
            found += [shown["position"] for shown in page["events"]]
            if page["next_cursor"] is None:
                break
            query = urlencode({"cursor": page["next_cursor"], "limit": limit})
        assert page["position"] == max(len(workflow.log), after if not found else 0, *found, 0) or after > len(
            workflow.log
        )
        expected = [n for n, event in enumerate(workflow.log, 1) if n > after and key in (None, event.key)]
        assert found == expected

    @rule(letter=letters, after=st.integers(0, 20), side=sides, named=st.booleans())
    def read_the_stream(self, letter: str, after: int, side: int, named: bool) -> None:
        workflow, via = self.workflow(letter), self.via(side)
        if workflow is None:
            return
        expected = [str(n) for n in range(after + 1, len(workflow.log) + 1)]
        end = f"{len(workflow.log)}.end"
        if workflow.terminal:
            expected.append(end)

        def ids(text: str) -> list[str]:
            return re.findall(r"^id: (.+)$", text[: text.rfind("\n\n") + 1], re.MULTILINE)

        answer = via.ask(
            "GET",
            f"/workflows/{workflow.id}/stream?after=7&names={str(named).lower()}",
            enough=lambda answer: len(ids(answer.text)) >= len(expected),
            last_event_id=str(after),
        )
        assert ids(answer.text) == expected, answer
        if workflow.terminal:
            again = via.ask("GET", f"/workflows/{workflow.id}/stream", last_event_id=end)
            assert again.status == 204

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
        filters = [("id_prefix", self.prefix), ("order", order), *(("status", s) for s in wanted)]
        filters += [("name", name)] if name else []
        filters += [("parent_id", self.id(letter))] if parent else []
        query, found = urlencode([*filters, ("limit", limit)]), []
        for turn in itertools.count():
            page = self.via(side + turn & 1).ask("GET", f"/workflows?{query}").json
            found += [(shown["created_at"], shown["id"]) for shown in page["workflows"]]
            if page["next_cursor"] is None:
                break
            query = urlencode({"cursor": page["next_cursor"], "limit": limit})
        assert found == sorted(found, reverse=order == "desc")
        expected = {
            w.id
            for w in self.model.workflows.values()
            if (not status or w.status == status or (status == "ACTIVE" and not w.terminal))
            and (not name or w.name == name)
            and (not parent or w.parent == self.id(letter))
        }
        # A workflow with a delay is the only one that is certainly QUEUED; any other may be for a moment.
        if status == "QUEUED":
            assert expected <= {id for _, id in found}
        else:
            assert sorted(expected) == sorted(id for _, id in found)

    @rule(letter=letters, side=sides)
    def look_at_the_result(self, letter: str, side: int) -> None:
        id = self.id(letter)
        answer = self.via(side).ask("GET", f"/workflows/{id}/result?timeout=0.02")
        workflow = self.model.workflows.get(id)
        assert answer.status == (404 if workflow is None else 200 if workflow.terminal else 202)

    @rule(letter=letters, key=keys, command=local, side=sides, other=sides)
    def wait_for_an_event_while_something_happens(
        self, letter: str, key: str, command: Sequence[Any], side: int, other: int
    ) -> None:
        workflow = self.workflow(letter)
        if workflow is None or workflow.terminal or not self.fits(workflow.id, command):
            return
        if workflow.progress.doing is not None or workflow.delayed:
            return
        after = len(workflow.log)
        waiting = self._wait(self.via(side), workflow.id, key, f"events/{key}?after={after}&timeout=20")
        self._send(workflow.id, "do", self.own(command), other, None)
        if self.model.event(workflow.id, key, after=after).status == 202:
            self._send(workflow.id, "do", ["publish", key, "now"], other, None)
        answer = answered(waiting)
        self.check(answer, self.model.event(workflow.id, key, after=after))
        if answer.status == 200:
            assert answer.json["position"] > after
        self.settle()

    def _wait(self, via: Replica, id: str, place: str, target: str) -> "Future[Any]":
        """A request that is registered with the hub by now."""
        waiting = via.begin(via.exchange("GET", f"/workflows/{id}/{target}"))
        eventually_sync(lambda: via.watched(id, place))
        return waiting

    @rule(letter=letters, side=sides, other=sides)
    def cancel_while_somebody_waits(self, letter: str, side: int, other: int) -> None:
        workflow = self.workflow(letter)
        if workflow is None or workflow.terminal:
            return
        event_wait = self._wait(self.via(side), workflow.id, "never", "events/never?timeout=20")
        end_wait = self._wait(self.via(side), workflow.id, END, "result?timeout=20")
        self.cancel(letter, other, True)
        assert answered(event_wait).status == 410
        assert answered(end_wait).json["status"] == "CANCELLED"

    # ---- faults

    def both_up(self) -> bool:
        return len(self.alive) == 2

    def disaster(self) -> bool:
        """Now and then, for each costs as much as many other rules."""
        return self.both_up() and self.disasters < 4

    @precondition(disaster)
    @rule(side=sides)
    def kill(self, side: int) -> None:
        self.disasters += 1
        self.replicas[side].kill()
        self.bury()
        self.settle()

    @precondition(lambda self: not self.both_up())
    @rule()
    def revive(self) -> None:
        for replica in self.replicas:
            if replica.frozen:
                self.wake_up(replica)
            elif not replica.up:
                replica.start()
        self.settle()

    def wake_up(self, replica: Replica) -> None:
        """A frozen one goes on; it was declared dead meanwhile, and becomes somebody else."""
        before = replica.engine.executor
        replica.thaw()
        eventually_sync(lambda: replica.engine.executor != before, SOON)

    @precondition(disaster)
    @rule(side=sides)
    def restart(self, side: int) -> None:
        self.disasters += 1
        self.replicas[side].restart()
        self.settle()

    @precondition(disaster)
    @rule()
    def lose_everything_but_the_database(self) -> None:
        self.disasters += 2
        for replica in self.replicas:
            replica.kill()
        for replica in self.replicas:
            replica.start()
        self.bury()
        self.settle()

    @precondition(disaster)
    @rule(letter=letters, command=local, side=sides, place=st.sampled_from(PLACES), nth=st.integers(1, 2))
    def command_and_kill(self, letter: str, command: Sequence[Any], side: int, place: str, nth: int) -> None:
        """Kill a replica somewhere in the middle of a command."""
        self.disasters += 1
        if self.fits(self.id(letter), command):
            trap = self.replicas[side].kill_at(place, nth)
            self._send(self.id(letter), "do", self.own(command), 1 - side, None)
            self._until_struck(trap, letter)
            event(f"killed at {place}" if trap.struck else "not killed")
        self.replicas[side].kill()
        self.bury()
        self.settle()

    def _until_struck(self, trap: Trap, letter: str) -> None:
        """Wait for a trap, for as long as there may be anything to pass by."""
        workflow = self.workflow(letter)
        witness = next(r for r in self.replicas if r.trap is not trap)

        def over() -> bool:
            if trap.struck or workflow is None:
                return True
            seen = witness.run(looks.look(witness, workflow))
            return looks.difference(workflow, seen) is None

        eventually_sync(over, SOON)

    @precondition(both_up)
    @rule(
        letter=letters,
        command=local,
        trapped=sides,
        side=sides,
        place=st.sampled_from([*JOURNAL, "transaction.before_commit", "transaction.after_commit", "mail.after_commit"]),
        key=st.sampled_from(["three", "four"]),
    )
    def command_and_lose_an_answer(
        self, letter: str, command: Sequence[Any], trapped: int, side: int, place: str, key: str
    ) -> None:
        """A connection to the database breaks: before a commit it never arrived, after it nobody was told."""
        id = self.id(letter)
        if not self.fits(id, command):
            return
        trap = self.replicas[trapped].lose_at(place, 1)
        body = {"topic": "do", "payload": self.own(command)}
        expected = self.model.send(id, "do", body["payload"], key)
        answer = self.insist(side, "POST", f"/workflows/{id}/messages", body, idempotency_key=key)
        if expected == CREATED and trap.struck:
            assert answer.status in (200, 201), answer
            event(f"answer lost at {place}")
        else:
            self.check(answer, expected)
        self.settle()
        self.replicas[trapped].trap = None

    @precondition(both_up)
    @rule(
        letter=letters,
        name=st.sampled_from(["puppet", "count"]),
        side=sides,
        place=st.sampled_from(JOURNAL),
        dies=st.booleans(),
    )
    def start_and_get_no_answer(self, letter: str, name: str, side: int, place: str, dies: bool) -> None:
        """The same start is sent again until there is an answer: it is one workflow."""
        id, replica = self.id(letter), self.replicas[side]
        trap = replica.kill_at(place, 1) if dies else replica.lose_at(place, 1)
        expected = self.model.start(id, name, 1)
        answer = self.insist(side, "POST", "/workflows", {"id": id, "name": name, "input": 1})
        if expected == CREATED and trap.struck:
            assert answer.status in (200, 201), answer
            event(f"start without an answer at {place}")
        else:
            self.check(answer, expected)
        replica.trap = None
        if dies and replica.up:
            replica.kill()
            self.bury()
        self.settle()

    @precondition(both_up)
    @rule(
        letter=letters,
        command=local,
        side=sides,
        place=st.sampled_from(PLACES),
        nth=st.integers(1, 2),
        deeds=st.sampled_from(
            [
                ["declare dead"],
                ["cancel"],
                ["cancel", "declare dead"],
                ["cancel", "resume"],
                ["cancel", "resume", "declare dead"],
                ["declare dead", "cancel", "resume"],
                ["cancel", "delete"],
                ["cancel", "delete", "start"],
            ]
        ),
        stays=st.booleans(),
    )
    def act_behind_the_back_of_a_frozen_one(
        self,
        letter: str,
        command: Sequence[Any],
        side: int,
        place: str,
        nth: int,
        deeds: Sequence[str],
        stays: bool,
    ) -> None:
        """A replica stands still in the middle of a command; what it meant to write counts only if it is still its own.

        `stays`: it goes on with a later rule, or with this one.
        """
        id, frozen = self.id(letter), self.replicas[side]
        workflow, dies = self.model.workflows.get(id), "declare dead" in deeds
        if workflow is not None and not workflow.terminal and self.fits(id, command):
            trap = frozen.freeze_at(place, nth)
            self._send(id, "do", self.own(command), 1 - side, None)
            self._until_struck(trap, letter)
            frozen.freeze(unless=trap)
            event(f"frozen at {place}" if trap.struck else "not frozen in the middle")
            for deed in deeds:
                self._do_to(id, deed, frozen)
        elif dies:
            frozen.freeze()
            self.declare_dead(frozen)
        if dies:
            self.settle()
        if not dies:
            frozen.thaw()
        elif not stays:
            self.wake_up(frozen)
        self.settle()

    def _do_to(self, id: str, deed: str, frozen: Replica) -> None:
        side = 1 - self.replicas.index(frozen)
        if deed == "declare dead":
            self.declare_dead(frozen)
        elif deed == "cancel":
            self._cancel_in_the_middle(id, side)
        elif deed == "resume":
            self.check(self.via(side).ask("POST", f"/workflows/{id}/resume"), self.model.resume(id))
        elif deed == "delete":
            self._delete(id, side)
        else:
            expected = self.model.start(id, "puppet", None)
            self.check(self.via(side).ask("POST", "/workflows", {"id": id, "name": "puppet"}), expected)

    def _cancel_in_the_middle(self, id: str, side: int) -> None:
        """How far it had got is told by what is there when it is cancelled."""
        workflow = self.model.workflows[id]
        answer = self.via(side).ask("POST", f"/workflows/{id}/cancel")
        if answer.code is None:
            assert answer.status == 200
            trail = workflow.trail
            workflow.progress = next(progress for progress in trail if progress.status is None)
            assert self.model.cancel(id) == OK
            workflow.trail = trail
        else:
            self.check(answer, Answer(409, "workflow-finished"))
        self.pin(workflow)

    @precondition(both_up)
    @rule(letter=letters, command=local, side=sides, other=sides)
    def cancel_in_the_middle(self, letter: str, command: Sequence[Any], side: int, other: int) -> None:
        """Whoever comes first: nothing is committed after the answer to a cancel."""
        workflow = self.workflow(letter)
        if workflow is None or workflow.terminal or not self.fits(workflow.id, command):
            return
        self._send(workflow.id, "do", self.own(command), side, None)
        self._cancel_in_the_middle(workflow.id, other)
        self.settle()

    @rule(letter=letters, side=sides)
    def leave_in_the_middle_of_a_wait(self, letter: str, side: int) -> None:
        """Nobody is kept waiting for a client that has gone away."""
        workflow, via = self.workflow(letter), self.via(side)
        if workflow is None or workflow.terminal:
            return
        asked = via.exchange("GET", f"/workflows/{workflow.id}/events/never?timeout=60")
        waiting = via.begin(asked)
        eventually_sync(lambda: via.watched(workflow.id, "never"))
        via.loop.call_soon_threadsafe(asked.leave)
        waiting.result(SOON)
        assert not via.watched(workflow.id, "never")

    # ---- the end

    def teardown(self) -> None:
        for replica in self.replicas:
            replica.trap = None
            replica.thaw()
            if not replica.up:
                replica.start()
        if sys.exc_info()[0] is not None:
            return  # it has failed already
        self.settle()
        self._ledger_is_exact()
        for id, workflow in list(self.model.workflows.items()):
            if not workflow.terminal:
                self.model.cancel(id)
                assert self.via(0).ask("POST", f"/workflows/{id}/cancel").status == 200
        self.settle()
        for id in list(self.model.workflows):
            if id in self.model.workflows:
                self._delete(id, 1)
        self._nothing_is_left()

    def _ledger_is_exact(self) -> None:
        """What a transaction wrote is there once."""
        eye = self.replicas[0]
        rows = eye.run(
            eye.engine.rows("select workflow_id, label from ledger where workflow_id like %s", f"{self.prefix}%")
        )
        written = Counter((row["workflow_id"], row["label"]) for row in rows)
        for workflow in self.model.workflows.values():
            calls = Counter(call.output for call in workflow.progress.calls if call.kind == "transaction")
            deleted_before = Counter({label: n for (id, label), n in written.items() if id == workflow.id})
            assert all(deleted_before[label] >= n for label, n in calls.items()), (calls, deleted_before)

    def _nothing_is_left(self) -> None:
        eye = self.replicas[0]
        for table in ("workflows", "steps", "events", "messages", "waits", "callbacks"):
            column = "id" if table == "workflows" else "workflow_id"
            left = eye.run(eye.engine.rows(f"select * from {table} where {column} like %s", f"{self.prefix}%"))
            assert not left, f"{table}: {left}"
