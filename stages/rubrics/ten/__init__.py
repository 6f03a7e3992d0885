"""The 1-to-10 judge, for chat models: one grade for the response as a whole. Range 1 to 10.

judge reply    Right and clear, but the second question is left open.
               Score: 6
"""
