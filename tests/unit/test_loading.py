import pytest

from app import AuthoringError
from app.authoring.loading import load


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_are_imported_in_their_order(folder):
    (folder / "orders_one.py").write_text("names = ['one']")
    (folder / "orders_two.py").write_text("import orders_one\norders_one.names.append('two')")

    load(["orders_one", "orders_two"])

    import orders_one  # type: ignore[import-not-found]

    assert orders_one.names == ["one", "two"]


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.module", "app.no_such_module"])
def test_a_module_that_is_not_there_is_told_by_its_name(name):
    with pytest.raises(AuthoringError, match=f"There is no module {name!r}.*PYTHONPATH"):
        load([name])


def test_a_module_that_can_not_be_imported_is_told_with_the_cause_and_its_place(folder):
    (folder / "orders_bad.py").write_text("\nraise ValueError('no price list')")

    with pytest.raises(AuthoringError, match=r"'orders_bad' can't be loaded: ValueError: no price list \(line 2 of"):
        load(["orders_bad"])


def test_a_module_that_misses_another_is_not_taken_for_missing(folder):
    (folder / "orders_lacking.py").write_text("import no_such_library")

    with pytest.raises(AuthoringError, match=r"'orders_lacking' can't be loaded: .*no_such_library"):
        load(["orders_lacking"])


def test_a_workflow_that_is_written_wrongly_is_told_with_its_author_s_line(folder):
    (folder / "orders_plain.py").write_text("from app import workflow\n\n@workflow\ndef f(ctx): ...\n")

    with pytest.raises(AuthoringError, match=r"is not an async function.*\(line [34] of .*orders_plain.py\)"):
        load(["orders_plain"])


def test_a_module_that_is_no_python_is_told_with_its_own_line(folder):
    (folder / "orders_garbled.py").write_text("price = 1\ndef sell(:\n")

    with pytest.raises(AuthoringError, match=r"SyntaxError: .*\(line 2 of .*orders_garbled.py\)"):
        load(["orders_garbled"])
