"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 600)


class Metrics:
    """Counters of one server, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter(
            "gramma_requests", "Requests by path and status.", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            "gramma_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=own,
        )
        self.first_token_seconds = Histogram(
            "gramma_first_token_seconds",
            "Seconds from a request to its first token.",
            buckets=_SECONDS,
            registry=own,
        )
        self.prompt_tokens = Counter("gramma_prompt_tokens", "Tokens of prompts.", registry=own)
        self.generated_tokens = Counter("gramma_generated_tokens", "Tokens written.", registry=own)
        self.forwards = Counter("gramma_forwards", "Calls of the model.", registry=own)
        self.cancelled = Counter(
            "gramma_cancelled", "Requests whose client left, or that took too long.", registry=own
        )
        self.running = Gauge("gramma_running_texts", "Texts being written.", registry=own)
        self.waiting = Gauge("gramma_waiting_requests", "Requests that wait.", registry=own)
        self.grammars = Counter(
            "gramma_grammars", "Grammars asked for, found or compiled.", ["found"], registry=own
        )
        self.compile_seconds = Histogram(
            "gramma_compile_seconds",
            "Seconds to make an automaton.",
            buckets=_SECONDS,
            registry=own,
        )
        self.automata_bytes = Gauge(
            "gramma_automata_bytes", "States and masks of all automata.", registry=own
        )

    def text(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
