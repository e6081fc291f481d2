from __future__ import annotations

import pytest

from quicstack.errors import ConfigurationError
from webtransport.routing import Router


def router(*paths: str) -> Router[str]:
    made: Router[str] = Router()
    for path in paths:
        made.add(path, path)
    return made


@pytest.mark.parametrize(
    ("path", "target", "parameters"),
    [
        ("/", "/", {}),
        ("/?room=1", "/", {}),
        ("/chat", "/chat", {}),
        ("/chat/lobby", "/chat/{room}", {"room": "lobby"}),
        ("/chat/a%20b?x", "/chat/{room}", {"room": "a b"}),
        ("/chat/new", "/chat/new", {}),
        ("/u/ann/f/1.txt", "/u/{user}/f/{name}.txt", {"user": "ann", "name": "1"}),
    ],
)
def test_matches(path: str, target: str, parameters: dict[str, str]) -> None:
    match = router("/", "/chat", "/chat/{room}", "/chat/new", "/u/{user}/f/{name}.txt").match(path)
    assert match is not None
    assert (match.target, match.parameters) == (target, parameters)


@pytest.mark.parametrize("path", ["", "/chat/", "/chat/a/b", "/Chat", "/nothing", "//", "*"])
def test_no_match(path: str) -> None:
    assert router("/", "/chat", "/chat/{room}").match(path) is None


@pytest.mark.parametrize("path", ["chat", "", "/{}", "/{a}/{a}", "/{a", "/a}", "/{1}", "/{a}/{"])
def test_bad_routes(path: str) -> None:
    with pytest.raises(ConfigurationError):
        router(path)


@pytest.mark.parametrize("path", ["/a", "/{a}"])
def test_a_route_is_added_once(path: str) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        router(path, path)
