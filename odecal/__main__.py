"""`python -m odecal` is the command line."""

import gc
import io
import os
import sys

# The working folder, which Python looks at first here: what lies there is not to hide a module.
if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from odecal._cli.signals import Stop

# To look for what nobody refers to takes a tenth of the time of tracing, and finds nothing.
_SELDOM = 100_000, 20, 50


def main() -> None:
    """Run the command line, and end at once where it fails, though programs may be compiling."""
    gc.set_threshold(*_SELDOM)
    if isinstance(sys.stdout, io.TextIOWrapper):  # which may know ASCII alone
        sys.stdout.reconfigure(errors="backslashreplace")
    with Stop() as stop:
        from odecal._cli import app

        try:
            app.main(stop)
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            if end.code:
                os._exit(end.code if isinstance(end.code, int) else 1)
            raise


if __name__ == "__main__":
    main()
