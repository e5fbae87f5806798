"""The playground: a page on this machine to write a grammar and try it on texts."""

from samplers.play.playground import Playground
from samplers.play.server import PlayServer

__all__ = ["PlayServer", "Playground"]
