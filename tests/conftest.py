"""Settings of every test: two CPU devices, so that chains are spread as on a user's machine."""

import jax

jax.config.update("jax_num_cpu_devices", 2)
