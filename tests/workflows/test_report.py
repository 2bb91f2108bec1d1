from app import testing
from app.workflows.report import ReportRequest, report


async def test_sections_are_published_as_they_come():
    outcome = await testing.run(report, ReportRequest(upto=100, sections=4, pace=0))

    assert outcome.output.primes == 25
    assert [section.primes for section in outcome.output.sections] == [9, 6, 6, 4]
    assert outcome.log("progress") == [0, 25, 50, 75, 100]
    assert outcome.log("section") == [section.model_dump() for section in outcome.output.sections]
    assert outcome.log("section")[-1] == {"number": 4, "first": 75, "last": 99, "primes": 4, "largest": 97}


async def test_a_section_without_a_prime_has_no_largest_one():
    outcome = await testing.run(report, {"upto": 10, "sections": 10, "pace": 0})

    assert outcome.output.primes == 4
    assert outcome.output.sections[0].largest is None
    assert outcome.output.sections[9].largest is None
