"""The model versions of a run against each other: games on the held-out prompts, judged by one judge, and a ranking.

No stage of the default run: `tsr tournament` plays it on the responses that stage evaluate has left.
"""
