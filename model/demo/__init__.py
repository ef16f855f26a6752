"""The demo CLIP and its world: weights that ship with the project, and the code that draws, trains and measures them.

The product reads only the data files of this folder; nothing of the method imports the code.
"""
