"""`tsr run`: the stages of dvc.yaml, those that are ready side by side."""
