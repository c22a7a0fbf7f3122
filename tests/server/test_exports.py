"""Exports cost those who speak nothing: few at a time, once for all who ask, and not for who never reads."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from scripted_pass import ScriptedPass, found
from serving import serving
from standing import standing
from talking import call, eventually

from live_asr.server.exports import AT_ONCE, CACHE_BYTES, MAX_AT_WORK, MAX_OF_AN_ADDRESS, Exports

SESSION = "a" * 24
PATH = f"/v1/sessions/{SESSION}/transcript.txt"


async def test_beyond_its_bound_it_is_503_and_disk_and_others_do_not_wait_for_exports(tmp_path: Path) -> None:
    async with standing(tmp_path) as server:
        await server.keep_session(SESSION)
        exports, may_end = server.state.exports, threading.Event()
        busy = [asyncio.create_task(exports.call(may_end.wait)) for _ in range(AT_ONCE)]
        waiting = [asyncio.create_task(server.http.get(PATH)) for _ in range(3)]
        try:
            assert await server.state.registry.has_disk()
            assert (await server.http.get("/readyz")).json() == {"status": "loading models"}
            assert (await server.http.get("/v1/sessions")).status_code == 200
            with ExitStack() as places:
                while exports.count < MAX_AT_WORK:
                    places.enter_context(exports.place(f"203.0.113.{exports.count}"))
                answer = await server.http.get(PATH)
                assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        finally:
            may_end.set()
            await asyncio.gather(*busy)
        assert [(await one).status_code for one in waiting] == [200] * 3


def test_one_address_leaves_places_to_others() -> None:
    exports = Exports()
    with ExitStack() as places:
        for _ in range(MAX_OF_AN_ADDRESS):
            places.enter_context(exports.place("203.0.113.9"))
        with pytest.raises(Exception, match="transcripts are being sent already"):
            places.enter_context(exports.place("203.0.113.9"))
        places.enter_context(exports.place("203.0.113.10"))
    with exports.place("203.0.113.9"):
        pass  # all were given back
    exports.close()


async def test_what_many_ask_for_at_once_is_made_once_and_no_more_is_held_than_may_be() -> None:
    exports, made = Exports(), list[str]()

    async def make(name: str, size: int = 10) -> bytes:
        made.append(name)
        await asyncio.sleep(0)
        return bytes(size)

    key = (SESSION, "json", "1-0")
    bodies = await asyncio.gather(*(exports.made(key, lambda: make("one")) for _ in range(60)))
    assert len({id(body) for body in bodies}) == 1 and made == ["one"]
    await exports.made((SESSION, "json", "1-1"), lambda: make("another"))
    await exports.made(("b", "json", "1-0"), lambda: make("large", CACHE_BYTES - 5))
    await exports.made(key, lambda: make("again"))
    assert made == ["one", "another", "large", "again"]
    exports.forget("b")
    await exports.made(("b", "json", "1-0"), lambda: make("erased"))
    await exports.made(None, lambda: make("live"))
    await exports.made(None, lambda: make("live"))
    assert made[4:] == ["erased", "live", "live"]
    exports.close()


async def test_who_has_it_already_is_told_so_until_it_changes(
    tmp_path: Path, models_dir: Path, sample_pcm: bytes
) -> None:
    async with serving(tmp_path, models_dir, ScriptedPass(found())) as served:
        async with call(served.stream) as caller:
            session = (await caller.start(pace="fast"))["session"]
            path = f"/v1/sessions/{session}/transcript.vtt"
            await caller.send(sample_pcm[14 * 32_000 : 17 * 32_000])
            await caller.until("commit")
            live = await served.http.get(path)
            again = await served.http.get(path, headers={"If-None-Match": live.headers["etag"]})
            assert again.status_code == 200, "it goes on"
            await caller.finished()
        first = await served.http.get(path)
        same = {"If-None-Match": f'W/"x", {first.headers["etag"]}'}
        answer = await served.http.get(path, headers=same)
        assert (answer.status_code, answer.content) == (304, b"")
        named = await served.http.put(f"/v1/sessions/{session}/names", json={"S1": "Ann"}, headers=caller.key)
        assert named.status_code == 200
        answer = await served.http.get(path, headers=same)
        assert answer.status_code == 200 and answer.headers["etag"] != first.headers["etag"]
        tag = {"If-Match": answer.headers["etag"]} | caller.key
        edits = {"edits": [{"segment": 0, "text": "Something else."}]}
        corrected = await served.http.post(f"/v1/sessions/{session}/corrections", json=edits, headers=tag)
        assert corrected.status_code == 200, "the names are no part of what is corrected"
        assert "Something else." in (await served.http.get(path, headers=same)).text


async def test_who_never_reads_is_let_go_and_holds_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_asr.server.exports.SEND_TIMEOUT", 0.5)
    async with standing(tmp_path) as server:
        await server.keep_session(SESSION)
        exports = server.state.exports

        async def large(*_: object) -> bytes:
            return bytes(30_000_000)

        monkeypatch.setattr(exports, "made", large)
        host, port = "127.0.0.1", int(server.url.rpartition(":")[2])
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.to_thread(stuck.connect, (host, port))
            stuck.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await asyncio.to_thread(stuck.recv, 1)  # it has begun
            await eventually(lambda: not exports.count)
