"""gramma inside serving engines: backends and processors for vLLM and SGLang.

Nothing here is imported by the rest of the package, and each module is loaded by the engine that it is for
(``docs/serving-engines.md``).
"""
