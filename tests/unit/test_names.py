import pytest

from app import names


@pytest.mark.parametrize("id", ["order-42", "a", "A.b_c~d:e-f", "x" * 128, "...", "a::b"])
def test_workflow_ids_are_of_url_safe_characters(id):
    names.check_workflow_id(id)


@pytest.mark.parametrize("id", ["", ".", "..", "a b", "a/b", "é", "a\n", "x" * 129, "schedule:nightly", "a%20b"])
def test_other_workflow_ids_are_refused(id):
    with pytest.raises(ValueError):
        names.check_workflow_id(id)


@pytest.mark.parametrize("key", ["payment_url", "a::b", "größe", "🚚", "a b", "$internal", "x" * 200, "...", "%2F"])
def test_keys_may_hold_any_character_that_is_fit_for_a_path(key):
    names.check_key(key)


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "a\\b", "a\n", "\0", "\x7f", "\x85", "\ud800", "x" * 201])
def test_other_keys_are_refused(key):
    with pytest.raises(ValueError):
        names.check_key(key)


@pytest.mark.parametrize("name", ["checkout", "_x", "9", "a.b~c-d", "x" * 64])
def test_names_begin_with_a_letter_a_digit_or_an_underscore(name):
    names.check_name(name)


@pytest.mark.parametrize("name", ["", ".a", "-a", "~a", "a b", "a:b", "x" * 65, "a\n"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError):
        names.check_name(name)


@pytest.mark.parametrize("version", ["1", "0", "1.10", "2026.4.1"])
def test_versions_are_dotted_integers(version):
    names.check_version(version)


@pytest.mark.parametrize("version", ["", "v1", "1.", ".1", "01", "1.x", "-1", "1\n", "\u0661"])
def test_other_versions_are_refused(version):
    with pytest.raises(ValueError):
        names.check_version(version)
