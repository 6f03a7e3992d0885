"""What a run will take before it starts: tokens, hours, memory and disk, and what of it is there already.

`work` counts what the plan's stages do, `speed` says how long that takes, `memory` and `disk` how much room it needs,
`done` what need not be done again; `forecast` puts them together and `told` prints it.
"""
