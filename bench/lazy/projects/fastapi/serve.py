"""Serves two requests by uvicorn, and shows the answers."""
import socket
import threading

import fastapi
import httpx
import pydantic
import uvicorn


class Item(pydantic.BaseModel):
    name: str
    price: float = 1.0


app = fastapi.FastAPI()


@app.get("/items/{number}")
def read(number: int):
    return {"number": number}


@app.post("/items")
def create(item: Item) -> Item:
    return item


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
thread.start()
with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False) as client:
    for answer in (client.get("/items/7"), client.post("/items", json={"name": "pear"})):
        print(answer.status_code, answer.text)
server.should_exit = True
thread.join()
