"""From rules to a program: automata over bytes, unordered groups, left quotients."""
