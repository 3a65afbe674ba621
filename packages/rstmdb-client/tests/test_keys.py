import os
import threading

from rstmdb_client.keys import AUTO, new_key


def test_keys_never_repeat_across_threads() -> None:
    keys: list[str] = []

    def draw() -> None:
        keys.extend([new_key() for _ in range(2000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 8000
    assert all(len(key) < 64 for key in keys)
    assert repr(AUTO) == "AUTO"


def test_a_forked_child_draws_its_own() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, new_key().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert theirs.split("-")[0] != new_key().split("-")[0]
