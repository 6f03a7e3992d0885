"""Judges' rubrics: a folder each, with what is asked (`ask.py`) and how the reply is read (`parse.sql`).

Two files, because DVC looks at files: mending a parser must judge nothing again.
"""
