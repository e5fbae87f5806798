"""What makes vLLM know the backend ``gramma``: a general plugin, which every process of vLLM loads.

vLLM has no hook for backends of structured outputs.  Four things of it are therefore changed in place; all
do what they did where the engine's backend is another one:

* ``StructuredOutputsConfig.backend`` takes ``"gramma"`` as a further name;
* ``SamplingParams._validate_structured_outputs`` refuses what :mod:`grammars.requests` cannot read;
* ``StructuredOutputManager.grammar_init`` makes the backend;
* ``StructuredOutputManager._create_grammar`` hands it the whole of what was asked for, where vLLM hands on a
  kind and a text, without the options beside them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Literal, get_args

from constrain.engines.automata import check_request
from constrain.engines.errors import EngineMismatch, missing_engine
from grammars.errors import GrammarError
from grammars.requests import GrammarRequest

NAME: Final = "gramma"
"""The name of the backend in vLLM's configuration."""
_VALIDATE: Final = "_validate_structured_outputs"
_CREATE: Final = "_create_grammar"
_CHOSEN: Final = "_backend"
"""What is private in vLLM: two methods, and where a request keeps the backend that it is for."""


def load() -> None:
    """Makes vLLM know the backend, in the process that calls it; what vLLM's plugin group calls.

    A vLLM whose insides differ is left as it is, with a warning: it has other uses, and refuses the name
    ``gramma`` by itself.
    """
    try:
        register()
    except EngineMismatch as error:
        logging.getLogger("vllm.gramma").warning("%s", error)


def register() -> None:
    """Makes vLLM know the backend, in this process; a second time does nothing.

    ``vllm serve`` and the other commands need no call.  Who makes an ``LLM`` calls it before, since that
    reads its arguments before it loads plugins.

    Raises:
        EngineMismatch: if vLLM has not the classes and methods that are changed.
        MissingEngine: without vLLM.
    """
    config, whole, params, manager = _found()
    if NAME in _names(config):
        return
    _allow_name(config, whole)
    _wrap(params, _VALIDATE, _validate)
    _wrap(manager, "grammar_init", _make_backend)
    _wrap(manager, _CREATE, _compile)


def _found() -> tuple[Any, Any, Any, Any]:
    """The classes that are changed, looked at whether they are as expected."""
    try:
        import vllm
    except ModuleNotFoundError as error:
        raise missing_engine("vllm", error) from error
    try:
        from vllm.config import StructuredOutputsConfig as Config
        from vllm.config import VllmConfig as Whole
        from vllm.sampling_params import SamplingParams as Params
        from vllm.v1.structured_output import StructuredOutputManager as Manager

        validated = ["self", "model_config", "structured_outputs_config", "tokenizer"]
        expected = {
            "the names of backends": "xgrammar" in _names(Config),
            "how requests are validated": _takes(getattr(Params, _VALIDATE), validated),
            "how backends are made": _takes(Manager.grammar_init, ["self", "request"]),
            "how grammars are made": _takes(getattr(Manager, _CREATE), ["self", "request"]),
        }
    except (ImportError, AttributeError, KeyError) as error:
        raise _mismatch(vllm, str(error)) from error
    for what, holds in expected.items():
        if not holds:
            raise _mismatch(vllm, f"{what} is another")
    return Config, Whole, Params, Manager


def _names(config: Any) -> tuple[Any, ...]:
    """The backends that the configuration takes."""
    return get_args(config.__dataclass_fields__["backend"].type)


def _takes(function: Any, names: list[str]) -> bool:
    return list(inspect.signature(function).parameters) == names


def _mismatch(vllm: Any, what: str) -> EngineMismatch:
    version = getattr(vllm, "__version__", "of unknown version")
    return EngineMismatch(
        f"the backend {NAME!r} is not available in vLLM {version}, whose insides differ from those of 0.33 "
        f"({what}); use the logits processor, constrain.engines.vllm_processor, or vLLM 0.33"
    )


def _allow_name(config: Any, whole: Any) -> None:
    """Adds the name to those that the configuration takes, by itself and as part of vLLM's whole one."""
    from pydantic.dataclasses import rebuild_dataclass

    allowed = Literal[(*_names(config), NAME)]  # type: ignore[valid-type]
    config.__dataclass_fields__["backend"].type = allowed
    config.__annotations__["backend"] = allowed
    for checked in (config, whole):  # pydantic keeps with each class how it is checked
        rebuild_dataclass(checked, force=True)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Puts a function of ours around a method; it gets the method first."""
    original = getattr(owner, name)

    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return around(original, self, *args, **kwargs)

    setattr(owner, name, method)


def _validate(
    original: Callable[..., None],
    params: Any,
    model_config: Any,
    structured_outputs_config: Any,
    tokenizer: Any,
) -> None:
    """Refuses, where a request arrives, what the backend could not make a grammar of."""
    asked, engine = params.structured_outputs, structured_outputs_config
    if asked is None or engine is None or engine.backend != NAME:
        original(params, model_config, structured_outputs_config, tokenizer)
        return
    if model_config.is_diffusion:
        raise _refused("models that write a whole canvas at once take no structured outputs")
    if tokenizer is None:
        raise _refused("they need a tokenizer, so not with skip_tokenizer_init")
    if (chosen := getattr(asked, _CHOSEN)) not in (None, NAME):
        raise _refused(f"the engine's backend is {NAME!r}, and the request says {chosen!r}")
    try:
        check_request(GrammarRequest.of(members_of(asked)))
    except GrammarError as error:
        raise _refused(str(error)) from error
    setattr(asked, _CHOSEN, NAME)


def _make_backend(original: Callable[..., None], manager: Any, request: Any) -> None:
    """Makes the backend when the first request is for it."""
    if manager.backend is None and _is_ours(request):
        from constrain.engines.vllm_backend import GrammaBackend

        manager.backend = GrammaBackend(
            manager.vllm_config,
            tokenizer=manager.tokenizer,
            vocab_size=manager.vllm_config.model_config.get_vocab_size(),
        )
        manager.backend_name = NAME
    original(manager, request)


def _compile(original: Callable[..., Any], manager: Any, request: Any) -> Any:
    """Makes the grammar of a request of everything it asked for."""
    if not _is_ours(request):
        return original(manager, request)
    params = request.sampling_params
    return manager.backend.compile_request(
        members_of(params.structured_outputs), params.all_stop_token_ids
    )


def members_of(asked: Any) -> dict[str, Any]:
    """What vLLM's ``StructuredOutputsParams`` ask for, as :mod:`grammars.requests` reads it."""
    return {name: value for name, value in vars(asked).items() if not name.startswith("_")}


def _is_ours(request: Any) -> bool:
    if request.structured_output_request is None:
        return False
    asked = request.sampling_params.structured_outputs
    return asked is not None and getattr(asked, _CHOSEN) == NAME


def _refused(message: str) -> Exception:
    from vllm.exceptions import VLLMValidationError

    refused: Exception = VLLMValidationError(f"structured outputs: {message}")
    return refused
