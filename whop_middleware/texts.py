"""What the pages say about each fault, in plain words. Builds no page, and names no person, code or address."""

from __future__ import annotations

from typing import Final

_ASK_OWNER = "If this page comes back, tell the owner of this site and pass on the reference below."

FAULTS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "sign_in_failed": (
        "The sign-in did not work",
        ("Something went wrong between this site and Whop, and you are not signed in.", f"Try again. {_ASK_OWNER}"),
    ),
    "state_invalid": (
        "The sign-in could not be finished",
        (
            "Your browser came back from Whop without the cookie that this site gave it at the start.",
            "Most likely cookies are blocked for this site, or the sign-in was left open for more than ten minutes. "
            "Allow cookies for this site, then try again.",
        ),
    ),
    "code_refused": (
        "Whop did not accept this sign-in",
        (
            "Whop refused the one-time code that your browser brought along. Such a code works once and for a few "
            "minutes only, so an old tab or a reloaded page is enough to spoil it.",
            "Try again. If this page comes back, the fault is in the settings of this site: tell its owner and pass on "
            "the reference below.",
        ),
    ),
    "sign_in_declined": (
        "Sign-in cancelled",
        (
            "Whop asked whether this site may know who you are, and the answer was no. You are not signed in, and "
            "nothing about you was passed on.",
            "If that was not what you wanted, try again and agree at Whop.",
        ),
    ),
    "purchase_required": (
        "This page needs a purchase",
        ("You are signed in, but this account does not own what opens this page.",),
    ),
    "credentials_refused": (
        "This site is not set up correctly",
        (
            "Whop refused the credentials of this site: they are wrong, or lack a permission. This is not your fault, "
            "and you can do nothing about it here.",
            "Tell the owner of this site and pass on the reference below. Once it is mended, try again.",
        ),
    ),
    "bad_whop_answer": (
        "Whop gave an unexpected answer",
        (
            "This site asked Whop about your account and got an answer that it cannot use. This is not your fault.",
            f"Try again in a minute. {_ASK_OWNER}",
        ),
    ),
    "whop_unreachable": (
        "Whop cannot be reached right now",
        (
            "This site asks Whop who you are and what you bought, and at the moment Whop does not answer. This is not "
            "your fault, and your purchases are safe.",
        ),
    ),
    "bad_callback": (
        "This sign-in link does not work",
        (
            "Your browser arrived here with an answer that is incomplete, damaged or not meant for this site. Links "
            "that were cut off, copied or kept for later do that. Nothing was changed: if you were signed in before, "
            "you still are.",
            f"Try again from this site. {_ASK_OWNER}",
        ),
    ),
    "state_missing": (
        "Please start the sign-in here",
        (
            "You arrived with a sign-in that was not started on this site, and this site does not accept those. It "
            "keeps others from signing you in to an account that is not yours.",
            "You have done nothing wrong: start the sign-in from here instead.",
        ),
    ),
    "issuer_mismatch": (
        "This sign-in came from somewhere else",
        (
            "The answer that your browser brought along names another sender than the Whop this site works with. It "
            "was thrown away, and nothing was changed.",
            f"Try again from this site. {_ASK_OWNER}",
        ),
    ),
    "insecure_origin": (
        "This site needs a secure address",
        (
            "Over plain http, others on the network could read your sign-in. So it was stopped before anything was "
            "sent to Whop.",
            "Open this site with https:// at the front. If you did, this is not your fault: its owner has to set "
            "WHOP_REDIRECT_URI, and finds the line to paste in the log, next to the reference below.",
        ),
    ),
    "callback_not_reached": (
        "The sign-in goes round in circles",
        (
            "This site has sent your browser to Whop again and again within a minute, and no sign-in was finished.",
            "If you went back yourself each time, wait a minute and try again. Otherwise the address that Whop sends "
            "you back to is set wrong. Only the owner of this site can mend that, and finds the likely causes in the "
            "log, next to the reference below.",
        ),
    ),
}
"""Error code to title and paragraphs: what happened, whose fault it is, what to do now."""
