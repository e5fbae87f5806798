"""Load on ``gramma serve``: many clients, several schemas, and some who mean no good.

    python benchmarks/serving.py --clients 32 --schemas 8 --seconds 300
    python benchmarks/serving.py --clients 16 --schemas 8 --seconds 60 --hostile 8

It starts the server as a process of its own.  Each client asks again as soon as it is answered; half of the
answers are streamed.  Every answer is read by a JSON Schema validator.  With ``--hostile`` as many further
clients leave in the middle, send large and deep schemas and hard patterns, or read slowly; the figures are
those of the others, beside those of a run of the same length without them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from reporting import table

PATTERNS = (
    "(?=.*a.{14})(?=.*b.{15})(?=.*c.{16}).*",
    "(?!.*(a.{12}b|c.{13}d)).*x",
    "(" * 3_000,
)


def schema(number: int) -> dict[str, Any]:
    """One of the schemas: objects of different members, each with bounds."""
    kinds: tuple[dict[str, Any], ...] = (
        {"type": "integer", "minimum": 0, "maximum": 999},
        {"type": "string", "minLength": 1, "maxLength": 12},
        {"enum": ["red", "green", "blue"]},
        {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 3},
        {"type": "boolean"},
    )
    chosen = [kinds[(number + i) % len(kinds)] for i in range(3)]
    names = [f"{'abcdefgh'[number % 8]}{i}" for i in range(3)]
    return {
        "type": "object",
        "properties": dict(zip(names, chosen, strict=True)),
        "required": names,
        "additionalProperties": False,
    }


@dataclass
class Figures:
    """What the clients met."""

    seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    invalid: int = 0
    lost: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    hostile: Counter[str] = field(default_factory=Counter)

    def quantile(self, share: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass
class Load:
    """The clients of one run."""

    client: httpx.AsyncClient
    model: str
    schemas: int
    until: float
    figures: Figures = field(default_factory=Figures)

    def body(self, number: int, **more: Any) -> dict[str, Any]:
        form = {"name": "s", "schema": schema(number % self.schemas), "strict": True}
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": f"Write some JSON, number {number}."}],
            "response_format": {"type": "json_schema", "json_schema": form},
            "max_tokens": 80,
            **more,
        }

    async def ask(self, chance: random.Random) -> None:
        number = chance.randrange(1 << 20)
        stream = chance.random() < 0.5
        began = time.monotonic()
        try:
            text, tokens, status = await self._answer(number, stream)
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            print(f"lost: {error!r}", file=sys.stderr)
            self.figures.lost += 1
            return
        self.figures.statuses[status] += 1
        if status == 429:
            await asyncio.sleep(1)
        elif status != 200:
            self.figures.lost += 1
        else:
            self.figures.seconds.append(time.monotonic() - began)
            self.figures.tokens += tokens
            self.figures.invalid += not _is_valid(text, schema(number % self.schemas))

    async def _answer(self, number: int, stream: bool) -> tuple[str, int, int]:
        if not stream:
            found = await self.client.post("/chat/completions", json=self.body(number))
            if found.status_code != 200:
                return "", 0, found.status_code
            told = found.json()
            content = told["choices"][0]["message"]["content"]
            return content, told["usage"]["completion_tokens"], 200
        options = {"stream": True, "stream_options": {"include_usage": True}}
        text, tokens, ended = "", 0, False
        async with self.client.stream(
            "POST", "/chat/completions", json=self.body(number, **options)
        ) as found:
            async for line in found.aiter_lines():
                ended |= line == "data: [DONE]"
                if found.status_code == 200 and line.startswith("data: {"):
                    event = json.loads(line[6:])
                    for choice in event["choices"]:
                        text += choice["delta"].get("content") or ""
                    tokens += (event.get("usage") or {}).get("completion_tokens", 0)
        if found.status_code == 200 and not ended:
            raise ValueError("a stream without an end")
        return text, tokens, found.status_code

    async def honest(self, number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < self.until:
            await self.ask(chance)

    async def hostile(self, number: int) -> None:
        chance = random.Random(-1 - number)
        ways = (self._leaves, self._hard, self._large, self._deep, self._slow)
        while time.monotonic() < self.until:
            way = chance.choice(ways)
            try:
                self.figures.hostile[f"{way.__name__[1:]} {await way(chance)}"] += 1
            except httpx.HTTPError as error:
                self.figures.hostile[f"{way.__name__[1:]} {type(error).__name__}"] += 1

    async def _leaves(self, chance: random.Random) -> str:
        body = self.body(chance.randrange(99), stream=True)
        async with self.client.stream("POST", "/chat/completions", json=body) as found:
            async for _ in found.aiter_lines():
                if chance.random() < 0.2:
                    break
        return str(found.status_code)

    async def _posted(self, form: dict[str, Any]) -> str:
        body = self.body(0) | {"response_format": None, "structured_outputs": form}
        found = await self.client.post("/chat/completions", json=body)
        return str(found.status_code)

    async def _hard(self, chance: random.Random) -> str:
        pattern = f"{chance.randrange(1 << 30)}" + chance.choice(PATTERNS)
        return await self._posted({"regex": pattern})

    async def _large(self, chance: random.Random) -> str:
        names = [
            f"p{chance.randrange(1 << 30)}" for _ in range(chance.choice((500, 3_000, 20_000)))
        ]
        properties = {name: {"type": "string", "pattern": "^.*a.{3}$"} for name in names}
        return await self._posted({"json": {"type": "object", "properties": properties}})

    async def _deep(self, chance: random.Random) -> str:
        inner: dict[str, Any] = {"const": chance.randrange(1 << 30)}
        for _ in range(chance.choice((50, 200, 900))):
            inner = {"type": "array", "items": inner}
        return await self._posted({"json": inner})

    async def _slow(self, chance: random.Random) -> str:
        body = self.body(chance.randrange(99), stream=True, n=4)
        async with self.client.stream("POST", "/chat/completions", json=body) as found:
            async for _ in found.aiter_raw(64):
                await asyncio.sleep(0.5)
                if time.monotonic() > self.until:
                    break
        return str(found.status_code)


def _is_valid(text: str, wanted: dict[str, Any]) -> bool:
    try:
        jsonschema.validate(json.loads(text), wanted)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def resident(process: int) -> float:
    """Resident memory of a process, in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1e3


