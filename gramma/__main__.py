"""The command, and as a module: ``python -m gramma``."""

import sys

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 and SIGINT, as shells report other tools."""


def main() -> None:
    """The entry point; Ctrl-C while the packages are being imported ends it quietly, too."""
    try:
        from samplers.cli import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
