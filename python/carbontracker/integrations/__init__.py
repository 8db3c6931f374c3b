"""Callbacks for frameworks, one module each. A framework is imported with its module only."""
