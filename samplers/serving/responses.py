"""Responses (OpenAI's newer API), whole and as events."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from constrain.vocabulary import Vocabulary
from samplers.serving.answers import Answer, CallOfTool
from samplers.serving.bodies import ResponsesBody
from samplers.serving.chat import token_score
from samplers.serving.service import Job
from samplers.serving.texts import Piece, TokenScore

Json = dict[str, Any]


class Response:
    """The answer to one request.

    Args:
        job: whose events it reads.
        body: the request, of which the answer repeats much.
        vocabulary: of the model.
    """

    def __init__(self, job: Job, body: ResponsesBody, vocabulary: Vocabulary) -> None:
        self._job = job
        self._body = body
        self._vocabulary = vocabulary
        self._answer = Answer(job.tools, vocabulary)
        self._id = f"resp_{uuid.uuid4().hex}"
        self._message_id = f"msg_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._number = 0
        self._items: list[Json] = []

    async def whole(self) -> Json:
        """The answer when it is complete."""
        async for event in self._job.events():
            if isinstance(event, Piece):
                self._answer.add(event)
            else:
                self._answer.end(event)
        if self._answer.content or not self._answer.calls:
            self._items.append(self._message("completed"))
        self._items += [_call_item(call, "completed") for call in self._answer.calls]
        return self._told(self._status)

    async def pieces(self) -> AsyncIterator[Json]:
        """The answer as events."""
        yield self._event("response.created", response=self._told("in_progress"))
        yield self._event("response.in_progress", response=self._told("in_progress"))
        begun = False
        async for event in self._job.events():
            answer = self._answer
            scores = event.scores if isinstance(event, Piece) else ()
            new = answer.add(event) if isinstance(event, Piece) else answer.end(event)
            if not begun and (new or (answer.finish and not answer.calls)):
                begun = True
                for told in self._opening():
                    yield told
            if new or (scores and begun):
                yield self._delta(new, scores)
        if begun:
            for told in self._closing():
                yield told
        for call in self._answer.calls:
            for told in self._called(call):
                yield told
        yield self._event(f"response.{self._status}", response=self._told(self._status))

    # -- events --------------------------------------------------------------------------------

    def _event(self, kind: str, **members: Any) -> Json:
        number, self._number = self._number, self._number + 1
        return {"type": kind, "sequence_number": number, **members}

    def _place(self) -> Json:
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def _opening(self) -> list[Json]:
        item = {**self._message("in_progress"), "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place(), part=part),
        ]

    def _delta(self, new: str, scores: Any) -> Json:
        told = [_without_bytes(token_score(one, self._vocabulary)) for one in scores]
        return self._event("response.output_text.delta", **self._place(), delta=new, logprobs=told)

    def _closing(self) -> list[Json]:
        message = self._message("completed")
        part = message["content"][0]
        self._items.append(message)
        text = {"text": part["text"], "logprobs": []}
        return [
            self._event("response.output_text.done", **self._place(), **text),
            self._event("response.content_part.done", **self._place(), part=part),
            self._event("response.output_item.done", output_index=0, item=message),
        ]

    def _called(self, call: CallOfTool) -> list[Json]:
        index = len(self._items)
        begun, item = _call_item(call, "in_progress"), _call_item(call, "completed")
        self._items.append(item)
        place = {"item_id": item["id"], "output_index": index}
        done = {"arguments": call.arguments, "name": call.name}
        return [
            self._event(
                "response.output_item.added", output_index=index, item=begun | {"arguments": ""}
            ),
            self._event("response.function_call_arguments.delta", **place, delta=call.arguments),
            self._event("response.function_call_arguments.done", **place, **done),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    # -- objects -------------------------------------------------------------------------------

    @property
    def _status(self) -> str:
        return "incomplete" if self._answer.finish == "length" else "completed"

    def _message(self, status: str) -> Json:
        if status == "completed":
            status = self._status
        scores: list[TokenScore] = self._answer.scores
        part = {
            "type": "output_text",
            "text": self._answer.content,
            "annotations": [],
            "logprobs": [token_score(one, self._vocabulary) for one in scores],
        }
        return {
            "id": self._message_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [part],
        }

    def _told(self, status: str) -> Json:
        body = self._body
        is_over = status != "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "model": body.model,
            "output": list(self._items),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": self._job.asked.temperature,
            "text": body.text or {"format": {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_logprobs": body.top_logprobs or 0,
            "top_p": self._job.asked.top_p,
            "truncation": "disabled",
            "usage": self._usage() if is_over else None,
        }

    def _usage(self) -> Json:
        prompt, written = self._job.prompt_tokens, self._job.completion_tokens
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + written,
        }


def _call_item(call: CallOfTool, status: str) -> Json:
    return {
        "id": f"fc_{call.id.removeprefix('call_')}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": status,
    }


def _without_bytes(score: Json) -> Json:
    """Scores as the events of a stream have them."""
    top = [{key: one[key] for key in ("token", "logprob")} for one in score["top_logprobs"]]
    return {"token": score["token"], "logprob": score["logprob"], "top_logprobs": top}
