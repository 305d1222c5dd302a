"""Whop in trouble: everything that can go wrong between an app and Whop. Nothing leaves this machine."""
