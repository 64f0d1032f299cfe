"""The tutorial's page."""

from flask import Flask

app = Flask(__name__)


@app.route("/")
def page() -> str:
    return "Esta é minha primeira Image Docker!!"
