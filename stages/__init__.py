"""Temporal Self-Rewarding as a data-centric pipeline: the DVC stages and their tools."""
