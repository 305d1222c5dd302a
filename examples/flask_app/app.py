"""A bread-baking course on Flask, closed to strangers by one line. Knows nothing of OAuth, cookies or tokens."""

from typing import Any

from flask import Flask, render_template, request

from whop_middleware import WhopWSGIMiddleware, current_user

app = Flask(__name__)


@app.context_processor
def visitor() -> dict[str, Any]:
    return {"user": current_user(request)}


@app.get("/")
def landing() -> str:
    return render_template("landing.html")


@app.get("/members")
def members() -> str:
    return render_template("members.html")


@app.get("/vip")
def vip() -> str:
    return render_template("vip.html")


@app.get("/api/me")
def me() -> dict[str, Any]:
    user = request.environ["whop_user"]
    return {"id": user.id, "username": user.username, "name": user.name, "access": user.access}


# The one line that adds Whop: "/" stays open to all, everything else is for people who signed in.
app.wsgi_app = WhopWSGIMiddleware(app.wsgi_app, public=("/",), home="/members")
