"""Views of results for people. Only this package formats."""
