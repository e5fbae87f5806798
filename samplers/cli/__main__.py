"""``python -m samplers.cli``."""

from samplers.cli import main

if __name__ == "__main__":
    main()
