"""Who is woken by what, and whom nobody may leave waiting."""

from tests.mutants.mutant import mutant

CROSSINGS = "tests/store/test_crossings.py"
FIRST_LOOKS = "tests/engine/test_first_looks.py"
WAITS = "tests/engine/test_traps_waits.py"

MUTANTS = [
    mutant(
        "the inbox not compared at a park",
        "a message that came meanwhile has the park refused",
        "store/journal.sql",
        (" or l.seen is null or w.inbox = l.seen)", " or true)"),
        tests=[f"{CROSSINGS}::test_a_message_that_came_and_went_between_the_look_and_the_park_has_it_refused"],
    ),
    mutant(
        "a message does not raise the inbox",
        "every message has a number of its own",
        "store/messages.sql",
        ("set inbox = w.inbox + c.sent,", "set inbox = w.inbox,"),
        tests=[f"{CROSSINGS}::test_a_message_that_comes_first_has_the_park_refused"],
    ),
    mutant(
        "a message does not wake",
        "a parked workflow is queued by the commit of the message that it waits for",
        "store/messages.sql",
        (
            "status = case when w.status = 'WAITING' then 'QUEUED' else w.status end,\n        wake_at = case",
            "wake_at = case",
        ),
        tests=[f"{CROSSINGS}::test_a_message_that_comes_second_wakes_the_parked_one"],
    ),
    mutant(
        "watched not set",
        "whoever is about to park on another workflow has it tell of its next commit",
        "store/workflows.sql",
        ("set watched = true", "set watched = w.watched"),
        tests=[f"{CROSSINGS}::test_an_event_that_comes_second_is_told_that_somebody_watches"],
    ),
    mutant(
        "watched not read from the locked row",
        "who watches is asked of the row as it is after the lock",
        "store/journal.sql",
        (
            "select l.id, l.mine, l.watched,",
            "select l.id, l.mine, (select w.watched from workflows w where w.id = l.id) as watched,",
        ),
        tests=[f"{CROSSINGS}::test_an_event_that_comes_second_is_told_that_somebody_watches"],
    ),
    mutant(
        "no second look after a park",
        "what happened between the last look and the park is seen",
        "engine/run.py",
        ("if self._news or self.targets:", "if self._news:"),
        tests=[f"{WAITS}::test_what_happens_elsewhere_around_a_park_is_seen_by_the_second_look"],
    ),
    mutant(
        "a refused park is a fence",
        "a workflow whose park was refused reads again",
        "engine/run.py",
        (
            "            self._stay()\n            self._restart_waits()\n            self._schedule()\n",
            "            self.fenced()\n",
        ),
        tests=[f"{WAITS}::test_a_message_that_comes_while_its_workflow_parks_is_received"],
    ),
    mutant(
        "a wake whose connection was cut is given up",
        "who is watched wakes who waits, however long the database is away",
        "engine/tasks.py",
        (
            "        except DatabaseUnavailable:\n            await asyncio.sleep(RETRY_PAUSE)\n",
            "        except DatabaseUnavailable:\n            return None\n",
        ),
        tests=[f"{WAITS}::test_a_wake_whose_connection_was_cut_is_made_again"],
    ),
    mutant(
        "nobody sweeps what the dead left parked",
        "a crash between a park and its second look leaves nobody waiting",
        "engine/executor.py",
        (
            '            waiting = await around("executor.sweep", workflows.overdue_waits(self._wakes))\n',
            "            waiting = (await workflows.overdue_waits(self._wakes))[:0]\n",
        ),
        tests=[f"{WAITS}::test_a_crash_between_a_park_and_its_second_look_leaves_nobody_waiting"],
    ),
    mutant(
        "received twice",
        "a message is received once",
        "store/messages.sql",
        (
            'topic = r.topic collate "C" and received_seq is null and position > r.after',
            'topic = r.topic collate "C" and position > r.after',
        ),
        tests=["tests/engine/test_waiting.py::test_messages_of_a_topic_are_received_in_their_order_and_once"],
    ),
    mutant(
        "looked first, registered then",
        "whoever waits is registered before it looks",
        "engine/views.py",
        (
            "        seen = seen or await look()\n",
            "        self._hub.leave(watch)\n        seen = seen or await look()\n        self._hub.enter(watch)\n",
        ),
        tests=["tests/guarantees/test_waiting_reads.py::test_what_is_committed_after_the_look_wakes_whoever_looked"],
    ),
    mutant(
        "a wake-up is taken for news",
        "what wakes is a reason to look again",
        "engine/views.py",
        (
            "            seen = by_commit or await self._patiently(look, watch, end) or seen\n",
            "            return by_commit or await self._patiently(look, watch, end) or seen\n",
        ),
        tests=["tests/guarantees/test_waiting_reads.py::test_a_wake_up_without_news_answers_nobody"],
    ),
    mutant(
        "a wake-up before the wait is lost",
        "what is published between a look and the wait is not missed",
        "engine/hub.py",
        (
            "            self._woken, self.commit = True, commit\n",
            "            self._woken, self.commit = False, commit\n",
        ),
        tests=["tests/guarantees/test_waiting_reads.py::test_what_is_committed_after_the_look_wakes_whoever_looked"],
    ),
    mutant(
        "published before the commit",
        "readers are woken after the commit, and not by what may still be lost",
        "engine/journal.py",
        (
            '                await point("journal.before_flush")\n',
            (
                "                for item in items:\n"
                "                    if not isinstance(item, Birth):\n"
                "                        self._owner._published(item.id, item.sets, item.ends, lambda: None)\n"
                '                await point("journal.before_flush")\n'
            ),
        ),
        (
            "self._published(entry.id, entry.sets.keys(), entry.ends, partial(_told, entry, row))\n",
            "pass\n",
        ),
        tests=["tests/guarantees/test_waiting_reads.py::test_a_set_is_told_after_its_commit"],
    ),
    mutant(
        "what was perhaps committed earlier is told as if now",
        "what a commit tells is what a look would see",
        "engine/journal.py",
        ("    if entry.again:\n        return None\n    events = ", "    events = "),
        tests=["tests/guarantees/test_told_commits.py::test_a_commit_whose_answer_was_lost_tells_nothing"],
    ),
    mutant(
        "a part of what is waited for is told as all of it",
        "a commit that has not set all that is waited for is a reason to look",
        "engine/views.py",
        ("    if not all(key in commit.events for key in keys):\n        return None\n", ""),
        ("{key: commit.events[key] for key in keys}", "{key: commit.events.get(key) for key in keys}"),
        tests=["tests/guarantees/test_told_commits.py::test_a_commit_that_has_not_set_all_of_it_is_a_reason_to_look"],
    ),
    mutant(
        "a look for what was never set",
        "a workflow that runs here gets a moment to set what is waited for",
        "engine/views.py",
        ("                soon=unset(self._unset(id, key) for key in keys),\n", ""),
        tests=[f"{FIRST_LOOKS}::test_it_is_answered_from_the_commit_without_a_look"],
    ),
    mutant(
        "what is being committed counts as set",
        "what is set is set when it is committed",
        "engine/scribe.py",
        ("self._first_set.get(key, self.serial + 1) > self.committed", "key not in self._first_set"),
        tests=[f"{FIRST_LOOKS}::test_it_is_answered_from_the_commit_without_a_look"],
    ),
    mutant(
        "no look at all for what was never set",
        "that a workflow runs here keeps nobody from what somebody else has made of it",
        "engine/views.py",
        ("await watch.wait(min(timeout, HEAD_START))", "await watch.wait(timeout)"),
        tests=[f"{FIRST_LOOKS}::test_it_looks_when_nothing_comes"],
    ),
    mutant(
        "what an earlier life has set is forgotten",
        "only what a process has seen from its beginning is known to be unset",
        "engine/scribe.py",
        ("{} if position == 0 else None", "{}"),
        tests=[f"{FIRST_LOOKS}::test_it_looks_at_once_for_what_may_have_been_set_in_an_earlier_life"],
    ),
    mutant(
        "registered after the start",
        "whoever waits is registered before its workflow can publish anything",
        "engine/commands.py",
        ("        if named is not None:\n            named(id)\n", ""),
        (
            "            if created is not None:\n                return",
            "            if created is not None:\n                (named or bool)(id)\n                return",
        ),
        tests=["tests/guarantees/test_told_commits.py::test_who_waits_is_registered_before_anything_is_committed"],
    ),
    mutant(
        "one look for each key",
        "several keys are read as of one moment",
        "engine/lookup.py",
        (
            "            found = await self._glances.ask((id, keys))\n",
            (
                "            asked = [await self._glances.ask((id, (key,))) for key in keys]\n"
                "            found = [one for some in asked for one in some or []]\n"
            ),
        ),
        tests=["tests/guarantees/test_waiting_reads.py::test_keys_that_are_set_together_are_read_together"],
    ),
]
