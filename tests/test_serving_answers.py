"""What ``gramma serve`` answers: within the grammar, complete, of the model's law, and as OpenAI has it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from serving import MESSAGES, Served, model, serving
from test_calling import HERMES
from test_extraction import CHAT

from constrain import TokenAutomaton
from constrain.huggingface.automata import vocabulary_for
from constrain.huggingface.prompts import prompt_ids
from grammars import Grammar
from samplers import GrammarConstrained, SpeculativeBackend

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
STRICT = {"name": "s", "strict": True, "schema": SCHEMA}
TAG = {
    "type": "structural_tag",
    "format": {
        "type": "tag",
        "begin": "<a>",
        "content": {"type": "regex", "pattern": "b+"},
        "end": "</a>",
    },
}
FORMS: dict[str, tuple[dict[str, Any], Grammar]] = {
    "json_schema": ({"response_format": AS_SCHEMA}, Grammar.from_json_schema(SCHEMA)),
    "strict": (
        {"response_format": {"type": "json_schema", "json_schema": STRICT}},
        Grammar.from_json_schema(SCHEMA),
    ),
    "json_object": (
        {"response_format": {"type": "json_object"}},
        Grammar.from_json_schema({"type": "object"}),
    ),
    "json": ({"structured_outputs": {"json": SCHEMA}}, Grammar.from_json_schema(SCHEMA)),
    "regex": ({"structured_outputs": {"regex": "(ab|c)+d?"}}, Grammar.from_regex("(ab|c)+d?")),
    "choice": (
        {"structured_outputs": {"choice": ["yes", "no"]}},
        Grammar.from_choices(["yes", "no"]),
    ),
    "grammar": (
        {"structured_outputs": {"grammar": 'root ::= "a" root | "b"'}},
        Grammar.from_gbnf('root ::= "a" root | "b"'),
    ),
    "structural_tag": (
        {"structured_outputs": {"structural_tag": TAG}},
        Grammar.from_structural_tag(TAG),
    ),
}  # fmt: skip
FIRST = {"name": "first", "arguments": '{"a": 1, "b": "x"}'}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "first", "parameters": SCHEMA, "strict": True}},
    {"type": "function", "function": {"name": "second", "description": "Another."}},
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as made:
        yield made


@pytest.fixture(scope="module", params=["hermes", "json"])
def with_tools(request: pytest.FixtureRequest, served: Served) -> Iterator[Served]:
    """Servers whose model writes calls in a format of its own, and in one that it is told."""
    if request.param == "hermes":
        yield served
        return
    with serving(tokenizer=CHAT) as made:
        yield made


def automaton_of(grammar: Grammar) -> TokenAutomaton:
    return TokenAutomaton(grammar, vocabulary_for(HERMES, model()))


# --- grammars and budgets -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 2.0])
def test_answers_are_of_their_grammar_and_complete(
    served: Served, kind: str, temperature: float
) -> None:
    body, grammar = FORMS[kind]
    fewest = automaton_of(grammar).min_tokens_to_accept(automaton_of(grammar).start) + 1
    for budget in (fewest, fewest + 1, fewest + 7, 60):
        told = served.told(**body, max_tokens=budget, temperature=temperature, n=2)
        for choice in told["choices"]:
            assert grammar.accepts(choice["message"]["content"])
            assert choice["finish_reason"] == "stop"
        assert told["usage"]["completion_tokens"] <= 2 * budget


@pytest.mark.parametrize("kind", FORMS)
def test_a_budget_without_any_text_is_refused(served: Served, kind: str) -> None:
    body, grammar = FORMS[kind]
    automaton = automaton_of(grammar)
    fewest = automaton.min_tokens_to_accept(automaton.start) + 1
    for name in ("max_tokens", "max_completion_tokens"):
        found = served.ask(**body, **{name: fewest - 1})
        assert found.status_code == 400
        assert found.json()["error"]["param"] == name
        assert f"at least {fewest}" in found.json()["error"]["message"]


def test_free_text_is_cut_at_the_budget(served: Served) -> None:
    told = served.told(max_tokens=7, seed=1)
    (choice,) = told["choices"]
    assert choice["finish_reason"] == "length"
    assert told["usage"]["completion_tokens"] == 7
    ids = prompt_ids(HERMES, MESSAGES)
    assert told["usage"]["prompt_tokens"] == len(ids)
    assert told["usage"]["total_tokens"] == len(ids) + 7


# --- the law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["json_schema", "regex", "choice", "grammar"])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.3, 0.8), (0.0, 1.0)])
def test_a_seed_gives_the_text_that_the_sampler_draws(
    served: Served, kind: str, temperature: float, top_p: float
) -> None:
    """The samplers' own loop is the oracle: it shares the law with the server, but not the loop."""
    body, grammar = FORMS[kind]
    drawn = {"temperature": temperature, "top_p": top_p, "seed": 5}
    sampler = GrammarConstrained(SpeculativeBackend(model(), HERMES, []), automaton_of(grammar))
    wanted = sampler.sample(prompt_ids(HERMES, MESSAGES), 3, max_new_tokens=40, **drawn)
    assert served.texts(**body, **drawn, n=3, max_tokens=40) == [one.text for one in wanted]


