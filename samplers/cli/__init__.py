"""The command ``gramma``: write and debug grammars, have a model follow them.

Exit status: 0 what was asked holds, 1 it does not, 2 it could not be found out (a file that cannot
be read, a grammar that does not compile, a model that cannot be had), 141 nobody read the answer.
"""

from samplers.cli import debugging, models, play, serve, tables, workbench
from samplers.cli.app import app, main

__all__ = ["app", "debugging", "main", "models", "play", "serve", "tables", "workbench"]
