"""Codes drawn ahead of time.

filling.py    draws them: from a number to a picture
"""