def law_of_texts(automaton: TokenAutomaton, temperature: float) -> dict[str, float]:
    """The probability of each text of a finite language, by enumeration."""
    prompt = prompt_ids(HERMES, MESSAGES)
    law: Counter[str] = Counter()

    def walk(tokens: list[int], state: int, mass: float) -> None:
        with torch.no_grad():
            logits = model()(torch.tensor([[*prompt, *tokens]])).logits[0, -1].double()
        allowed = automaton.allowed_tokens(state)
        p = (logits[allowed] / temperature).softmax(-1)
        for token, share in zip(allowed.tolist(), p.tolist(), strict=True):
            if token in automaton.vocabulary.eos_token_ids:
                law[automaton.vocabulary.decode(tokens).decode()] += mass * share
            else:
                walk([*tokens, token], automaton.advance(state, token), mass * share)

    walk([], automaton.start, 1.0)
    return law


def test_texts_without_a_seed_follow_the_model_within_the_grammar(served: Served) -> None:
    """Written side by side, where rows join and leave; the bound is some five standard deviations."""
    choices = ["yes", "no", "true", "maybe 12"]
    law = law_of_texts(automaton_of(Grammar.from_choices(choices)), 1.5)
    assert math.isclose(sum(law.values()), 1.0)
    body = {"structured_outputs": {"choice": choices}, "temperature": 1.5, "max_tokens": 20, "n": 8}
    with ThreadPoolExecutor(4) as pool:
        drawn = [t for texts in pool.map(lambda _: served.texts(**body), range(100)) for t in texts]
    counts = Counter(drawn)
    distance = sum(abs(counts[text] / len(drawn) - law[text]) for text in choices) / 2
    assert distance < 0.08
    uniform = sum(abs(1 / len(choices) - law[text]) for text in choices) / 2
    assert uniform > 0.1, "the test could not tell"


def test_a_seed_reproduces_whatever_else_is_written(served: Served) -> None:
    body = {**FORMS["json_object"][0], "seed": 9, "max_tokens": 120, "n": 2}
    alone = served.texts(**body)
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(served.texts, max_tokens=60) for _ in range(6)]
        crowded = pool.submit(served.texts, **body).result()
        for one in others:
            one.result()
    assert crowded == alone
    assert served.texts(**body | {"seed": 10}) != alone


# --- pieces, scores, stops ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*FORMS, "free"])
def test_pieces_are_the_whole(served: Served, kind: str) -> None:
    body = {**(FORMS[kind][0] if kind != "free" else {}), "seed": 3, "max_tokens": 40, "n": 2}
    whole = served.told(**body)
    events = served.events(**body, stream_options={"include_usage": True})
    *chunks, last = events
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    for number, choice in enumerate(whole["choices"]):
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == number]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        text = "".join(one["delta"].get("content") or "" for one in mine)
        assert text == choice["message"]["content"]
        reasons = [one["finish_reason"] for one in mine]
        assert reasons == [None] * (len(mine) - 1) + [choice["finish_reason"]]
    assert "usage" not in served.events(**body)[-1]


