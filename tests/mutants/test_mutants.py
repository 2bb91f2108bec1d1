"""A test of the tests: each mutant is the service with one promise broken, and some test has to say so.

A mutant that no test catches is a hole in the tests. One whose text is not in the source any more has to follow it.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.mutants import trial
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Stale
from tests.mutants.trial import Nurseries, Verdict
from tests.support.databases import Databases

pytestmark = [pytest.mark.direct, pytest.mark.hints]

TESTS = sorted({test for mutant in MUTANTS.values() for test in mutant.tests})
PARTS = 4
UNBROKEN = {f"part {n + 1} of {PARTS}": TESTS[n::PARTS] for n in range(PARTS)}
AT_ONCE = max(2, min(4, os.cpu_count() or 2))


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Verdict]]:
    """What becomes of a trial: of the whole service, or of a mutant. They run beside each other, a few at a time."""
    folder = tmp_path_factory.mktemp("mutants")
    nurseries = Nurseries(databases.url("postgres"))

    def attempt(name: str) -> Verdict:
        copied = trial.copy(folder / name.replace(" ", "-"))
        if name in UNBROKEN:
            return nurseries.run(copied, UNBROKEN[name])
        MUTANTS[name].apply(copied)
        return nurseries.run(copied, MUTANTS[name].tests)

    # Where several processes share the tests among them, each does one after the other.
    shared = hasattr(request.config, "workerinput")
    asked = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    with closing(nurseries), ThreadPoolExecutor(1 if shared else AT_ONCE) as threads:
        ahead = {name: threads.submit(attempt, name) for name in (*UNBROKEN, *MUTANTS) if name in asked and not shared}
        yield lambda name: ahead[name].result() if name in ahead else attempt(name)
        for trials in ahead.values():
            trials.cancel()


@pytest.mark.apart
@pytest.mark.parametrize("name", UNBROKEN)
def test_without_a_mutant_they_all_pass(verdicts: Callable[[str], Verdict], name: str) -> None:
    """So it is the mutant, and not the copy or the haste, that a test fails of."""
    verdict = verdicts(name)
    assert verdict.passed, verdict.text


@pytest.mark.apart
@pytest.mark.parametrize("name", MUTANTS)
def test_it_is_caught(verdicts: Callable[[str], Verdict], name: str) -> None:
    verdict = verdicts(name)
    assert verdict.failed, f"nothing noticed that this does not hold any more: {MUTANTS[name].breaks}\n\n{verdict.text}"


def test_every_mutant_changes_something_that_is_there(tmp_path: Path) -> None:
    """At once for all of them, and without running anything."""
    stale = []
    trial.copy(tmp_path)
    for mutant in MUTANTS.values():
        path = tmp_path / "app" / mutant.file
        text = path.read_text()
        try:
            mutant.apply(tmp_path)
        except Stale as error:
            stale.append(str(error))
        else:
            assert path.read_text() != text, mutant.name
            path.write_text(text)
    assert not stale, "\n\n".join(stale)
