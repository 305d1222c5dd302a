"""A stand-in for Whop's servers to develop and test against, offline. Not imported unless asked for.

Needs the extra: `pip install "whop-middleware[sandbox]"`.
"""

try:
    from .faults import Call
    from .people import App, Membership, People, Person, Product
    from .sandbox import Sandbox
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{__name__} needs {error.name}, which is not installed: pip install 'whop-middleware[sandbox]'",
        name=error.name,
    ) from error

__all__ = ["App", "Call", "Membership", "People", "Person", "Product", "Sandbox"]
