"""A stand-in for Whop's servers to develop and test against, offline. Not imported unless asked for.

Needs the extra: `pip install "whop-middleware[sandbox]"`.
"""

from .faults import Call
from .people import App, Membership, People, Person, Product
from .sandbox import Sandbox

__all__ = ["App", "Call", "Membership", "People", "Person", "Product", "Sandbox"]
