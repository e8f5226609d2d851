"""Measuring: no part of the product imports it."""
