"""Regular expressions of Python and of ECMA-262, with look-around."""
