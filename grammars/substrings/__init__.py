"""Spans of a text: what begins and ends somewhere in it, as automata that are linear in the text.

==============  ===============================================================================
``units``       where spans may begin and end, and what is folded: texts to sequences of symbols
``kernels``     the suffix automaton of such a sequence, and its spelling in bytes
``automaton``   both together: the automaton of a :class:`grammars.ir.Substrings`
==============  ===============================================================================

Nothing here imports the intermediate form, which imports this.
"""
