"""Two responses in one question, for chat judges: which is the better one? No scores, so nothing pairs or trains on it.

judge reply    The first answers what was asked, the second something else.
               Verdict: A
"""
