"""Hostile and broken files, made by scripts; a command answers them or refuses them.

`models` makes model files, `inputs` recipes and data, `running` runs a command within limits and
says how it ended, `mutating` changes files at random.
"""
