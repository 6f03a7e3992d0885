"""Public benchmarks of a model version, beside the default run: `tsr benchmark`, with lm-eval (extra `eval`)."""
