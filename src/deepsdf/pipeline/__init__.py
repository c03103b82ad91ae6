"""The verbs: one module for each, called by the command line."""
