"""The drop-in script and the index page."""
