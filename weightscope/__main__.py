"""`python -m weightscope`."""

from weightscope.cli import main

if __name__ == "__main__":
    main()
