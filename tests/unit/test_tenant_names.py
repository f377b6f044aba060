"""Topics become names of databases as in the replaced system, but never two topics one name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from flowmaps.errors import ConfigurationError
from flowmaps.tenants.names import MAX_NAME_BYTES, database_name, database_names, new_password, new_role_name
from flowmaps.tenants.sealing import Sealer


@pytest.mark.parametrize("topic", ["foo.bar", "foo-bar", "foo bar", "foo$bar", "foo_bar", "FOO.bar"])
def test_other_characters_become_underscores(topic: str) -> None:
    assert database_name(topic) == "afm_foo_bar"


def test_upper_case_becomes_lower() -> None:
    assert database_name("FOO") == "afm_foo"


@pytest.mark.parametrize("topic", ["a" * 60, "x" * 300, "é" * 60, 'a"b; drop table x' * 9])
def test_a_long_topic_gets_a_hash_and_no_plain_name(topic: str) -> None:
    names = database_names(topic)
    assert all(len(name) == MAX_NAME_BYTES for name in names)
    assert len({name[:20] for name in names}) == 1


def test_colliding_topics_differ_in_their_second_choice() -> None:
    assert database_names("foo.bar")[0] == database_names("foo-bar")[0]
    assert not set(database_names("foo.bar")[1:]) & set(database_names("foo-bar")[1:])


def test_long_topics_that_begin_alike_get_different_names() -> None:
    assert not set(database_names("a" * 80 + "b")) & set(database_names("a" * 80 + "c"))


@given(st.text())
def test_every_name_is_one_that_postgresql_takes_unchanged(topic: str) -> None:
    for name in database_names(topic):
        assert name.isascii()
        assert name == name.lower()
        assert len(name) <= MAX_NAME_BYTES
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


def test_role_names_and_passwords_are_never_the_same_twice() -> None:
    assert len({new_role_name("reader") for _ in range(100)}) == 100
    assert len({new_password() for _ in range(100)}) == 100
    assert len(new_role_name("reader")) <= MAX_NAME_BYTES


KEY, OTHER = SecretStr("a key of some length"), SecretStr("another key of length")


def test_a_sealed_password_opens_again() -> None:
    assert Sealer(KEY).open(Sealer(KEY).seal("pässword", "tenant 1"), "tenant 1") == "pässword"


def test_the_previous_key_still_opens() -> None:
    assert Sealer(OTHER, KEY).open(Sealer(KEY).seal("p", "tenant 1"), "tenant 1") == "p"


def test_a_sealed_password_shows_nothing_and_differs_each_time() -> None:
    first, second = (Sealer(KEY).seal("password", "c") for _ in range(2))
    assert first != second
    assert b"password" not in first


def test_another_key_does_not_open() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Sealer(OTHER).open(Sealer(KEY).seal("p", "tenant 1"), "tenant 1")
    assert "FLOWMAPS_SECRET_KEY" in caught.value.names


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, 0), slice(1, None), slice(0, 13)])
def test_damaged_bytes_do_not_open(cut: slice) -> None:
    with pytest.raises(ConfigurationError):
        Sealer(KEY).open(Sealer(KEY).seal("p", "tenant 1")[cut], "tenant 1")


def test_a_password_of_another_row_does_not_open() -> None:
    with pytest.raises(ConfigurationError):
        Sealer(KEY).open(Sealer(KEY).seal("p", "tenant 1"), "tenant 2")
