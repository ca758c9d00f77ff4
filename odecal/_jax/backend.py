"""Where a program runs: the kind of device, and which devices there are."""

import jax


def on_cpu() -> bool:
    """Whether programs run on a CPU, where members of a batch run one after another."""
    return jax.default_backend() == "cpu"


def usable_devices(wanted: int) -> list[jax.Device]:
    """The devices to use for so many independent pieces of work."""
    return jax.devices()[:wanted]