def test_scores_are_of_the_law(served: Served) -> None:
    body = {**FORMS["json_schema"][0], "seed": 4, "temperature": 0.5, "max_tokens": 40}
    (choice,) = served.told(**body, logprobs=True, top_logprobs=3)["choices"]
    automaton = automaton_of(FORMS["json_schema"][1])
    scores = choice["logprobs"]["content"]
    assert b"".join(bytes(one["bytes"]) for one in scores).decode() == choice["message"]["content"]
    tokens, state, prompt = [], automaton.start, prompt_ids(HERMES, MESSAGES)
    for score in scores:
        left = 40 - len(tokens)
        allowed = automaton.allowed_tokens(state, left)
        with torch.no_grad():
            logits = model()(torch.tensor([[*prompt, *tokens]])).logits[0, -1].double()
        law = dict(zip(allowed.tolist(), logits[allowed].log_softmax(-1).tolist(), strict=True))
        token = next(
            t for t in law if list(automaton.vocabulary.token_bytes(t) or b"") == score["bytes"]
        )
        assert math.isclose(score["logprob"], law[token], abs_tol=1e-4)
        best = sorted(law.values(), reverse=True)[:3]
        told = [one["logprob"] for one in score["top_logprobs"]]
        assert told == pytest.approx(best, abs=1e-4)
        tokens.append(token)
        state = automaton.advance(state, token)
    assert automaton.is_accepting(state)
    streamed = served.events(**body, logprobs=True, top_logprobs=3)
    pieces = [c["logprobs"]["content"] for e in streamed for c in e["choices"] if c["logprobs"]]
    assert [one for piece in pieces for one in piece] == scores


