"""What processes know of each other: who lives, who is dead, what was committed elsewhere."""

from tests.mutants.mutant import mutant

DEATHS = "tests/engine/test_traps_deaths.py"
HINTS = "tests/engine/test_traps_hints.py"

MUTANTS = [
    mutant(
        "no wake-all after listening again",
        "what was sent while nobody listened is found by reading",
        "engine/notifier.py",
        (
            "            # Whatever was sent while nobody listened is found by reading.\n            self._missed()\n",
            "",
        ),
        tests=[f"{HINTS}::test_what_was_sent_while_nobody_listened_is_found_by_reading"],
    ),
    mutant(
        "a gap in the hints is passed over",
        "who misses a hint reads again",
        "engine/notifier.py",
        ("        if last is not None and number > last + 1:\n            self._missed()\n", ""),
        tests=[f"{HINTS}::test_a_gap_in_the_numbers_of_the_hints_has_everybody_read_again"],
    ),
    mutant(
        "hints are not compared with the heartbeats",
        "a hint that got lost at the end is missed at the next beat",
        "engine/notifier.py",
        (
            "            if announced is not None and self._heard.get(peer.id, 0) < announced:\n",
            "            if announced is not None and self._heard.get(peer.id, 0) < 0:\n",
        ),
        tests=[f"{HINTS}::test_a_hint_that_was_announced_and_not_heard_has_everybody_read_again"],
    ),
    mutant(
        "the death of a peer wakes nobody",
        "what a peer committed and had no time to tell is found by reading",
        "engine/notifier.py",
        ("        if self._announced.keys() - alive.keys():\n", "        if self._announced.keys() < set():\n"),
        tests=["tests/engine/test_second_looks.py::test_everybody_reads_again_when_a_peer_is_not_alive_any_more"],
    ),
    mutant(
        "no hints",
        "what is committed here wakes who waits there",
        "engine/notifier.py",
        ("        if not self.wanted or len(self._ids) >= BACKLOG:\n", "        if True:\n"),
        tests=[f"{HINTS}::test_what_is_committed_by_one_process_wakes_readers_of_another"],
    ),
    mutant(
        "no belt",
        "whoever waits reads again now and then, whatever the hints say",
        "engine/runtime.py",
        ("        self.hub.wake_slice()\n", ""),
        tests=[f"{HINTS}::test_without_any_hint_everybody_reads_again_in_a_while"],
    ),
    mutant(
        "dead at one look",
        "a free lock is no death",
        "engine/recovery.py",
        (
            "                self._suspects[peer.id] = Suspicion(now, peer.heartbeat_at)\n",
            "                return True\n",
        ),
        tests=[f"{DEATHS}::test_who_lost_its_lock_and_beats_on_is_not_dead"],
    ),
    mutant(
        "dead though it beats",
        "who gives a sign of life between two looks at its lock lives",
        "engine/recovery.py",
        (" or suspicion.heartbeat_at != peer.heartbeat_at:", ":"),
        tests=[f"{DEATHS}::test_who_lost_its_lock_and_beats_on_is_not_dead"],
    ),
    mutant(
        "dead by the clock of the process",
        "who lives and who is dead is told by one clock, the database's",
        "engine/recovery.py",
        (
            "if peer.silent_for > self._time_to_live and",
            'if __import__("time").time() - peer.heartbeat_at > self._time_to_live and',
        ),
        tests=["tests/guarantees/test_clocks.py::test_a_clock_that_is_wrong_buries_nobody"],
    ),
    mutant(
        "dead after a restart of the server",
        "after a restart of PostgreSQL nobody is declared dead before a whole time-to-live",
        "engine/recovery.py",
        ("        if beat.uptime < self._time_to_live:\n            return False\n", ""),
        tests=[f"{DEATHS}::test_a_server_that_was_just_started_buries_nobody"],
    ),
    mutant(
        "dead at first sight",
        "whoever has just begun gives those it finds silent time to come back",
        "engine/recovery.py",
        (" and now - self._first >= self._time_to_live:", ":"),
        tests=[f"{DEATHS}::test_whoever_has_just_begun_gives_those_it_finds_silent_time_to_come_back"],
    ),
    mutant(
        "dead after an outage",
        "whoever is the first to be back gives the others time to come back",
        "engine/recovery.py",
        ("            return now - self._steady >= self._time_to_live\n", "            return True\n"),
        tests=[f"{DEATHS}::test_whoever_is_back_first_after_an_outage_gives_the_others_time_to_come_back"],
    ),
    mutant(
        "the buried is not asked again",
        "who gives a sign of life before it is buried is not",
        "store/executors.sql",
        ("  and (heartbeat_at <= to_timestamp(%(since)s::float8) or %(proven)s)\n", ""),
        tests=[f"{DEATHS}::test_a_beat_that_comes_before_the_burial_prevents_it"],
    ),
    mutant(
        "not known under the new name",
        "who was declared dead makes itself known anew before it goes on",
        "engine/pulse.py",
        (
            "            self.id, self._reborn = _new_id(), True\n            await self._line.close()\n",
            "            self.id, self._reborn = _new_id(), True\n",
        ),
        tests=[
            "tests/engine/test_traps_resend.py::test_records_of_an_executor_that_was_declared_dead_are_not_sent_again"
        ],
    ),
    mutant(
        "only the living are asked for the lost",
        "what an executor starts before it hears of its own death is taken over",
        "store/workflows.sql",
        (
            (
                "      -- As a hashed lookup and not as a join: a row that was taken over meanwhile is asked again.\n"
                "      and (w.executor_id in (select id from executors where alive)) is not true\n"
            ),
            "      and w.executor_id in (select id from executors where not alive)\n",
        ),
        tests=[
            "tests/engine/test_traps_executors.py::test_what_a_process_starts_before_it_hears_of_its_own_death_is_not_lost"
        ],
    ),
    mutant(
        "never dead of its recoveries",
        "a workflow that ends its process each time is given up",
        "store/workflows.sql",
        ("    barren = w.barren + 1,\n", ""),
        tests=[
            "tests/engine/test_endings.py::test_a_workflow_that_ends_its_process_each_time_is_dead_after_its_recoveries"
        ],
    ),
    mutant(
        "losses are never forgiven",
        "a workflow that gets on between its losses is not given up",
        "store/journal.sql",
        ("        barren = 0,\n", ""),
        tests=["tests/engine/test_endings.py::test_a_workflow_that_gets_on_between_its_losses_lives"],
    ),
]
