"""The command as a module: ``python -m gramma``."""

from samplers.cli import main

if __name__ == "__main__":
    main()
