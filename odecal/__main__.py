"""`python -m odecal` is the command line."""

from odecal._cli import main

if __name__ == "__main__":
    main()
