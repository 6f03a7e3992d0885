"""Early warning: does the learning signal of a run still hold, round by round and arm by arm?"""
