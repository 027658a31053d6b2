"""Streams of numbered bytes through `wayhome connect`, for a test that restarts the gateway.

`streams.py serve PORT`: sends back what it is sent, and ends when that ends.

`streams.py hold COUNT COMMAND...`: holds so many streams at once. Says "open" when bytes have come back
on each of them, and goes on until its standard input ends. Then each is ended properly, and what came
back must be what was sent, to its end: it says how many bytes that were.

`streams.py knock COMMAND...`: opens one stream after the other, a word on each, until its standard
input ends. Says how many, and how long the longest took; one that fails is the end of it.

`streams.py call PORT`: sends its standard input there, and says what comes back.
"""

import asyncio
import hashlib
import socket
import struct
import sys
import time

# What may be on its way in one stream.
WINDOW = 1 << 20


async def serve(port):
    async def answer(reader, writer):
        try:
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
            writer.close()
        except ConnectionError:
            pass

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


async def start(command):
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)


async def hold_one(number, command, opened, over):
    process = await start(command)
    sent, came = hashlib.sha256(), hashlib.sha256()
    counts = [0, 0]
    room, gone = asyncio.Event(), asyncio.Event()

    async def write():
        # Some as fast as they can, so that there is always something on its way; most at their ease.
        pause = 0 if number % 10 == 0 else 0.05
        while not over.is_set() and not gone.is_set():
            first = counts[0] // 8
            block = struct.pack(">2048Q", *range(first, first + 2048))
            sent.update(block)
            counts[0] += len(block)
            process.stdin.write(block)
            await process.stdin.drain()
            await asyncio.sleep(pause)
            while counts[0] - counts[1] > WINDOW and not gone.is_set():
                room.clear()
                await room.wait()
        process.stdin.write_eof()

    async def read():
        while block := await process.stdout.read(1 << 16):
            came.update(block)
            counts[1] += len(block)
            opened.set()
            room.set()
        gone.set()
        room.set()

    await asyncio.gather(write(), read())
    code = await process.wait()
    assert code == 0, f"stream {number} ended with {code} after {counts} bytes"
    assert counts[0] == counts[1], f"stream {number}: {counts}"
    assert sent.digest() == came.digest(), f"stream {number}: other bytes"
    return counts[0]


async def until_end_of_input(over):
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    over.set()


async def hold(count, command):
    over = asyncio.Event()
    opened = [asyncio.Event() for _ in range(count)]
    ending = asyncio.create_task(until_end_of_input(over))
    streams = asyncio.gather(*(hold_one(n, command, opened[n], over) for n in range(count)))

    async def say():
        for event in opened:
            await event.wait()
        print("open", flush=True)

    _, total = await asyncio.gather(say(), streams)
    await ending
    print(sum(total), flush=True)


async def knock(command):
    over = asyncio.Event()
    ending = asyncio.create_task(until_end_of_input(over))
    count, longest = 0, 0.0
    while not over.is_set():
        began = time.monotonic()
        process = await start(command)
        out, _ = await asyncio.wait_for(process.communicate(b"here"), 20)
        took = time.monotonic() - began
        assert (process.returncode, out) == (0, b"here"), f"{count}: {process.returncode} {out!r}"
        count, longest = count + 1, max(longest, took)
        if count == 1:
            print("open", flush=True)
        await asyncio.sleep(0.02)
    await ending
    print(f"{count} {longest:.3f}", flush=True)


def call(port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sys.stdin.buffer.read())
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(1 << 16):
            sys.stdout.buffer.write(chunk)


match sys.argv[1:]:
    case ["call", port]:
        call(int(port))
    case ["serve", port]:
        asyncio.run(serve(int(port)))
    case ["hold", count, *command]:
        asyncio.run(hold(int(count), command))
    case ["knock", *command]:
        asyncio.run(knock(command))
