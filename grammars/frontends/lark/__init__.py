"""Lark grammars: parsing, imports, what terminals match, which are tried where."""
