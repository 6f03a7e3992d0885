"""The micro judge: right letters and marks position by position, then the score after `=`. Range 0 to 5.

judge prompt   judge next kl ij tu tu ef no
judge reply    l+ j+ u+ u+ f+ o+ =5
"""
