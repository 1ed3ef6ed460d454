"""Hostile and broken files, made by scripts: what a command does with them is an answer or a refusal.

`models` makes model files, `inputs` recipes and data, `running` runs a command within limits and
says how it ended, `mutating` changes files at random.
"""
