"""Tables as they come, read into experiments: observations, individuals, doses, inputs."""

from odecal._reading._observations import Observations as Observations
from odecal._reading._observations import read_experiment as read_experiment
from odecal._reading._series import interval_starts as interval_starts
