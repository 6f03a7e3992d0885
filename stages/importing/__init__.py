"""Other people's generations and judgments, made into the project's tables by a mapping."""
