"""Grammars compiled by processes of their own, which can be ended when they take too long."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any, Final

from grammars.grammar import Grammar
from samplers.serving.constraints import Constraint
from samplers.serving.errors import RequestRefused
from samplers.serving.options import QUICK_SHARE, ServingOptions

_LONGEST_LINE: Final = 1 << 20


class _TookTooLong(Exception):  # noqa: N818 - seen in this module alone
    """The process did not answer in time, or its work was spent."""


class CompilerProcess:
    """One process, one grammar at a time.

    Args:
        work, seconds: what a grammar may take.
        memory: bytes of addresses of the process.
    """

    def __init__(self, work: int, seconds: float, memory: int) -> None:
        self._work = work
        self._seconds = seconds
        self._memory = memory
        self._process: asyncio.subprocess.Process | None = None
        self._folder = TemporaryDirectory(
            prefix="gramma-"
        )  # Lark's imports look in the current one
        self._busy = asyncio.Lock()

    async def compile(self, constraint: Constraint) -> bytes:
        """The compiled grammar, as :meth:`Grammar.of_compiled` reads it.

        Raises:
            RequestRefused: if there is none.
            _TookTooLong: if it takes more than is allowed.
        """
        async with self._busy:
            process = await self._running()
            try:
                async with asyncio.timeout(self._seconds):
                    told, data = await self._asked(process, constraint)
            except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError):
                await self.close()  # too slow, or it ran out of memory and died
                raise _TookTooLong(f"more than {self._seconds:g} seconds") from None
            except asyncio.CancelledError:
                await self.close()
                raise
        if "error" not in told:
            return data
        if told["limit"] == "max_work":
            raise _TookTooLong(told["error"])
        raise _refused(constraint, told["error"])

    async def _asked(
        self, process: asyncio.subprocess.Process, constraint: Constraint
    ) -> tuple[dict[str, Any], bytes]:
        assert process.stdin is not None
        assert process.stdout is not None
        asked = {"text": constraint.text, "max_work": self._work}
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        await process.stdin.drain()
        told = json.loads(await process.stdout.readuntil(b"\n"))
        return told, await process.stdout.readexactly(told.get("bytes", 0))

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "samplers.serving.compiler_process", str(self._memory)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": path},
                cwd=self._folder.name,
                limit=_LONGEST_LINE,
                start_new_session=True,  # Ctrl-C is for the server, which ends it
            )
            await self._warm(self._process)
        return self._process

    async def _warm(self, process: asyncio.subprocess.Process) -> None:
        """Waits until kernels are loaded, which is not the first grammar's fault."""
        schema = {"structured_outputs": {"json_object": True}}
        await self._asked(process, Constraint(json.dumps(schema), ""))

    async def start(self) -> None:
        """Starts it before it is needed."""
        async with self._busy:
            await self._running()

    async def close(self) -> None:
        """Ends it; the next grammar starts another one."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Compilers:
    """A process for grammars that take little, and one for those that turn out to take more.

    So a simple grammar waits for others at most a tenth of the time that a hard one may take.
    """

    def __init__(self, options: ServingOptions) -> None:
        most, memory = options.max_compile_seconds, options.max_compile_bytes
        work = options.max_compile_work
        self._lanes = (
            CompilerProcess(work // QUICK_SHARE, most / QUICK_SHARE, memory),
            CompilerProcess(work, most, memory),
        )

    async def compile(self, constraint: Constraint) -> Grammar:
        """The grammar of a constraint.

        Raises:
            RequestRefused: if it is none, or takes more than is allowed.
        """
        reason = ""
        for lane in self._lanes:
            try:
                data = await lane.compile(constraint)
            except _TookTooLong as error:
                reason = str(error)
                continue
            return await asyncio.to_thread(Grammar.of_compiled, data)
        raise _refused(constraint, f"compiling it takes too much: {reason}")

    async def start(self) -> None:
        """Starts both."""
        await asyncio.gather(*(lane.start() for lane in self._lanes))

    async def close(self) -> None:
        """Ends both."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))


def _refused(constraint: Constraint, message: str) -> RequestRefused:
    return RequestRefused(
        f"{constraint.param}: {message}", param=constraint.param, code="invalid_grammar"
    )
