"""Settings of the whole test run."""

import torch
from hypothesis import settings

# Torch's first call alone exceeds hypothesis' deadline; derandomised runs can be repeated.
settings.register_profile("unimoe", deadline=None, derandomize=True)
settings.load_profile("unimoe")
# Two xdist workers share two cores.
torch.set_num_threads(1)
