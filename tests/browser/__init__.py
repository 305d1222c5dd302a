"""Journeys in a real browser, through real servers, as a buyer takes them. Nothing leaves this machine."""
