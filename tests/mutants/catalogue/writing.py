"""What is committed, together with what, and how often."""

from tests.mutants.mutant import mutant

RESEND = "tests/engine/test_traps_resend.py"
LANES = "tests/engine/test_traps_lanes.py"
TAKE = "        entry, self._entry = self._entry, None\n        return entry\n"

MUTANTS = [
    mutant(
        "event and step in two commits",
        "a step and the events set after it are one commit",
        "engine/scribe.py",
        (
            TAKE,
            (
                "        entry, self._entry = self._entry, None\n"
                "        if entry is not None and entry.steps and entry.events:\n"
                "            events, keys = entry.events, entry.keys\n"
                "            entry.events, entry.keys = [], []\n"
                "            later = self.entry()\n"
                "            later.events, later.keys = events, keys\n"
                "        return entry\n"
            ),
        ),
        tests=["tests/engine/test_speculation.py::test_a_step_and_the_events_set_after_it_are_committed_together"],
    ),
    mutant(
        "no barrier before a step",
        "an event is visible before the next step begins",
        "engine/run.py",
        ("if self._scribe.all_committed or not call.effect.barrier:", "if True:"),
        tests=["tests/engine/test_speculation.py::test_no_step_begins_while_an_event_of_its_workflow_is_uncommitted"],
    ),
    mutant(
        "a lost answer is not taken for success",
        "what a flush wrote whose answer was lost counts as written",
        "engine/journal.py",
        ("                    item.again = True\n", "                    item.again = False\n"),
        tests=[f"{RESEND}::test_a_batch_that_is_divided_after_a_lost_answer_counts_as_written"],
    ),
    mutant(
        "a lost flush is not sent again",
        "what was recorded is kept until the database has it",
        "engine/journal.py",
        (
            "                    item.again = True\n            return False\n",
            "                    item.again = True\n                return True\n            return False\n",
        ),
        tests=[f"{RESEND}::test_a_start_whose_commit_was_not_told_runs_once"],
    ),
    mutant(
        "a start sent again is a conflict",
        "a start whose first try was committed without an answer is this one's",
        "store/journal.sql",
        ("where workflows.start_token = excluded.start_token", "where false"),
        tests=["tests/store/test_resend.py::test_the_answer_of_a_second_try_is_that_of_the_first"],
    ),
    mutant(
        "an end sent again is fenced",
        "an end whose answer was lost counts as written",
        "store/journal.sql",
        ("(w.status = 'RUNNING' or w.status = d.fin)", "w.status = 'RUNNING'"),
        tests=["tests/store/test_resend.py::test_the_answer_of_a_second_try_is_that_of_the_first"],
    ),
    mutant(
        "a place taken twice is silence",
        "two records of one place are an error, and not a loss",
        "store/journal.py",
        ('"on conflict do nothing" if again else ""', '"on conflict do nothing"'),
        tests=["tests/store/test_resend.py::test_a_first_try_that_finds_its_place_taken_is_refused"],
    ),
    mutant(
        "the record of a transaction in another commit",
        "the writes of a transaction and its record are one commit",
        "engine/effects.py",
        (
            "                        await self._record(run, step, connection)\n",
            (
                "                        async with self._tools.database.transaction() as another:\n"
                "                            await self._record(run, step, another)\n"
            ),
        ),
        tests=[
            "tests/engine/test_exactly_once.py::test_transactions_and_steps_side_by_side_come_out_of_a_crash_as_they_went_in"
        ],
    ),
    mutant(
        "a transaction is not looked for",
        "a transaction whose answer was lost is not done again",
        "engine/effects.py",
        ("if step is None or not await self._was_committed(run, step):", "if True:"),
        tests=["tests/engine/test_exactly_once.py::test_a_transaction_whose_answer_was_lost_is_not_done_again"],
    ),
    mutant(
        "a poisoned record fails its neighbours",
        "what the database refuses fails its own workflow alone",
        "engine/journal.py",
        (
            "        if verdict is not db.Verdict.LOST and len(items) > 1:\n",
            (
                "        if verdict is db.Verdict.REFUSED:\n"
                "            for item in items:\n"
                "                _refuse(item, error)\n"
                "        elif verdict is not db.Verdict.LOST and len(items) > 1:\n"
            ),
        ),
        tests=[f"{LANES}::test_what_the_database_refuses_fails_its_own_workflow_and_no_other"],
    ),
    mutant(
        "skip locked dropped",
        "a row that somebody holds stalls nobody else",
        "store/journal.py",
        ('"skip locked" if skip else ""', '""'),
        tests=[f"{LANES}::test_a_held_row_does_not_stall_the_others"],
    ),
    mutant(
        "a record overtakes another",
        "the records of a workflow are written in their order, by whichever lane",
        "engine/journal.py",
        ("        if writer.lane is not self._lane:\n", "        if not writer.lane:\n"),
        tests=[f"{LANES}::test_a_record_does_not_overtake_one_that_waits_for_a_held_row"],
    ),
    mutant(
        "no lane for what is big",
        "a big value does not delay the small ones",
        "engine/journal.py",
        ("if self._lane is Lane.FAST and entry.size > BIG:", "if self._lane is Lane.SLOW and entry.size > BIG:"),
        tests=[f"{LANES}::test_a_big_value_does_not_stall_the_small_ones"],
    ),
    mutant(
        "two entries of one workflow in a flush",
        "one statement writes once for each workflow",
        "engine/journal.py",
        ("if waiting.id in taken:\n", "if False:\n"),
        tests=[f"{LANES}::test_no_flush_holds_two_entries_of_one_workflow"],
    ),
    mutant(
        "rows locked in any order",
        "whoever wants several rows takes them by id",
        "store/journal.sql",
        ("    order by w.id\n    for no key update of w {skip}\n", "    for no key update of w {skip}\n"),
        tests=["tests/engine/test_lock_order.py::test_a_flush_locks_in_order_and_starts_in_order"],
    ),
    mutant(
        "plans as the tables are",
        "a plan that was made on empty tables serves full ones",
        "store/db.py",
        ('    "enable_seqscan": "off",\n    "enable_mergejoin": "off",\n', ""),
        tests=["tests/engine/test_plans.py::test_a_plan_made_on_empty_tables_serves_full_ones"],
    ),
    mutant(
        "nobody looks after a silent connection",
        "a server that dies before it has read a statement is missed at once",
        "store/wire.py",
        (
            "create_future()\n        self._next_look = self._loop.call_later(LOOK,",
            "create_future()\n        self._next_look = self._loop.call_later(3600,",
        ),
        tests=["tests/store/test_wire.py::test_a_server_that_dies_before_it_has_read_a_statement_is_missed_at_once"],
    ),
]
