"""Game sessions: a move applies only to the position it was made for, however many players hurry."""

import os

import anyio

from rstmdb_client import AsyncClient, Conflict, InvalidTransition

GAME = {
    "states": ["lobby", "player_x", "player_o", "over"],
    "initial": "lobby",
    "transitions": [
        {"from": "lobby", "event": "START", "to": "player_x"},
        {"from": "player_x", "event": "MOVE_X", "to": "player_o"},
        {"from": "player_o", "event": "MOVE_O", "to": "player_x"},
        {"from": ["player_x", "player_o"], "event": "END", "to": "over"},
    ],
}


async def play(client: AsyncClient, game: str, me: str, fields: list[int]) -> int:
    """Take fields in turn until one's own list is used up; return how often one came too late."""
    late = 0
    async with client.watch_instance(game) as turns:
        for wanted in fields:
            while True:
                seen = await client.get_instance(game)
                if seen.state != f"player_{me}":
                    await turns.next(timeout=10)
                    continue
                board = {**seen.ctx, f"field_{wanted}": me}
                try:
                    await client.apply_event(
                        game, f"MOVE_{me.upper()}", payload=board, expected_wal_offset=seen.last_wal_offset
                    )
                except (Conflict, InvalidTransition):
                    late += 1  # somebody else moved meanwhile: look again
                    continue
                break
    return late


async def main(url: str | None = None) -> dict[str, str]:
    """Let two players, one of them at two screens, play a game; return the board."""
    async with AsyncClient(url) as client:
        await client.put_machine("game", 1, GAME)
        game = (await client.create_instance("game", 1)).instance_id
        await client.apply_event(game, "START")
        async with anyio.create_task_group() as players:
            players.start_soon(play, client, game, "x", [0, 4])
            players.start_soon(play, client, game, "x", [8])
            players.start_soon(play, client, game, "o", [1, 2, 3])
        await client.apply_event(game, "END")
        board: dict[str, str] = (await client.get_instance(game)).ctx
        print(board)
        return board


if __name__ == "__main__":
    anyio.run(main, os.environ.get("RSTMDB_URL"))