async def watched(process: int, seconds: float, times: int = 10) -> list[int]:
    """Resident memory at so many moments of a run, in MB: a leak goes on growing."""
    found = []
    for _ in range(times):
        await asyncio.sleep(seconds / times)
        found.append(round(resident(process)))
    return found


@asynccontextmanager
async def server(model: str) -> AsyncIterator[tuple[str, int]]:
    """A server as a process: its address and number."""
    command = [sys.executable, "-m", "gramma", "serve", "--port", "0", "--model", model]
    process = subprocess.Popen([*command, "--name", "m"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield (await asyncio.to_thread(process.stdout.readline)).strip(), process.pid
    finally:
        process.terminate()
        process.wait(60)


async def run(
    url: str, process: int, arguments: argparse.Namespace, hostile: int
) -> dict[str, Any]:
    """One run of some clients."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        warm = Load(client, "m", arguments.schemas, 0)
        await asyncio.gather(*(warm.ask(random.Random(i)) for i in range(arguments.schemas)))
        before, began = resident(process), time.monotonic()
        load = Load(client, "m", arguments.schemas, began + arguments.seconds)
        async with asyncio.TaskGroup() as group:
            memory = group.create_task(watched(process, arguments.seconds))
            for number in range(arguments.clients):
                group.create_task(load.honest(number))
            for number in range(hostile):
                group.create_task(load.hostile(number))
        took = time.monotonic() - began
        found = load.figures
        return {
            "clients": arguments.clients,
            "hostile": hostile,
            "seconds": round(took, 1),
            "answers": len(found.seconds),
            "invalid": found.invalid,
            "lost": found.lost,
            "told to wait (429)": found.statuses[429],
            "tokens/s": round(found.tokens / took, 1),
            "p50 s": round(found.quantile(0.5), 2),
            "p99 s": round(found.quantile(0.99), 2),
            "RSS before MB": round(before),
            "RSS after MB": round(resident(process)),
            "resident MB": memory.result(),
            "of the hostile": dict(sorted(found.hostile.items())),
        }


async def measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs: without, and with those who mean no good."""
    async with server(arguments.model) as (url, process):
        rows = [await run(url, process, arguments, 0)]
        if arguments.hostile:
            rows.append(await run(url, process, arguments, arguments.hostile))
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--schemas", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--hostile", type=int, default=0, metavar="CLIENTS")
    arguments = parser.parse_args()
    rows = asyncio.run(measured(arguments))
    apart = ("resident MB", "of the hostile")
    print(table([{k: v for k, v in row.items() if k not in apart} for row in rows]))
    for row in rows:
        print(f"* resident MB, at each tenth of the run: {', '.join(map(str, row['resident MB']))}")
        for way, count in row["of the hostile"].items():
            print(f"* {way}: {count}")


if __name__ == "__main__":
    main()
