"""The command line, installed as kerasbn.cli: one file per command, no logic."""
