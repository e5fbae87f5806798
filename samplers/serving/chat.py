"""Chat completions, whole and in pieces."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from constrain.vocabulary import Vocabulary
from samplers.serving.answers import Answer, CallOfTool
from samplers.serving.service import Job
from samplers.serving.texts import Piece, TokenScore

Json = dict[str, Any]


def token_score(score: TokenScore, vocabulary: Vocabulary) -> Json:
    """A token's scores, as OpenAI tells them."""

    def told(token: int, logprob: float) -> Json:
        data = vocabulary.token_bytes(token) if token < vocabulary.size else None
        if data is None:
            return {"token": vocabulary.name_of(token), "logprob": logprob, "bytes": None}
        text = data.decode("utf-8", "replace")
        return {"token": text, "logprob": logprob, "bytes": list(data)}

    return told(score.token, score.logprob) | {
        "top_logprobs": [told(token, logprob) for token, logprob in score.top]
    }


class ChatCompletion:
    """The answer to one request.

    Args:
        job: whose events it reads.
        model: the model's name.
        vocabulary: of the model.
    """

    def __init__(self, job: Job, model: str, vocabulary: Vocabulary) -> None:
        self._job = job
        self._vocabulary = vocabulary
        self._answers = [Answer(job.tools, vocabulary) for _ in range(job.asked.n)]
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    async def whole(self) -> Json:
        """The answer when it is complete."""
        async for event in self._job.events():
            answer = self._answers[event.number]
            if isinstance(event, Piece):
                answer.add(event)
            else:
                answer.end(event)
        choices = [self._choice(i, answer) for i, answer in enumerate(self._answers)]
        return self._head | {
            "object": "chat.completion",
            "choices": choices,
            "usage": self._usage(),
        }

    async def pieces(self) -> AsyncIterator[Json]:
        """The answer as chunks."""
        for number in range(len(self._answers)):
            yield self._chunk(number, {"role": "assistant", "content": ""})
        async for event in self._job.events():
            number, answer = event.number, self._answers[event.number]
            if isinstance(event, Piece):
                new = answer.add(event)
                if new or event.scores:
                    yield self._chunk(number, {"content": new}, scores=event.scores)
                continue
            if new := answer.end(event):
                yield self._chunk(number, {"content": new})
            for index, call in enumerate(answer.calls):
                yield self._chunk(number, {"tool_calls": [{"index": index, **_call(call)}]})
            yield self._chunk(number, {}, finish=answer.finish)
        if self._job.asked.include_usage:
            head = self._head | {"object": "chat.completion.chunk", "choices": []}
            yield head | {"usage": self._usage()}

    def _choice(self, number: int, answer: Answer) -> Json:
        message: Json = {"role": "assistant", "content": answer.content, "refusal": None}
        if answer.calls:
            message["content"] = answer.content or None
            message["tool_calls"] = [_call(call) for call in answer.calls]
        return {
            "index": number,
            "message": message,
            "logprobs": self._logprobs(answer.scores),
            "finish_reason": answer.finish,
        }

    def _chunk(
        self,
        number: int,
        delta: Json,
        *,
        finish: str | None = None,
        scores: Sequence[TokenScore] = (),
    ) -> Json:
        choice = {"index": number, "delta": delta, "finish_reason": finish}
        choice["logprobs"] = self._logprobs(scores) if scores else None
        made = self._head | {"object": "chat.completion.chunk", "choices": [choice]}
        return made | {"usage": None} if self._job.asked.include_usage else made

    def _logprobs(self, scores: Sequence[TokenScore]) -> Json | None:
        if self._job.asked.top is None:
            return None
        return {"content": [token_score(one, self._vocabulary) for one in scores], "refusal": None}

    def _usage(self) -> Json:
        prompt, written = self._job.prompt_tokens, self._job.completion_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
        }


def _call(call: CallOfTool) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
