"""Who may write for a workflow."""

from tests.mutants.mutant import mutant

FENCE = "tests/store/test_fence.py"
CROSSINGS = "tests/store/test_crossings.py"
RAISED = "    generation = w.generation + 1,\n"
OWNED = (
    "w.executor_id = %(executor)s\n"
    "               and w.generation = d.generation\n"
    "               and (w.status = 'RUNNING' or w.status = d.fin)"
)

MUTANTS = [
    mutant(
        "no fence",
        "a flush asks whether its workflows are still this executor's",
        "store/journal.sql",
        (OWNED, "true"),
        tests=[f"{FENCE}::test_one_fenced_workflow_does_not_keep_the_others_of_its_flush_from_being_written"],
    ),
    mutant(
        "owner not in the fence",
        "a flush asks for the executor",
        "store/journal.sql",
        (OWNED, OWNED.replace("w.executor_id = %(executor)s", "true")),
        tests=[f"{FENCE}::test_one_fenced_workflow_does_not_keep_the_others_of_its_flush_from_being_written"],
    ),
    mutant(
        "generation not in the fence",
        "a flush asks for the generation",
        "store/journal.sql",
        ("               and w.generation = d.generation\n", ""),
        tests=[f"{FENCE}::test_a_flush_that_comes_after_a_rival_writes_nothing[claimed again by this executor-None]"],
    ),
    mutant(
        "status not in the fence",
        "nothing is written after a cancel",
        "store/journal.sql",
        ("               and (w.status = 'RUNNING' or w.status = d.fin),", ","),
        tests=[f"{FENCE}::test_a_flush_that_comes_after_a_rival_writes_nothing[cancelled-None]"],
    ),
    mutant(
        "fence without a lock",
        "what the fence read still holds when it is written",
        "store/journal.sql",
        ("    order by w.id\n    for no key update of w {skip}\n", ""),
        tests=[f"{FENCE}::test_the_fast_lane_leaves_a_held_row_alone[cancelled]"],
    ),
    mutant(
        "lock that nobody reads",
        "every row of a flush is locked, also where nothing is written below it",
        "store/journal.sql",
        ("from locked l\n\n-- name: births", "from locked l where l.mine\n\n-- name: births"),
        tests=[f"{FENCE}::test_one_fenced_workflow_does_not_keep_the_others_of_its_flush_from_being_written"],
    ),
    mutant(
        "finish without a fence",
        "only its owner ends a workflow",
        "store/journal.sql",
        ("      and l.mine\n      and (l.fertile", "      and (l.fertile"),
        tests=[f"{FENCE}::test_a_flush_that_comes_after_a_rival_writes_nothing[taken over-SUCCEEDED]"],
    ),
    mutant(
        "child without a fence",
        "a child is born only while its parent is this executor's",
        "store/journal.py",
        ('_code("fence") if entries else "false"', '"true"'),
        tests=[f"{FENCE}::test_one_fenced_workflow_does_not_keep_the_others_of_its_flush_from_being_written"],
    ),
    mutant(
        "transaction without a fence",
        "a transaction records nothing for a workflow that was lost",
        "store/steps.sql",
        (
            "      and generation = %(generation)s\n      and status = 'RUNNING'\n    for no key update",
            "    for no key update",
        ),
        tests=[f"{FENCE}::test_the_step_of_a_transaction_is_not_recorded_once_its_workflow_is_lost[cancelled]"],
    ),
    mutant(
        "generation not raised at a take-over",
        "an executor that was declared dead and comes back is told apart from its heir",
        "store/workflows.sql",
        (RAISED + "    attempts", "    attempts"),
        tests=[f"{CROSSINGS}::test_a_take_over_reads_what_the_old_owner_committed_last"],
    ),
    mutant(
        "generation not raised at a claim",
        "what was parked and claimed again is told apart from what it was",
        "store/workflows.sql",
        (RAISED + "    started_at", "    started_at"),
        tests=["tests/store/test_resend.py::test_a_park_that_is_sent_again_after_the_wake_is_refused"],
    ),
    mutant(
        "generation not raised at an adoption",
        "what an executor takes over from itself is told apart from what it had",
        "store/workflows.sql",
        ("set generation = w.generation + 1\nfrom orphan", "set generation = w.generation\nfrom orphan"),
        tests=["tests/engine/test_traps_resend.py::test_a_claim_whose_answer_was_lost_is_adopted"],
    ),
    mutant(
        "no adoption",
        "what is ours by the table and in nobody's memory goes on",
        "engine/recovery.py",
        ("        if orphans:\n", "        if orphans and not unknown:\n"),
        tests=["tests/engine/test_traps_resend.py::test_a_claim_whose_answer_was_lost_is_adopted"],
    ),
    mutant(
        "taken over while it is held",
        "a take-over passes by what its old owner is just about to commit",
        "store/workflows.sql",
        (
            ("    limit %(limit)s\n    for no key update of w skip locked\n)\nupdate workflows w\nset executor_id"),
            "    limit %(limit)s\n)\nupdate workflows w\nset executor_id",
        ),
        tests=[f"{CROSSINGS}::test_a_take_over_reads_what_the_old_owner_committed_last"],
    ),
]
