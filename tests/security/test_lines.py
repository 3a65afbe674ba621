"""JSON lines by hand: what the documents promise of `nc` and a pasted line, as a golden conversation."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server_process import ServerProcess

CONVERSATION = r"""
> {"type":"request","id":"1","op":"HELLO","params":{"protocol_version":1,"wire_modes":["jsonl"]}}
< {"type":"response","id":"1","status":"ok","result":{"protocol_version":1,"wire_mode":"jsonl","server_name":"rstmdb","server_version":"*","features":[]}}
> {"type":"request","id":"2","op":"PING"}
< {"type":"response","id":"2","status":"ok","result":{"pong":true}}
>   {"type": "request", "id": "3", "op": "PUT_MACHINE", "params": {"machine": "door", "version": 1, "definition": {"states": ["open", "shut"], "initial": "open", "transitions": [{"from": "open", "event": "SHUT", "to": "shut"}]}}}
< {"type":"response","id":"3","status":"ok","result":{"machine":"door","version":1,"stored_checksum":"*","created":true}}
>
> {"type":"request","id":"4","op":"CREATE_INSTANCE","params":{"machine":"door","version":1,"instance_id":"front"}}
< {"type":"response","id":"4","status":"ok","result":{"instance_id":"front","state":"open","wal_offset":2}}
> {"type":"request","id":"5","op":"WATCH_INSTANCE","params":{"instance_id":"front"}}
< {"type":"response","id":"5","status":"ok","result":{"subscription_id":"sub-*","instance_id":"front","current_state":"open","current_wal_offset":2}}
> {"type":"request","id":"6","op":"APPLY_EVENT","params":{"instance_id":"front","event":"SHUT","payload":{"by":"me"}}}
< {"type":"response","id":"6","status":"ok","result":{"applied":true,"from_state":"open","to_state":"shut","wal_offset":3,"ctx":{"by":"me"}}}
< {"type":"event","subscription_id":"sub-*","instance_id":"front","machine":"door","version":1,"wal_offset":3,"from_state":"open","to_state":"shut","event":"SHUT","payload":{"by":"me"},"ctx":{"by":"me"}}
> {"type":"request","id":"7","op":"SHUT_DOWN"}
< {"type":"response","id":"7","status":"error","error":{"code":"BAD_REQUEST","message":"unknown operation 'SHUT_DOWN'","retryable":false}}
> {"type":"request","id":"8","op":"BYE"}
< {"type":"response","id":"8","status":"ok","result":{"goodbye":true}}
"""  # noqa: E501


@pytest.mark.skipif(shutil.which("nc") is None, reason="no nc here")
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_conversation_with_nc(tmp_path: Path, ending: str) -> None:
    with (
        ServerProcess(tmp_path / "data") as server,
        subprocess.Popen(
            ["nc", "127.0.0.1", str(server.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as nc,
    ):
        assert nc.stdin is not None
        assert nc.stdout is not None
        for line in CONVERSATION.splitlines():
            if line.startswith(">"):
                nc.stdin.write((line[2:] + ending).encode())
                nc.stdin.flush()
            elif line.startswith("<"):
                said = nc.stdout.readline().decode()
                assert re.fullmatch(re.escape(line[2:]).replace(r"\*", '[^"]*') + "\n", said), said
        nc.stdin.close()
        assert nc.stdout.read() == b""


@pytest.mark.skipif(shutil.which("nc") is None, reason="no nc here")
def test_one_line_without_a_bye(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data") as server:
        said = subprocess.run(
            f'printf \'%s\\n\' \'{{"type":"request","id":"1","op":"INFO"}}\' | nc -N 127.0.0.1 {server.port}',
            shell=True,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert '"server_name":"rstmdb"' in said.stdout
