"""Many seeds of many arms, to hold the paper's claims against: the stages of dvc.yaml without DVC's cost a stage."""
