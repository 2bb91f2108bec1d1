"""What is done to workflows from outside, and by each other."""

from tests.mutants.mutant import mutant

CROSSINGS = "tests/store/test_crossings.py"
TREES = "tests/engine/test_traps_trees.py"

MUTANTS = [
    mutant(
        "the input of a start is not compared",
        "a known id with another input is a conflict",
        "engine/commands.py",
        ("    if (workflow.name, hashed) != (name, digest):\n", "    if workflow.name != name:\n"),
        tests=["tests/engine/test_traps_resend.py::test_two_starts_of_one_id_in_one_flush_are_one"],
    ),
    mutant(
        "the payload of a message is not compared",
        "an idempotency key stands for one message, and another one is a conflict",
        "engine/mail.py",
        (
            "same = (before.message.topic, before.payload_hash) == (letter.topic, letter.digest)",
            "same = before.message.topic == letter.topic",
        ),
        tests=["tests/engine/test_traps_mail.py::test_a_key_that_was_used_for_another_message_is_a_conflict"],
    ),
    mutant(
        "an idempotency key is not looked for",
        "a message that is sent again is the same",
        "engine/mail.py",
        ("            before = earlier.get(key) if key else None\n", "            before = None\n"),
        tests=["tests/engine/test_traps_mail.py::test_a_key_that_was_used_for_another_message_is_a_conflict"],
    ),
    mutant(
        "each try of a send is another message",
        "a workflow's message is sent once, however often its process dies",
        "engine/commands.py",
        ('key = f"$step {run.id} {run.token} {seq}"', 'key = f"$step {uuid.uuid4()} {seq}"'),
        tests=[
            "tests/engine/test_exactly_once.py::test_a_message_is_sent_once_though_its_answer_is_lost_and_its_sender_dies"
        ],
    ),
    mutant(
        "a sender is not fenced",
        "nothing is sent for a workflow that goes on elsewhere",
        "engine/mail.py",
        ("            and (row.executor, row.generation) == (self._executor(), source.generation)\n", ""),
        tests=["tests/engine/test_traps_mail.py::test_nothing_is_sent_for_a_workflow_that_goes_on_elsewhere"],
    ),
    mutant(
        "a callback is completed again",
        "a callback completes once",
        "engine/commands.py",
        ('key = f"$callback {hashed.hex()}"', 'key = f"$callback {uuid.uuid4()}"'),
        tests=["tests/engine/test_traps_mail.py::test_a_callback_is_completed_once"],
    ),
    mutant(
        "a message to what has ended",
        "an ended workflow accepts no message",
        "engine/mail.py",
        ("            elif target.status.terminal:\n", "            elif target.status is Status.FAILED:\n"),
        tests=["tests/engine/test_traps_mail.py::test_a_message_that_waits_for_the_end_is_not_accepted"],
    ),
    mutant(
        "a delete without a lock",
        "what is resumed is not deleted from under it",
        "store/workflows.sql",
        ("    order by id\n    for update\n), step as (", "), step as ("),
        tests=[f"{CROSSINGS}::test_a_deletion_that_comes_after_a_resume_removes_nothing"],
    ),
    mutant(
        "a delete that does not look again",
        "whether a workflow is active is asked after the lock",
        "store/workflows.sql",
        (
            "order by id\nfor no key update\n\n-- name: resume",
            "order by id\n\n-- name: resume",
        ),
        tests=["tests/engine/test_traps_executors.py::test_a_deletion_that_waited_for_the_end_deletes"],
    ),
    mutant(
        "a tree cancelled as it was seen",
        "a cancel reaches the child that was being started",
        "engine/commands.py",
        (
            '                await around("cancel.lock", workflows.lock_tree(connection, id))\n',
            "                below = await workflows.children(connection, [id])\n",
        ),
        ('                below = await around("cancel.children", workflows.children(connection, level))\n', ""),
        tests=[f"{TREES}::test_a_cancel_reaches_the_child_that_was_being_started"],
    ),
    mutant(
        "a cancel reaches no child",
        "children are cancelled with their parent",
        "engine/commands.py",
        ("            level = [parent.id for parent in found]\n", "            level = []\n"),
        tests=[f"{TREES}::test_a_cancel_reaches_the_child_that_was_being_started"],
    ),
    mutant(
        "a tree locked from its root down",
        "a cancel of a tree and letters to it do not deadlock",
        "engine/commands.py",
        (
            '                await around("cancel.lock", workflows.lock_tree(connection, id))\n',
            "                pass\n",
        ),
        tests=["tests/engine/test_traps_executors.py::test_a_cancel_of_a_tree_and_letters_to_it_do_not_deadlock"],
    ),
    mutant(
        "a stranger is adopted as a child",
        "a child's id that belongs to a stranger is a conflict",
        "engine/commands.py",
        (
            "            if (child.parent_id, child.name, hashed) == (run.id, definition.name, digest):\n",
            "            if True:\n",
        ),
        tests=["tests/engine/test_exactly_once.py::test_a_child_whose_id_belongs_to_a_stranger_is_not_adopted"],
    ),
    mutant(
        "a deleted rival is not found",
        "a start whose rival was deleted meanwhile tries again",
        "engine/commands.py",
        (
            (
                "            # The id was taken. If it is free again by now, it is this start's after all.\n"
                "            known = await self._lookup.find(id)\n"
                "            if known is not None:\n"
                "                return _known(known, start.name, digest)\n"
            ),
            (
                "            known = await self._lookup.find(id)\n"
                "            if known is None:\n"
                "                raise WorkflowNotFound\n"
                "            return _known(known, start.name, digest)\n"
            ),
        ),
        tests=[f"{TREES}::test_a_start_whose_rival_was_deleted_before_it_was_read_is_made_after_all"],
    ),
    mutant(
        "an end is undone by a cancel",
        "of a cancel and an end exactly one is true",
        "store/workflows.sql",
        (
            (
                "and w.generation = coalesce(t.generation, w.generation)\n"
                "    where w.status in ('QUEUED', 'RUNNING', 'WAITING')\n"
            ),
            "and w.generation = coalesce(t.generation, w.generation)\n",
        ),
        ("    where w.id = t.id and w.status in ('QUEUED', 'RUNNING', 'WAITING')\n", "    where w.id = t.id\n"),
        tests=["tests/guarantees/test_cancels.py::test_of_a_cancel_and_an_end_exactly_one_is_true"],
    ),
    mutant(
        "cleaned up in another commit",
        "what cleans up after a cancel is started by the same commit",
        "store/workflows.sql",
        ("    where abort_name is not null\n", "    where abort_name is null and abort_version is not null\n"),
        tests=[f"{CROSSINGS}::test_of_two_cancels_one_starts_the_clean_up"],
    ),
]
