"""`python -m stages` is `tsr` with the code of the current folder.

dvc.yaml uses this form, so that the code that runs is the code whose hash stands in dvc.lock, also in the
temporary checkouts of `dvc exp run --temp`.
"""

from stages.cli import main

main()
