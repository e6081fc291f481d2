from __future__ import annotations


def test_smoke(both):
    client, server = both()
    assert client.settings_received == server.settings_received == 1
