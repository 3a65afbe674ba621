"""The resume file of a watch: every point at which a process can die."""

import os
from pathlib import Path

import pytest

from rstmdb_cli.failures import Failure
from rstmdb_cli.resume import WIDTH, ResumeFile


class Died(Exception):  # noqa: N818
    """The process was killed here."""


def write_events(
    directory: Path, events: list[int], *, die_at: int | None = None, torn: int = 0
) -> int | None:
    """Write events as a watch does; die before the step `die_at`, in the middle of a line if torn."""
    step = 0
    fd = os.open(directory / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    resume = ResumeFile(str(directory / "resume"), output_fd=fd)
    if resume.done is None:
        resume.begin_at(0)
    done = resume.done
    try:
        for event in events:
            if done is not None and event <= done:
                continue
            line = f"event {event}\n".encode()
            for action in (
                lambda event=event, line=line: resume.before(event, len(line)),
                lambda line=line: os.write(fd, line),
                lambda event=event: resume.after(event),
            ):
                if step == die_at:
                    if torn and step % 3 == 1:
                        os.write(fd, line[:torn])
                    raise Died
                action()
                step += 1
        resume.close()
    except Died:
        os.close(resume._fd)
    finally:
        os.close(fd)
    return done


@pytest.mark.parametrize("torn", [0, 1, 5])
@pytest.mark.parametrize("die_at", range(12))
def test_a_kill_at_any_step_loses_and_repeats_nothing_in_a_file(
    tmp_path: Path, die_at: int, torn: int
) -> None:
    events = [3, 4, 9, 10]
    write_events(tmp_path, events, die_at=die_at, torn=torn)
    write_events(tmp_path, events, die_at=4)
    write_events(tmp_path, events)
    assert (tmp_path / "out").read_text() == "".join(f"event {event}\n" for event in events)
    assert (tmp_path / "resume").stat().st_size == WIDTH


def test_a_pipe_remembers_what_has_left(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    resume = ResumeFile(str(tmp_path / "r"), output_fd=writing)
    assert (resume.done, resume.exact) == (None, False)
    resume.begin_at(7)
    resume.before(8, 10)
    os.close(resume._fd)
    again = ResumeFile(str(tmp_path / "r"), output_fd=writing)
    assert again.done == 7
    again.after(8)
    again.close()
    assert ResumeFile(str(tmp_path / "r"), output_fd=writing).done == 8
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"done":"1"}', '{"done":1,"pending":2}'])
def test_another_file_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r"
    path.write_text(text)
    with (tmp_path / "out").open("wb") as out, pytest.raises(Failure, match="not a resume file"):
        ResumeFile(str(path), output_fd=out.fileno())
    assert path.read_text() == text
