"""`python -m odecal` is the command line."""

import sys

# The working folder, which Python looks at first here: what lies there is not to hide a module.
if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from odecal._cli import main

if __name__ == "__main__":
    main()
