"""A client's configuration with the name of its server filled in."""

import dataclasses

import pytest

from quicstack import Configuration
from quicstack.errors import ConfigurationError


def test_only_the_name_is_another() -> None:
    general = Configuration(alpn_protocols=("x",), max_idle_timeout=7.0)
    named = general.for_server("a.example")
    assert named == dataclasses.replace(general, server_name="a.example")
    assert named.tls_settings() == dataclasses.replace(general, server_name="a.example").tls_settings()
    assert general.server_name is None and general.tls_settings().server_name is None


def test_the_same_name_gives_the_same_configuration() -> None:
    general = Configuration(alpn_protocols=("x",))
    named = general.for_server("a.example")
    assert general.for_server("a.example") is named
    other = general.for_server("b.example")
    assert other.server_name == other.tls_settings().server_name == "b.example"
    assert general.for_server("a.example") == named
    assert dataclasses.replace(general, keep_alive=1.0).for_server("a.example").keep_alive == 1.0


def test_a_name_that_is_set_stays() -> None:
    fixed = Configuration(alpn_protocols=("x",), server_name="a.example")
    assert fixed.for_server("b.example") is fixed
    assert fixed.for_server("b.example").for_server("c.example").server_name == "a.example"


def test_a_name_that_is_none_is_refused() -> None:
    general = Configuration(alpn_protocols=("x",))
    with pytest.raises(ConfigurationError, match="is not a host name"):
        general.for_server("a b")
    assert general.for_server("a.example").server_name == "a.example"
