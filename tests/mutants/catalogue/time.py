"""Clocks, deadlines and timers."""

from tests.mutants.mutant import mutant

CLOCKS = "tests/guarantees/test_clocks.py"

MUTANTS = [
    mutant(
        "timers early",
        "no timer rings early",
        "store/workflows.sql",
        ("      and w.wake_at is not null\n      and w.wake_at <= now()\n", "      and w.wake_at is not null\n"),
        tests=[f"{CLOCKS}::test_what_is_not_due_is_not_claimed"],
    ),
    mutant(
        "a deadline begins anew in replay",
        "a deadline outlives its process",
        "engine/effects.py",
        (
            "            if written is not None:\n                self._deadline = written.deadline\n            elif",
            (
                "            if written is not None and self._seconds is None:\n"
                "                self._deadline = written.deadline\n"
                "            elif"
            ),
        ),
        tests=["tests/engine/test_traps_waits.py::test_each_wait_keeps_its_own_deadline_over_wakes_by_others"],
    ),
    mutant(
        "sleeps by the clock of the process",
        "the clock of a process plays no part in its workflows' deadlines",
        "engine/clock.py",
        (
            "        return self._base + timedelta(seconds=time.monotonic() - self._at)\n",
            "        return datetime.fromtimestamp(time.time(), UTC)\n",
        ),
        tests=[f"{CLOCKS}::test_a_clock_that_is_wrong_changes_no_sleep[1]"],
    ),
    mutant(
        "waits by the clock of the wall",
        "a clock that is set hastens no answer and delays none",
        "engine/views.py",
        (
            "        end = time.monotonic() + timeout\n",
            "        end = time.time() + timeout\n",
        ),
        (
            "            left = end - time.monotonic()\n",
            "            left = end - time.time()\n",
        ),
        ("or time.monotonic() < end)", "or time.time() < end)"),
        tests=[f"{CLOCKS}::test_a_clock_that_jumps_hastens_no_answer_and_delays_none"],
    ),
    mutant(
        "an answer before its time",
        "a wait that finds nothing is answered at its time, and not earlier",
        "engine/views.py",
        (
            "        end = time.monotonic() + timeout\n",
            "        end = time.monotonic() + timeout - 0.1\n",
        ),
        tests=[f"{CLOCKS}::test_a_wait_that_finds_nothing_ends_at_its_time"],
    ),
    mutant(
        "an expired wait does not look again",
        "what came in time counts, also when nobody had read it",
        "engine/effects.py",
        (
            "        if not await self._mailbox.last_look(call.seq):\n            return None\n",
            "",
        ),
        tests=["tests/engine/test_waiting.py::test_an_expired_wait_still_gets_the_message_that_came_in_time"],
    ),
    mutant(
        "nobody is out of time",
        "a workflow whose time is over ends",
        "engine/deadlines.py",
        (
            "            await self._end(overdue, Status.TIMED_OUT, reason)\n",
            "            return\n",
        ),
        tests=["tests/engine/test_endings.py::test_what_cleans_up_is_started_once_with_what_it_needs[TIMED_OUT]"],
    ),
]
