"""The pair browser: what `reports/explore.py` shows, and how `tsr explore` starts it."""
