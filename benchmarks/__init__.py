"""The studies. Each is a program: `python -m benchmarks.decathlon`."""

from kls.utils.start import start_as_command

start_as_command()
