"""The README's code runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_embedded_use_takes_ten_lines_and_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    assert len(blocks[0].splitlines()) == 10
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    answers = capsys.readouterr().out.splitlines()
    assert answers[1] == '{"instance_id":"o-1","state":"new","wal_offset":2}'
    assert '"from_state":"new","to_state":"paid","wal_offset":3' in answers[2]


def test_the_restart_it_shows_leads_to_the_same_state():
    from rstmdb_core import State, apply, decode_record, digest

    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[0], names)
    state = State()
    for body in names["log"]:
        apply(state, decode_record(body))
    assert digest(state) == digest(names["state"])
