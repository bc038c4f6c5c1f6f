"""`python -m netgain.verify`, the `netgain` command where scripts are not on the path."""

from .cli import main

main()
