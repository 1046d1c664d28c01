"""`python -m trainshed` is the command line."""

from trainshed.cli import main

if __name__ == "__main__":
    main()
