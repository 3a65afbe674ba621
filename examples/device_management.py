"""Device management: many devices over one connection, and a watch that raises alarms."""

import os

import anyio

from rstmdb_client import AsyncClient

DEVICE = {
    "states": ["registered", "online", "offline", "retired"],
    "initial": "registered",
    "transitions": [
        {"from": ["registered", "offline"], "event": "CONNECT", "to": "online"},
        {"from": "online", "event": "LOSE", "to": "offline"},
        {"from": ["registered", "online", "offline"], "event": "RETIRE", "to": "retired"},
    ],
}


async def main(url: str | None = None, devices: int = 1000) -> set[str]:
    """Register devices, lose every hundredth, and return whose alarms were raised."""
    alarms: set[str] = set()
    async with AsyncClient(url) as client:
        await client.put_machine("device", 1, DEVICE)

        async def register(number: int) -> None:
            device = f"device-{number}"
            await client.create_instance("device", 1, instance_id=device, ctx={"slot": number})
            await client.apply_event(device, "CONNECT")
            if number % 100 == 0:
                await client.apply_event(device, "LOSE", payload={"last_seen": "now"})

        # The watch begins before the devices do; its own connection keeps it out of the calls' way.
        async with client.watch_all(machines=["device"], to_states=["offline"]) as lost:
            async with anyio.create_task_group() as tasks:
                for number in range(devices):
                    tasks.start_soon(register, number)
            while len(alarms) < devices // 100:
                event = await lost.next(timeout=10)
                if event is not None:
                    alarms.add(event.instance_id)
        online = await client.list_instances(machine="device", state="online", limit=1)
        print(f"{online.total} online, alarms for {sorted(alarms)}")
    return alarms


if __name__ == "__main__":
    anyio.run(main, os.environ.get("RSTMDB_URL"))
