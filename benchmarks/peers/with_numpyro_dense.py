"""NumPyro's NUTS with a dense metric, from the median of the prior."""

from numpyro.infer import init_to_median

from peers.contract import Task, contend
from peers.with_numpyro import run


def run_dense(task: Task) -> None:
    """Sample and save."""
    run(task, dense_mass=True, init_strategy=init_to_median)


if __name__ == "__main__":
    contend(run_dense)
