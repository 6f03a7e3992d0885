"""Tables in the forms that others read: a Hugging Face dataset folder, AlpacaEval's model outputs."""
