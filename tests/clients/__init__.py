"""Browsers, JavaScript, the mini program and the example applications."""
