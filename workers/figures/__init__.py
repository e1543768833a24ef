"""Figures of a stored result document as PNG: no model, no tensor, no GPU.

`plan` says which figures a text has, `drawing` lays out the page of each, and `studio` has them
drawn by processes of their own, so that whoever asks for them never loads matplotlib.
"""
