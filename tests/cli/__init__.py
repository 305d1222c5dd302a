"""The command line, run in this process and as people start it. Calls no real Whop."""
