"""A sailors' club on Starlette, closed to strangers by one line. Knows nothing of OAuth, cookies or tokens."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.templating import Jinja2Templates
from starlette.websockets import WebSocket

from whop_middleware import WhopConfig, WhopMiddleware, current_user

templates = Jinja2Templates(directory=Path(__file__).parent / "templates")


def page(request: Request, name: str) -> Response:
    return templates.TemplateResponse(request, name, {"user": current_user(request)})


async def landing(request: Request) -> Response:
    return page(request, "landing.html")


async def members(request: Request) -> Response:
    return page(request, "members.html")


async def vip(request: Request) -> Response:
    return page(request, "vip.html")


async def me(request: Request) -> JSONResponse:
    user = request.scope["whop_user"]
    return JSONResponse({"id": user.id, "username": user.username, "name": user.name, "access": user.access})


async def radio(websocket: WebSocket) -> None:
    user = websocket.scope["whop_user"]
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{user.display_name}: {text}")


app = Starlette(
    routes=[
        Route("/", landing),
        Route("/members", members),
        Route("/vip", vip),
        Route("/api/me", me),
        WebSocketRoute("/radio", radio),
    ]
)

# The one line that adds Whop: "/" stays open to all, everything else is for people who signed in.
app.add_middleware(WhopMiddleware, config=WhopConfig.from_env(public=("/",), home="/members"))
