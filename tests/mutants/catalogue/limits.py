"""What is refused, and how the service keeps within its bounds."""

from tests.mutants.mutant import mutant

WIRE = "tests/unit/test_values.py"

MUTANTS = [
    mutant(
        "the buffer of starts has no bound",
        "starts that can't be written are refused, and not gathered",
        "engine/journal.py",
        (
            "        if self._births >= self._buffer or self.load >= 2 * self._buffer:\n",
            "        if self._buffer < 0:\n",
        ),
        tests=["tests/guarantees/test_bounds.py::test_no_more_starts_wait_for_the_database_than_the_buffer_holds"],
    ),
    mutant(
        "any number of requests may wait",
        "there are so many seats for requests that wait, and no more",
        "engine/hub.py",
        ("        if len(self._seated) >= self._seats:\n", "        if len(self._seated) < 0:\n"),
        tests=["tests/guarantees/test_bounds.py::test_there_are_so_many_seats_and_they_are_free_again"],
    ),
    mutant(
        "a seat is not given back",
        "a wait that is over leaves nothing behind",
        "memory.py",
        ("        self._count -= 1\n", ""),
        tests=["tests/guarantees/test_bounds.py::test_there_are_so_many_seats_and_they_are_free_again"],
    ),
    mutant(
        "bodies of any size",
        "a body is read up to its limit",
        "api/middleware.py",
        ("            if read > self._limit:\n", "            if read < 0:\n"),
        tests=["tests/unit/test_middleware.py::test_a_body_is_read_up_to_its_limit"],
    ),
    mutant(
        "the declared size is believed to be small",
        "a body that declares itself too large is refused unread",
        "api/middleware.py",
        (" and int(length) <= self._limit\n", "\n"),
        tests=["tests/unit/test_middleware.py::test_a_declared_length_beyond_the_limit_is_refused_unread"],
    ),
    mutant(
        "members twice",
        "an object that has a member twice is refused",
        "values.py",
        ("    if len(members) != len(pairs):\n        raise _Refused\n", ""),
        tests=[f"{WIRE}::test_what_would_not_come_back_is_refused_with_its_place"],
    ),
    mutant(
        "NaN is a number",
        "what JSON does not know is refused, though Python reads it",
        "values.py",
        ("_members, parse_constant=_refuse)\n", "_members)\n"),
        ("_members, parse_constant=_refuse, parse_float", "_members, parse_float"),
        tests=[f"{WIRE}::test_what_would_not_come_back_is_refused_with_its_place"],
    ),
    mutant(
        "503 without Retry-After",
        "whoever is to come again is told when",
        "api/render.py",
        ("if status in (202, 503):", "if status == 202:"),
        tests=["tests/guarantees/test_bounds.py::test_whoever_is_to_come_again_is_told_when"],
    ),
    mutant(
        "a drain leaves readers waiting",
        "an orderly end answers whoever waits",
        "engine/hub.py",
        ("        self.draining = True\n        self.wake_all()\n", "        self.draining = True\n"),
        tests=["tests/guarantees/test_drains.py::test_a_drain_answers_whoever_waits"],
    ),
    mutant(
        "a drain hands nothing over",
        "what a process leaves behind is at the others' disposal at once",
        "engine/executor.py",
        (
            '                await around("executor.release", workflows.release(self._line, self.id))\n',
            "                pass\n",
        ),
        tests=["tests/guarantees/test_drains.py::test_what_is_left_is_handed_over_at_once"],
    ),
    mutant(
        "starts while draining",
        "a process that ends takes no new work",
        "engine/commands.py",
        ("        if self.draining:\n            raise Draining\n        id =", "        id ="),
        tests=["tests/guarantees/test_drains.py::test_a_drain_takes_no_new_work"],
    ),
    mutant(
        "ready without a write",
        "who says that it is ready can write",
        "store/executors.sql",
        (
            "update executors\nset heartbeat_at = now()\nwhere id = %(executor)s\nreturning (select version_num",
            "select (select version_num",
        ),
        tests=["tests/guarantees/test_health.py::test_who_can_not_write_is_not_ready"],
    ),
    mutant(
        "ready with an older schema",
        "who says that it is ready finds the schema that it needs",
        "engine/pulse.py",
        ("        if not migrations.suffices(revision):\n", "        if revision is None:\n"),
        tests=["tests/guarantees/test_health.py::test_who_finds_an_older_schema_is_not_ready"],
    ),
    mutant(
        "only its own schema",
        "a schema beyond what the code knows serves it, while replicas are replaced",
        "store/migrations.py",
        ("    return revision is not None and revision >= ", "    return revision is not None and revision == "),
        tests=["tests/guarantees/test_health.py::test_a_schema_beyond_ours_serves_us"],
    ),
    mutant(
        "events without end",
        "a workflow that publishes faster than the database writes stands still",
        "engine/scribe.py",
        (
            "        self.heavy = (\n            self.heavy\n",
            "        self.heavy = False and (\n            self.heavy\n",
        ),
        tests=["tests/engine/test_pressure.py::test_large_events_do_not_pile_up_before_a_slow_database"],
    ),
]
