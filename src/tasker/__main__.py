"""`python -m tasker`: the same as the command `tasker`."""

from tasker.cli import main

if __name__ == "__main__":
    main()
