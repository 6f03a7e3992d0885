"""Tool doctor: what would fail, before the first hour is spent.

`facts.py` and its neighbours look things up, `checks_*.py` judge what was looked up, `run.py` lists the checks.
"""
