"""`python -m mambascope`."""

from mambascope.cli import main

if __name__ == "__main__":
    main()
