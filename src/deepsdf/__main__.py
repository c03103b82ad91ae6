"""`python -m deepsdf`, and `torchrun -m deepsdf train`."""

from deepsdf.cli import main

main(prog_name="deepsdf")
