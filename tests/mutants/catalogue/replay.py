"""How a workflow comes back from its records."""

from tests.mutants.mutant import mutant

REPLAY = "tests/engine/test_replay.py"

MUTANTS = [
    mutant(
        "results by the order of the calls",
        "results are given back in the order of their completion",
        "engine/replay.py",
        (
            "sorted(records.steps, key=lambda step: step.done)",
            "sorted(records.steps, key=lambda step: step.seq)",
        ),
        tests=[f"{REPLAY}::test_a_race_has_the_same_winner_in_replay"],
    ),
    mutant(
        "names are not compared",
        "code that calls another step than it recorded fails",
        "engine/replay.py",
        ("        if (record.kind, record.name) != (kind, name):\n", "        if record.kind != kind:\n"),
        tests=[f"{REPLAY}::test_a_step_with_another_name_fails_and_names_both"],
    ),
    mutant(
        "arguments are not compared",
        "code that calls a step with other arguments than it recorded fails",
        "engine/replay.py",
        ("        if record.digest != digest:\n", "        if record.digest is None:\n"),
        tests=[f"{REPLAY}::test_a_step_with_other_arguments_fails_and_is_named"],
    ),
    mutant(
        "a call that is not made is passed over",
        "code that leaves out what it recorded fails",
        "engine/run.py",
        (
            "                self._miss(record)\n                return True\n",
            "                return True\n",
        ),
        tests=[f"{REPLAY}::test_a_call_that_is_not_made_any_more_fails_and_is_named"],
    ),
    mutant(
        "a step begins in replay",
        "nothing is begun before all that was recorded is given back",
        "engine/run.py",
        (
            "            elif self._give():\n                given += 1\n",
            "            elif not self._begin_calls() and self._give():\n                given += 1\n",
        ),
        tests=[
            (
                "tests/engine/test_endings.py"
                "::test_a_cancelled_workflow_goes_on_from_its_last_record_when_it_is_resumed[forgetful]"
            )
        ],
    ),
    mutant(
        "events are set again in replay",
        "what was published is not published again",
        "engine/run.py",
        ("        if not self.history.published(key):\n", "        if self.history.published(key) is not None:\n"),
        tests=[f"{REPLAY}::test_a_task_group_comes_out_as_it_went_in"],
    ),
    mutant(
        "positions begin anew",
        "the positions of a workflow's events are counted without a gap over all its lives",
        "engine/run.py",
        ("            position=history.position,\n", "            position=0,\n"),
        tests=[f"{REPLAY}::test_a_task_group_comes_out_as_it_went_in"],
    ),
    mutant(
        "randomness of its own in each life",
        "time, randomness and ids are the same in replay",
        "engine/run.py",
        ('random.Random(f"{self.id} {self.token}")', "random.Random()"),
        tests=[f"{REPLAY}::test_time_randomness_and_ids_are_the_same_in_replay"],
    ),
    mutant(
        "code that is unwound goes on",
        "code that leaves memory makes no durable call",
        "engine/run.py",
        (
            "            await self._raise_again(self._reason)\n        self.check_caller()\n",
            "            pass\n        self.check_caller()\n",
        ),
        tests=["tests/engine/test_unwinding.py::test_finally_runs_at_a_suspension_and_its_durable_calls_do_nothing"],
    ),
    mutant(
        "the newest code for all",
        "a workflow of an old version is recovered with its own code",
        "engine/executor.py",
        (
            "            definition = self._registry.get(owned.name, owned.version)\n",
            "            definition = self._registry.newest(owned.name)\n",
        ),
        tests=["tests/engine/test_endings.py::test_a_workflow_of_an_old_version_is_recovered_with_its_own_code"],
    ),
]