def test_scores_without_likeliest_tokens(served: Served) -> None:
    body = {"structured_outputs": {"regex": "[a-z]{5}"}, "max_tokens": 5}
    (choice,) = served.told(**body, logprobs=True)["choices"]
    scores = choice["logprobs"]["content"]
    assert "".join(one["token"] for one in scores) == choice["message"]["content"]
    assert all(one["top_logprobs"] == [] for one in scores)
    assert served.told(max_tokens=5)["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_stop_texts_end_an_answer_and_are_not_told(served: Served, stream: bool) -> None:
    body = {"structured_outputs": {"regex": "(ab|c){30,40}"}, "max_tokens": 90}
    for seed in range(6):
        whole = served.texts(**body, seed=seed)[0]
        stops = ["cc", "aba"]
        cut = min(at for at in (whole.find("cc"), whole.find("aba"), len(whole)) if at >= 0)
        if stream:
            events = served.events(**body, seed=seed, stop=stops)
            parts = [e["choices"][0]["delta"].get("content", "") for e in events]
            assert "".join(parts) == whole[:cut]
        else:
            (choice,) = served.told(**body, seed=seed, stop=stops)["choices"]
            assert choice["message"]["content"] == whole[:cut]
            assert choice["finish_reason"] == "stop"


# --- tools ----------------------------------------------------------------------------------------


def checked(call: dict[str, Any]) -> str:
    assert call["type"] == "function"
    name: str = call["function"]["name"]
    arguments = json.loads(call["function"]["arguments"])
    if name == "first":
        assert Grammar.from_json_schema(SCHEMA).accepts(json.dumps(arguments))
    else:
        assert arguments == {}
    return name


@pytest.mark.parametrize("seed", range(3))
def test_calls_are_valid(with_tools: Served, seed: int) -> None:
    body = {"tools": TOOLS, "seed": seed, "max_tokens": 200}
    (choice,) = with_tools.told(**body, tool_choice="required")["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert {checked(call) for call in calls} <= {"first", "second"}
    assert len({call["id"] for call in calls}) == len(calls)
    named = {"type": "function", "function": {"name": "first"}}
    (choice,) = with_tools.told(**body, tool_choice=named)["choices"]
    assert [checked(call) for call in choice["message"]["tool_calls"]] == ["first"]
    (choice,) = with_tools.told(**body, tool_choice="required", parallel_tool_calls=False)[
        "choices"
    ]
    assert len(choice["message"]["tool_calls"]) == 1
    (choice,) = with_tools.told(**body, tool_choice="none")["choices"]
    assert "tool_calls" not in choice["message"]
    assert "<tool_call>" not in choice["message"]["content"]


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_calls_in_pieces(with_tools: Served, choice: str) -> None:
    for seed in range(3):
        body = {"tools": TOOLS, "tool_choice": choice, "seed": seed, "max_tokens": 120}
        (whole,) = with_tools.told(**body)["choices"]
        deltas = [e["choices"][0]["delta"] for e in with_tools.events(**body)]
        text = "".join(delta.get("content") or "" for delta in deltas)
        assert text == (whole["message"]["content"] or "")
        calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
        assert [call["index"] for call in calls] == list(range(len(calls)))
        assert [call["function"] for call in calls] == [
            call["function"] for call in whole["message"].get("tool_calls", ())
        ]


def test_words_beside_tools_may_have_a_form(with_tools: Served) -> None:
    """Calls, or JSON of the schema: a random model does both at times."""
    found = set()
    for seed in range(12):
        body = {"tools": TOOLS, "response_format": AS_SCHEMA, "seed": seed, "max_tokens": 120}
        (choice,) = with_tools.told(**body)["choices"]
        deltas = [e["choices"][0]["delta"] for e in with_tools.events(**body)]
        text = "".join(delta.get("content") or "" for delta in deltas)
        found.add(choice["finish_reason"])
        if choice["finish_reason"] == "tool_calls":
            assert all(checked(call) for call in choice["message"]["tool_calls"])
            assert text == ""
        else:
            assert Grammar.from_json_schema(SCHEMA).accepts(choice["message"]["content"])
            assert text == choice["message"]["content"]
    assert found == {"stop", "tool_calls"}


def test_a_talk_with_calls_goes_on(with_tools: Served) -> None:
    talk = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "it."}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": FIRST}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]  # fmt: skip
    assert with_tools.told(messages=talk, tools=TOOLS, max_tokens=10)["choices"]


# --- responses ------------------------------------------------------------------------------------


def test_a_response(served: Served) -> None:
    told = served.told(
        path="/v1/responses", max_output_tokens=9, instructions="Be brief.", temperature=0
    )
    assert told["status"] == "incomplete"
    assert told["incomplete_details"] == {"reason": "max_output_tokens"}
    assert told["usage"]["output_tokens"] == 9
    flat = {"type": "json_schema", "name": "s", "schema": SCHEMA, "strict": True}
    told = served.told(path="/v1/responses", max_output_tokens=60, text={"format": flat})
    assert told["status"] == "completed"
    (message,) = told["output"]
    assert Grammar.from_json_schema(SCHEMA).accepts(message["content"][0]["text"])


def test_a_response_with_calls(with_tools: Served) -> None:
    tools = [{"type": "function", "name": "first", "parameters": SCHEMA, "strict": True}]
    body = {"tools": tools, "tool_choice": "required", "max_output_tokens": 200}
    told = with_tools.told(path="/v1/responses", **body)
    assert told["output"]
    for item in told["output"]:
        assert item["type"] == "function_call"
        assert Grammar.from_json_schema(SCHEMA).accepts(json.dumps(json.loads(item["arguments"])))
    talk = [
        {"role": "user", "content": "Go on."},
        *({k: v for k, v in item.items() if k != "status"} for item in told["output"]),
        *(
            {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}
            for item in told["output"]
        ),
    ]
    told = with_tools.told(path="/v1/responses", input=talk, max_output_tokens=10, temperature=0)
    assert told["output"][0]["type"] == "message"


@pytest.mark.parametrize("calls", [False, True], ids=["words", "calls"])
def test_a_response_in_events(served: Served, calls: bool) -> None:
    body: dict[str, Any] = {"max_output_tokens": 80, "temperature": 0}
    if calls:
        tools = [{"type": "function", "name": "first", "parameters": SCHEMA}]
        body |= {"tools": tools, "tool_choice": {"type": "function", "name": "first"}}
    whole = served.told(path="/v1/responses", **body)
    events = served.events("/v1/responses", **body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{whole['status']}"
    assert last["usage"] == whole["usage"]
    kind = "function_call_arguments" if calls else "output_text"
    text = "".join(e["delta"] for e in events if e["type"] == f"response.{kind}.delta")
    (done,) = (e for e in events if e["type"] == f"response.{kind}.done")
    if calls:
        assert text == done["arguments"] == whole["output"][0]["arguments"]
    else:
        assert text == done["text"] == whole["output"][0]["content"][0]["text"]
    added = [e["item"]["id"] for e in events if e["type"] == "response.output_item.added"]
    assert added == [item["id"] for item in last["output"]]
