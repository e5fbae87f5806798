"""An OpenAI-compatible server around one model: every answer within its grammar, and complete.

``options`` has the limits, ``bodies`` and ``messages`` read requests, ``constraints``, ``compiling`` and
``automata`` make automata of them, ``engine`` writes all texts in one thread, ``chat`` and
``responses`` tell the answers, ``application`` puts it together.  It needs the extra ``serve``.
"""
