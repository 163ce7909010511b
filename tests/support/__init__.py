"""Shared servers, clients, fakes and builders of the tests."""
