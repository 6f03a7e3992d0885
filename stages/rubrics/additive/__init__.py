"""The additive judge of Self-Rewarding (arXiv 2401.10020), for chat models: five steps, a point each. Range 0 to 5.

judge reply    It is on the topic and complete, but reads like a search result.
               Score: 3
"""
