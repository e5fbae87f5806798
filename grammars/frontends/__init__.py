"""Front ends: each turns one notation into a :class:`grammars.ir.GrammarIR`."""
