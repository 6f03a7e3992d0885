"""Arena-Hard and MT-Bench: a model version answers published questions, and a judge grades the answers.

Questions, baseline answers, references and, where wanted, the published judge prompts come from the user's files: none
of their text is part of this project. With the prompts here, figures compare among models of this project only.
"""
